//! `kiln init`.

use kiln_artifact::place;
use kiln_config::Recipe;

use crate::cli;
use crate::error::{CliError, Result};
use crate::ui::Ui;
use crate::{project, recipe};

const FILE: &str = "kiln.toml";
const DOCKERFILE: &str = "kiln.Dockerfile";

pub(crate) fn run(ui: Ui, args: &cli::Init) -> Result<()> {
    let folder = project::folder(&args.path)?;
    let facts = project::facts(&folder)?;
    let path = project::shown(&folder.join(FILE));
    let exists = |path: &std::path::Path| path.symlink_metadata().is_ok();
    if exists(&path) && !args.force {
        return Err(CliError::Usage {
            problem: format!("{} is there already", path.display()),
            hint: "edit it, or replace it with --force".to_owned(),
        });
    }
    let mut text = kiln_config::init_toml(&facts);
    if let Some(name) = &args.eject {
        let recipe = match name.as_str() {
            "" | "alpine" => Recipe::Alpine,
            "debian" => Recipe::Debian,
            other => {
                return Err(CliError::Usage {
                    problem: format!("there is no recipe `{other}`"),
                    hint: "the recipes are alpine and debian".to_owned(),
                });
            }
        };
        let target = project::shown(&folder.join(DOCKERFILE));
        if exists(&target) && !args.force {
            return Err(CliError::Usage {
                problem: format!("{} is there already", target.display()),
                hint: "edit it, or replace it with --force".to_owned(),
            });
        }
        let ejected = recipe::ejected(&recipe, &folder)?;
        place::write_atomically(&target, 0o644, ejected.as_bytes())?;
        ui.say(&format!("wrote {}", target.display()));
        text = use_dockerfile(&text, &recipe);
    }
    place::write_atomically(&path, 0o644, text.as_bytes())?;
    ui.say(&format!("wrote {}", path.display()));
    let scripts = facts.pyproject.as_ref().is_some_and(|project| !project.scripts.is_empty());
    match facts.entry_candidates().as_slice() {
        [] if scripts => ui.say("the program is the first script of pyproject.toml; check `module`"),
        [] => ui.say("no program was found: set `entry` or `module` in [project] before building"),
        [entry] => ui.say(&format!("the program is {entry}; `kiln build` builds it")),
        several => ui.say(&format!("several files could be the program: {}; check `entry`", several.join(", "))),
    }
    Ok(())
}

/// The settings with the recipe that was written out in use. Its base is set too: no longer following from the recipe's
/// name, it would not be known as the clean image of the smoke run.
fn use_dockerfile(settings: &str, ejected: &Recipe) -> String {
    let base = ejected.default_base().map(|base| format!("base = \"{base}\""));
    let recipe = format!("recipe = \"{DOCKERFILE}\"");
    let replaced = |line: &'_ str| match line.strip_prefix('#').unwrap_or(line).split_once(" = ") {
        Some(("recipe", _)) => recipe.clone(),
        Some(("base", _)) => base.clone().unwrap_or_else(|| line.to_owned()),
        _ => line.to_owned(),
    };
    settings.lines().map(replaced).collect::<Vec<_>>().join("\n") + "\n"
}
