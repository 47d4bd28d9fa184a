//! The way of a package through a package manager: installed, run from the PATH, removed.

use std::path::PathBuf;

use kiln_artifact::examine::{Examined, Shape};
use kiln_artifact::package::Form;
use kiln_solver::SmokeCommand;

use super::program_in_path;

/// Exit codes of the script, for what is not the program's doing.
const NOT_INSTALLED: i64 = 120;
const NOT_FOUND: i64 = 121;
const NOT_REMOVED: i64 = 122;
const STILL_THERE: i64 = 123;
/// How the line begins that says how the program ended.
const ENDED: &str = "kiln-verify: ended ";

/// A package and how it is installed.
pub(super) struct Install {
    form: Form,
    /// The package.
    pub(super) file: PathBuf,
    /// Its name, by which it is removed.
    package: String,
    /// The program that it puts into the PATH.
    program: Option<String>,
}

impl Install {
    /// How an artifact is installed, if it is a package.
    pub(super) fn of(examined: &Examined) -> Option<Self> {
        let (Shape::Package(form), Some(control)) = (&examined.shape, &examined.control) else { return None };
        let (file, package) = (examined.path.clone(), control.name.clone());
        Some(Self { form: *form, file, package, program: program_in_path(examined) })
    }

    /// Where the package manager is, if an image has it.
    pub(super) fn managers(&self) -> &'static [&'static str] {
        match self.form {
            Form::Deb => &["/usr/bin/dpkg"],
            Form::Apk => &["/sbin/apk", "/usr/sbin/apk", "/usr/bin/apk"],
            _ => &["/usr/bin/rpm", "/bin/rpm"],
        }
    }

    /// The name of the package manager.
    pub(super) fn manager(&self) -> &'static str {
        match self.form {
            Form::Deb => "dpkg",
            Form::Apk => "apk",
            _ => "rpm",
        }
    }

    /// The script that does all of it. What the package manager says is shown only if it fails.
    pub(super) fn script(&self, folder: &str, command: &SmokeCommand) -> String {
        let file = format!("{folder}/{}", self.file.file_name().unwrap_or_default().to_string_lossy());
        let (file, package) = (quoted(&file), quoted(&self.package));
        let (install, remove) = match self.form {
            Form::Deb => (format!("dpkg -i {file}"), format!("dpkg -P {package}")),
            Form::Apk => {
                (format!("apk add --no-network --allow-untrusted {file}"), format!("apk del --no-network {package}"))
            }
            _ => (format!("rpm -i --nosignature {file}"), format!("rpm -e {package}")),
        };
        let program = quoted(self.program.as_deref().unwrap_or(&self.package));
        let run = match command {
            SmokeCommand::Auto => format!("{program} --version || {program} --help"),
            SmokeCommand::Arguments(words) => {
                words.iter().fold(program.clone(), |line, word| format!("{line} {}", quoted(word)))
            }
            SmokeCommand::Shell(line) => line.replace("{artifact}", &program),
        };
        format!(
            "said=/tmp/kiln-verify.log; export DEBIAN_FRONTEND=noninteractive\n\
             {install} >$said 2>&1 || {{ tail -n 5 $said; exit {NOT_INSTALLED}; }}\n\
             command -v {program} >/dev/null || exit {NOT_FOUND}\n\
             ( {run} ); code=$?\n\
             echo \"{ENDED}$code\"\n\
             {remove} >$said 2>&1 || {{ tail -n 5 $said; exit {NOT_REMOVED}; }}\n\
             hash -r; if command -v {program} >/dev/null; then exit {STILL_THERE}; fi\n\
             exit $code\n"
        )
    }

    /// What went wrong around the program; nothing if it was the program itself.
    pub(super) fn problem(&self, code: i64, lines: &[String]) -> Option<String> {
        let has_ended = ended(lines).is_some();
        let manager = self.manager();
        Some(match code {
            NOT_INSTALLED if !has_ended => format!("{manager} does not install it"),
            NOT_FOUND if !has_ended => match &self.program {
                Some(program) => format!("{program} is not in the PATH after it is installed"),
                None => "it puts no program into the PATH".to_owned(),
            },
            NOT_REMOVED if has_ended => format!("it runs, and {manager} does not remove it"),
            STILL_THERE if has_ended => "its program is still there after it was removed".to_owned(),
            _ => return None,
        })
    }
}

/// How the program ended, as the script says.
pub(super) fn ended(lines: &[String]) -> Option<i64> {
    lines.iter().rev().find_map(|line| line.strip_prefix(ENDED)?.trim().parse().ok())
}

/// What the program said, without what the script says.
pub(super) fn said(lines: &[String]) -> Vec<String> {
    lines.iter().filter(|line| !line.starts_with(ENDED)).cloned().collect()
}

/// A word for the shell, whatever is in it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn install(form: Form) -> Install {
        Install { form, file: "/x/it's.pkg".into(), package: "hello".into(), program: Some("hello".into()) }
    }

    #[test]
    fn scripts_quote_what_they_get() {
        let arguments = SmokeCommand::Arguments(vec!["-c".into(), "$(rm -rf /)'".into()]);
        let script = install(Form::Deb).script("/kiln-smoke", &arguments);
        assert!(script.contains(r"dpkg -i '/kiln-smoke/it'\''s.pkg'"), "{script}");
        assert!(script.contains(r"( 'hello' '-c' '$(rm -rf /)'\''' )"), "{script}");
        for (form, line) in
            [(Form::Apk, "apk del --no-network 'hello'"), (Form::Rpm, "rpm -e 'hello'"), (Form::Deb, "dpkg -P 'hello'")]
        {
            assert!(install(form).script("/k", &SmokeCommand::Auto).contains(line));
        }
    }

    #[test]
    fn codes_of_the_script_are_not_those_of_the_program() {
        let install = install(Form::Deb);
        let with = vec!["text".to_owned(), format!("{ENDED}0")];
        assert_eq!(install.problem(120, &[]).as_deref(), Some("dpkg does not install it"));
        assert_eq!(install.problem(120, &[format!("{ENDED}120")]), None, "the program itself ended with it");
        assert_eq!(install.problem(123, &with).as_deref(), Some("its program is still there after it was removed"));
        assert_eq!((install.problem(0, &with), ended(&with), said(&with)), (None, Some(0), vec!["text".to_owned()]));
    }
}
