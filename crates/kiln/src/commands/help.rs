//! What tells others about kiln's command line: completions for shells, manual pages, the version as JSON.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;
use kiln_artifact::place;
use serde_json::json;

use crate::cli::Cli;
use crate::environment::Environment;
use crate::error::{CliError, Result};
use crate::ui::Ui;

/// `kiln completions`.
pub(crate) fn completions(ui: Ui, environment: &Environment, shell: Option<Shell>) -> Result<()> {
    let usual = environment.get("SHELL").and_then(Shell::from_shell_path);
    let shell = shell.or(usual).ok_or_else(|| CliError::Usage {
        problem: "which shell is not known: SHELL names none that kiln knows".to_owned(),
        hint: "name it: bash, elvish, fish, powershell or zsh".to_owned(),
    })?;
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "kiln", &mut script);
    ui.print(&String::from_utf8_lossy(&script));
    Ok(())
}

/// `kiln man`: one page to standard output, or a page per command into a folder.
pub(crate) fn man(ui: Ui, folder: Option<&Path>) -> Result<()> {
    let command = Cli::command().disable_help_subcommand(true);
    let Some(folder) = folder else {
        ui.print(&String::from_utf8_lossy(&page(&command)?));
        return Ok(());
    };
    fs_err::create_dir_all(folder).map_err(CliError::io("make", folder))?;
    let mut todo = vec![("kiln".to_owned(), command)];
    while let Some((name, command)) = todo.pop() {
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            todo.push((format!("{name}-{}", sub.get_name()), sub.clone()));
        }
        // clap wants names for as long as the program.
        let leaked: &'static str = name.clone().leak();
        let page = page(&command.name(leaked))?;
        place::write_atomically(&folder.join(format!("{name}.1")), 0o644, &page)?;
    }
    Ok(())
}

fn page(command: &clap::Command) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    let rendered = clap_mangen::Man::new(command.clone()).render(&mut page);
    rendered.map_err(CliError::io("write", "the manual page"))?;
    Ok(page)
}

/// `kiln --version`, for people or with `--json`.
pub(crate) fn version(ui: Ui, json: bool) {
    let version = env!("CARGO_PKG_VERSION");
    if !json {
        return ui.print(&format!("kiln {version}\n"));
    }
    let value = json!({
        "name": "kiln",
        "version": version,
        "os": std::env::consts::OS,
        "arch": std::env::consts::ARCH,
        "record": kiln_history::record::VERSION,
    });
    ui.print(&format!("{value:#}\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        let environment = Environment::read();
        let ui = Ui::new(crate::cli::Color::Never, &environment);
        man(ui, Some(dir.path())).unwrap();
        let page = fs_err::read_to_string(dir.path().join("kiln-cache-save.1")).unwrap();
        assert!(page.contains("kiln\\-cache\\-save"), "{page}");
        assert!(dir.path().join("kiln.1").exists() && dir.path().join("kiln-build.1").exists());
    }

    #[test]
    fn every_shell_gets_completions() {
        for shell in [Shell::Bash, Shell::Elvish, Shell::Fish, Shell::PowerShell, Shell::Zsh] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "kiln", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("--cache-from") || script.contains("cache-from"), "{shell}");
        }
    }
}
