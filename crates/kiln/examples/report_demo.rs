//! Plays a scripted build through the reporters, to look at them: `report_demo [MODE] [SPEED] [SCRIPT]`.
//!
//! MODE is auto, tty, plain, json or quiet; SPEED is a factor; SCRIPT is `failing` or `up-to-date`. Logs go to
//! `.kiln/logs` in the current folder.

#![allow(dead_code, unused_imports, reason = "the demo shares modules with the program and uses parts of them")]

#[path = "../src/phase.rs"]
mod phase;
#[path = "../src/report/mod.rs"]
mod report;
#[path = "../src/report/script.rs"]
mod script;

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use report::{FailureOptions, Progress, ReportOptions, Terminal};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let progress = arguments.next().and_then(|mode| Progress::from_str(&mode, true).ok()).unwrap_or_default();
    let speed: f64 = arguments.next().and_then(|speed| speed.parse().ok()).unwrap_or(1.0);
    let events = match arguments.next().as_deref() {
        Some("up-to-date") => script::up_to_date(),
        _ => script::failing(),
    };
    let variables: Vec<(String, String)> = std::env::vars().filter(|(_, value)| !value.is_empty()).collect();
    let variable = |name: &str| variables.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    let terminal = Terminal::new(std::io::stderr().is_terminal(), variable);
    let color = terminal.is_tty && variable("NO_COLOR").is_none();
    let started = Instant::now();
    let options = ReportOptions {
        progress,
        terminal,
        color,
        logs: Some(".kiln/logs".into()),
        started,
        notes: vec![(script::AMD64, "lto=yes jobs=2".into()), (script::ARM64, "lto=no jobs=2".into())],
        folds: report::ci::Service::of(variable).map(|service| report::ci::Folds { service, began: Duration::ZERO }),
    };
    let (sender, receiver) = tokio::sync::mpsc::channel(64);
    let reporter = tokio::spawn(report::report(receiver, options));
    for (at, event) in events {
        tokio::time::sleep_until((started + at.div_f64(speed)).into()).await;
        if sender.send(event).await.is_err() {
            break;
        }
    }
    drop(sender);
    let collected = reporter.await.map_err(std::io::Error::other)?;
    let width = report::columns();
    let mut out = std::io::stderr();
    write!(out, "{}", report::render_summary(&collected.rows(), width, color))?;
    for failed in &collected.failed {
        let error = kiln_solver::SolveError::Step {
            origin: Box::new(failed.step.clone().unwrap_or_default()),
            platform: failed.platform,
            container: kiln_docker::ContainerId("c1".to_owned()),
            code: 1,
            oom: false,
            tail: vec!["ERROR: No matching distribution found for cryptography>=40".into()],
            errors: vec!["no distribution fits the requirement cryptography>=40".into()],
            certain: true,
            no_space: false,
            hints: vec!["check its name and version".into()],
        };
        let log = collected.logs.get(&failed.platform).map(std::path::PathBuf::as_path);
        let text = report::render_error(&error, FailureOptions { width, color, log });
        write!(out, "\n{text}")?;
    }
    Ok(())
}
