//! The instructions that change only the image's configuration.

use super::stage::Lowering;
use crate::ast::{Command, CommandLine};
use crate::parse::units::{ports, signal};
use crate::{Error, ErrorKind, Word};

impl Lowering<'_, '_> {
    pub(super) fn configure(&mut self, command: &Command) -> Result<(), Error> {
        match command {
            Command::Label(pairs) => {
                for pair in pairs {
                    let (name, value) = (self.expand(&pair.name)?, self.expand(&pair.value)?);
                    self.config().labels.insert(name, value);
                }
            }
            Command::User(user) => self.config().user = self.expand(user)?,
            Command::Shell(shell) => self.config().shell = Some(shell.clone()),
            Command::Cmd(line) => {
                self.config().cmd = Some(self.arguments(line));
                self.has_cmd = true;
            }
            Command::Entrypoint(line) => {
                let arguments = self.arguments(line);
                self.config().entrypoint = Some(arguments).filter(|arguments| !arguments.is_empty());
                // A command of the base image was meant for the base image's entrypoint.
                if !self.has_cmd {
                    self.config().cmd = None;
                }
            }
            Command::Expose(words) => {
                for word in words {
                    // Ports that are not set are no ports: the check of variables leaves them alone, as BuildKit does.
                    for port in self.expand_quietly(word)?.0.words {
                        self.check_port(&port, word.span);
                        let Some(found) = ports(&port) else {
                            return Err(invalid("`EXPOSE`", word, port, "port[-port][/protocol]"));
                        };
                        self.config().exposed_ports.extend(found);
                    }
                }
                let exposed = &mut self.config().exposed_ports;
                exposed.sort();
                exposed.dedup();
            }
            Command::Volume(words) => {
                for word in words {
                    let path = self.expand(word)?;
                    if path.is_empty() {
                        return Err(Error::new(ErrorKind::Blank { word: word.value.clone() }, word.span));
                    }
                    if !self.config().volumes.contains(&path) {
                        self.config().volumes.push(path);
                    }
                }
            }
            Command::StopSignal(word) => {
                let name = self.expand(word)?;
                if !signal(&name) {
                    return Err(invalid("`STOPSIGNAL`", word, name, "a signal's name or number, as in SIGTERM"));
                }
                self.config().stop_signal = Some(name);
            }
            Command::Healthcheck(check) => self.config().healthcheck = Some((**check).clone()),
            Command::OnBuild(trigger) => self.config().on_build.push(trigger.trigger.clone()),
            Command::Maintainer(author) => self.config().author = Some(author.clone()),
            // These make vertices, or set variables, and never come here.
            Command::Run(_)
            | Command::Copy(_)
            | Command::Add(_)
            | Command::Workdir(_)
            | Command::Arg(_)
            | Command::Env(_) => {}
        }
        Ok(())
    }

    fn arguments(&self, line: &CommandLine) -> Vec<String> {
        match line {
            CommandLine::Shell(line) => self.with_shell(line),
            CommandLine::Exec(arguments) => arguments.clone(),
        }
    }
}

fn invalid(what: &str, word: &Word, value: String, expected: &str) -> Error {
    let kind = ErrorKind::InvalidValue { what: what.into(), value, expected: expected.into() };
    Error::new(kind, word.span)
}
