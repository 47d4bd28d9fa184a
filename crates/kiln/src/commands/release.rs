//! `kiln release`.

use std::fmt::Write as _;

use kiln_cache::reach::Network;
use kiln_publish::{Access, ForgeKind, Limits, LocalFile, Outcome, Server, Step, Token, preview, publish};
use kiln_solver::Cancel;

use crate::environment::Environment;
use crate::error::{CliError, Result, exit};
use crate::job::counted;
use crate::project::{self, Project};
use crate::release::{self, Progress, Release, short};
use crate::report::size;
use crate::ui::Ui;
use crate::{cli, network, session};

pub(crate) async fn run(ui: Ui, environment: &Environment, args: &cli::Release) -> Result<()> {
    let of_project = cli::Project {
        path: args.path.clone(),
        config: args.config.clone(),
        set: args.set.clone(),
        ..cli::Project::default()
    };
    let project = project::load(environment, &of_project, release::flags(args))?;
    ui.warnings(&project.warnings);
    let release = release::prepare(ui, environment, &project, args)?;
    if args.dry_run {
        let server = server(ui, environment, &project, &release, Token::default())?;
        ui.print(&dry_run(&release, &preview(&server, &release.wanted)));
        return Ok(());
    }
    let variable = |name: &str| environment.get(name).map(str::to_owned);
    let token = Token::find(&release.place, &variable)?;
    let server = server(ui, environment, &project, &release, token)?;
    let wanted = &release.wanted;
    let bytes: u64 = wanted.files.iter().map(|file| file.size).sum();
    let files = counted(wanted.files.len(), "file");
    ui.say(&format!("{} as {}: {files}, {}, to\n{}", wanted.title, wanted.tag, size(bytes), release.place));
    let cancel = Cancel::new();
    session::stop_on_signals(cancel.clone(), None);
    let Ok(outcome) = cancel.unless_stopped(publish(&server, wanted)).await else {
        ui.say("stopped; what was sent stays, unseen, and the next `kiln release` completes it");
        return Err(CliError::Shown { code: exit::CANCELLED });
    };
    let outcome = outcome?;
    ui.say(&told(&release, &outcome));
    ui.print(&format!("{}\n", outcome.url));
    Ok(())
}

fn server(ui: Ui, environment: &Environment, project: &Project, release: &Release, token: Token) -> Result<Server> {
    let network = network::of_client(environment, &project.config.resolved().network, &project.folder)?;
    let network = Network {
        certificates: network.certificates.unwrap_or_default(),
        http_proxy: network.http_proxy,
        https_proxy: network.https_proxy,
        no_proxy: network.no_proxy,
    };
    let events = Progress::new(ui).events();
    Ok(Server::new(release.place.clone(), Access { network, limits: Limits::default(), token, events })?)
}

/// How it ended, in a line.
fn told(release: &Release, outcome: &Outcome) -> String {
    let title = &release.wanted.title;
    let files = format!("{} sent, {} there already", counted(outcome.sent, "file"), outcome.kept);
    match (outcome.draft, outcome.unchanged) {
        (false, true) => format!("{title} is already published; nothing was changed"),
        (false, false) => format!("published {title}: {files}"),
        (true, _) if release.place.kind == ForgeKind::Gitlab => {
            format!("{files}; GitLab has no drafts: `kiln release` without --draft makes the release")
        }
        (true, true) => format!("the draft of {title} is complete; nothing was changed"),
        (true, false) => format!("the draft of {title} is complete: {files}"),
    }
}

/// What would be done, as people read it.
fn dry_run(release: &Release, steps: &[(Step, Vec<String>)]) -> String {
    let wanted = &release.wanted;
    let mut text = format!(
        "{} as {} of commit {}\nto {}{}{}\n\nFiles:\n",
        wanted.title,
        wanted.tag,
        short(&wanted.commit),
        release.place,
        if wanted.prerelease { ", as one to try out" } else { "" },
        if wanted.draft { ", as a draft" } else { "" },
    );
    let width = wanted.files.iter().map(|file| file.name.chars().count()).max().unwrap_or_default();
    for LocalFile { name, size: bytes, sha256, .. } in &wanted.files {
        let _ = writeln!(text, "  {name:width$}  {:>8}  {}", size(*bytes), sha256.short());
    }
    text.push_str("\nRequests, where nothing is there yet (what is there whole is not sent again):\n");
    for request in steps.iter().flat_map(|(_, requests)| requests) {
        text.extend(["  ", request, "\n"]);
    }
    text.push_str("\nNotes:\n");
    for line in wanted.notes.lines() {
        let _ = writeln!(text, "{}", format!("  {line}").trim_end());
    }
    text
}
