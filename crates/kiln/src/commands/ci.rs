//! `kiln ci`.

use std::fmt::Write as _;

use kiln_ci::matrix::{self, Matrix};
use kiln_ci::trigger::{Given, Trigger};

use crate::cli::{CiCommand, CiMatrix, MatrixFormat};
use crate::environment::Environment;
use crate::error::{CliError, Result};
use crate::ui::Ui;
use crate::{checkout, project};

pub(crate) fn run(ui: Ui, environment: &Environment, command: &CiCommand) -> Result<()> {
    let CiCommand::Matrix(args) = command;
    let CiMatrix { project, event, reference, base_ref, explain, format } = &**args;
    let project = project::load(environment, project, Vec::new())?;
    ui.warnings(&project.warnings);
    let given = Given { event: event.as_deref(), reference: reference.as_deref(), base: base_ref.as_deref() };
    let variable = |name: &str| environment.get(name).map(str::to_owned);
    let git = (checkout::checked_out(&project.folder), checkout::default_branch(environment, &project.folder));
    let trigger = Trigger::read(&given, &variable, git)
        .map_err(|error| CliError::Usage { problem: error.to_string(), hint: error.hint() })?;
    let explained = matrix::matrix(&project.config, &trigger);
    if *explain {
        for reason in &explained.reasons {
            ui.say(reason);
        }
    }
    ui.print(&rendered(&explained.matrix, *format));
    Ok(())
}

fn rendered(matrix: &Matrix, format: MatrixFormat) -> String {
    let json = |value: serde_json::Result<String>| value.expect("it is made of texts");
    let all = json(serde_json::to_string(matrix));
    match format {
        MatrixFormat::Json => format!("{all}\n"),
        MatrixFormat::GithubOutput => {
            let platforms: Vec<String> = matrix.platform.iter().map(ToString::to_string).collect();
            let mut text = format!("matrix={all}\n");
            let _ = writeln!(text, "include={}", json(serde_json::to_string(&matrix.include)));
            let _ = writeln!(text, "python={}", json(serde_json::to_string(&matrix.python)));
            let _ = writeln!(text, "platforms={}", platforms.join(","));
            text
        }
    }
}
