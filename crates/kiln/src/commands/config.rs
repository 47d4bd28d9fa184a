//! `kiln config`.

use std::fmt::Write as _;

use serde_json::json;

use crate::cli::ConfigCommand;
use crate::environment::Environment;
use crate::error::Result;
use crate::project;
use crate::ui::Ui;

pub(crate) fn run(ui: Ui, environment: &Environment, command: &ConfigCommand) -> Result<()> {
    let ConfigCommand::Show { project: args, json } = command;
    let project = project::load(environment, args, Vec::new())?;
    ui.warnings(&project.warnings);
    let entries: Vec<_> = project.config.entries().collect();
    if *json {
        let rows: Vec<_> =
            entries.iter().map(|e| json!({"key": e.key, "value": e.value, "from": e.provenance.to_string()})).collect();
        ui.print(&format!("{}\n", serde_json::Value::from(rows)));
        return Ok(());
    }
    let mut text = String::new();
    for entry in entries {
        let value = entry.value.as_deref().unwrap_or("(unset)");
        let _ = writeln!(text, "{} = {value}  # {}", entry.key, entry.provenance);
    }
    ui.print(&text);
    Ok(())
}
