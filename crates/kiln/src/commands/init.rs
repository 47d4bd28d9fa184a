//! `kiln init`.

use kiln_config::Recipe;

use crate::cli;
use crate::error::{CliError, Result};
use crate::ui::Ui;
use crate::{project, recipe};

const FILE: &str = "kiln.toml";
const DOCKERFILE: &str = "kiln.Dockerfile";

pub(crate) fn run(ui: &Ui, args: &cli::Init) -> Result<()> {
    let facts = project::facts(&args.path)?;
    let path = args.path.join(FILE);
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
        let target = args.path.join(DOCKERFILE);
        if exists(&target) && !args.force {
            return Err(CliError::Usage {
                problem: format!("{} is there already", target.display()),
                hint: "edit it, or replace it with --force".to_owned(),
            });
        }
        let source = recipe::source(&recipe, &args.path)?;
        fs_err::write(&target, source.text).map_err(CliError::io("write", &target))?;
        ui.say(&format!("wrote {}", target.display()));
        text.push_str(
            "\n# The recipe was written out for editing: set `recipe = \"kiln.Dockerfile\"` in [build] to use it.\n",
        );
    }
    fs_err::write(&path, text).map_err(CliError::io("write", &path))?;
    ui.say(&format!("wrote {}", path.display()));
    match facts.entry_candidates().as_slice() {
        [] => ui.say("no program was found: set `entry` or `module` in [project] before building"),
        [entry] => ui.say(&format!("the program is {entry}; `kiln build` builds it")),
        several => ui.say(&format!("several files could be the program: {}; check `entry`", several.join(", "))),
    }
    Ok(())
}
