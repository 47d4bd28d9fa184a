//! The instructions that change only the image's configuration.

use super::history;
use super::stage::Lowering;
use crate::ast::{Command, CommandLine};
use crate::parse::units::{ports, signal};
use crate::{Error, ErrorKind, Word};

impl Lowering<'_, '_> {
    pub(super) fn configure(&mut self, command: &Command) -> Result<(), Error> {
        match command {
            Command::Label(pairs) => {
                let mut said = Vec::new();
                for pair in pairs {
                    said.push((self.expand(&pair.name)?, self.expand(&pair.value)?));
                }
                let texts = said.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                self.note(history::pairs("LABEL", texts));
                self.config().labels.extend(said);
            }
            Command::User(user) => {
                let user = self.expand(user)?;
                self.note(format!("USER {user}"));
                self.config().user = user;
            }
            Command::Shell(shell) => {
                self.note(format!("SHELL [{}]", shell.join(" ")));
                self.config().shell = Some(shell.clone());
            }
            Command::Cmd(line) => {
                let arguments = self.arguments(line);
                self.note(format!("CMD {}", history::quoted(&arguments)));
                self.config().cmd = Some(arguments);
                self.config().args_escaped = true;
                self.has_cmd = true;
            }
            Command::Entrypoint(line) => {
                let arguments = self.arguments(line);
                self.note(format!("ENTRYPOINT {}", history::quoted(&arguments)));
                self.config().entrypoint = Some(arguments).filter(|arguments| !arguments.is_empty());
                // A command of the base image was meant for the base image's entrypoint.
                if !self.has_cmd {
                    self.config().cmd = None;
                }
            }
            Command::Expose(words) => {
                let mut said = Vec::new();
                for word in words {
                    // Ports that are not set are no ports: the check of variables leaves them alone, as BuildKit does.
                    for port in self.expand_quietly(word)?.0.words {
                        self.check_port(&port, word.span);
                        let Some(found) = ports(&port) else {
                            return Err(invalid("`EXPOSE`", word, port, "port[-port][/protocol]"));
                        };
                        said.extend(found);
                    }
                }
                said.sort();
                self.note(format!("EXPOSE [{}]", said.join(" ")));
                self.config().exposed_ports.extend(said);
                let exposed = &mut self.config().exposed_ports;
                exposed.sort();
                exposed.dedup();
            }
            Command::Volume(words) => {
                let mut said = Vec::new();
                for word in words {
                    let path = self.expand(word)?;
                    if path.is_empty() {
                        return Err(Error::new(ErrorKind::Blank { word: word.value.clone() }, word.span));
                    }
                    self.watch_makes(&path);
                    if !self.config().volumes.contains(&path) {
                        self.config().volumes.push(path.clone());
                    }
                    said.push(path);
                }
                self.note(format!("VOLUME [{}]", said.join(" ")));
            }
            Command::StopSignal(word) => {
                let name = self.expand(word)?;
                if !signal(&name) {
                    return Err(invalid("`STOPSIGNAL`", word, name, "a signal's name or number, as in SIGTERM"));
                }
                self.note(format!("STOPSIGNAL {name}"));
                self.config().stop_signal = Some(name);
            }
            Command::Healthcheck(check) => {
                self.note(format!("HEALTHCHECK {}", history::healthcheck(check)));
                self.config().healthcheck = Some((**check).clone());
            }
            Command::OnBuild(trigger) => self.config().on_build.push(trigger.trigger.clone()),
            Command::Maintainer(author) => {
                self.note(format!("MAINTAINER {author}"));
                self.config().author = Some(author.clone());
            }
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
