//! Reads one instruction.

use kiln_graph::Network;

use super::lines::Part;
use super::mount;
use super::units::healthcheck;
use super::words::{Flag, Flags, Json, flags, heredoc_word, invalid, json, quoted_words};
use crate::ast::{
    ArgDeclaration, Command, CommandLine, Heredoc, Instruction, KEYWORDS, OnBuild, Pair, Run, Stage, Transfer,
};
use crate::suggest::nearest;
use crate::{Error, ErrorKind, Word};

/// An instruction, or the start of a stage.
pub(crate) enum Parsed {
    /// `FROM`.
    From(Box<Stage>),
    /// Anything else.
    Instruction(Box<Instruction>),
}

/// Whether here-documents may follow: `RUN`, `COPY` and `ADD` in their shell form, also as triggers.
pub(super) fn may_have_heredocs(part: Part<'_>) -> bool {
    let (keyword, rest) = part.first_word();
    let keyword = keyword.text().to_uppercase();
    let (_, arguments) = flags(rest);
    match keyword.as_str() {
        "RUN" | "COPY" | "ADD" => matches!(json(arguments.text()), Json::No),
        "ONBUILD" => !rest.first_word().0.text().eq_ignore_ascii_case("ONBUILD") && may_have_heredocs(rest),
        _ => false,
    }
}

/// The arguments of an instruction.
struct Request<'l> {
    keyword: &'static str,
    /// The whole instruction.
    part: Part<'l>,
    /// What follows the flags.
    rest: Part<'l>,
    flags: Vec<Flag<'l>>,
    escape: char,
    heredocs: Vec<Heredoc>,
}

/// Reads the instruction in `part`.
pub(super) fn read(part: Part<'_>, escape: char, heredocs: Vec<Heredoc>) -> Result<Parsed, Error> {
    let (word, rest) = part.first_word();
    let upper = word.text().to_uppercase();
    let Some(keyword) = KEYWORDS.into_iter().find(|keyword| *keyword == upper) else {
        let suggestion = nearest(&upper, KEYWORDS);
        let kind = ErrorKind::UnknownInstruction { keyword: word.text().to_owned(), suggestion };
        return Err(Error::new(kind, word.span()));
    };
    // The inner instruction of a trigger reads its flags itself.
    let (flags, rest) = if keyword == "ONBUILD" { (vec![], rest) } else { flags(rest) };
    let mut request = Request { keyword, part, rest, flags, escape, heredocs };
    if keyword == "FROM" {
        return from(request, word.text()).map(|stage| Parsed::From(Box::new(stage)));
    }
    let command = command(&mut request)?;
    Ok(Parsed::Instruction(Box::new(Instruction {
        span: part.span(),
        keyword: word.text().to_owned(),
        text: part.text().to_owned(),
        original: String::new(),
        command,
    })))
}

fn command(request: &mut Request<'_>) -> Result<Command, Error> {
    Ok(match request.keyword {
        "RUN" => Command::Run(Box::new(run(request)?)),
        "COPY" => Command::Copy(Box::new(transfer(request)?)),
        "ADD" => Command::Add(Box::new(transfer(request)?)),
        "HEALTHCHECK" => Command::Healthcheck(Box::new(request.healthcheck()?)),
        "ONBUILD" => Command::OnBuild(Box::new(on_build(request)?)),
        keyword => {
            request.take_flags(&[], &[])?;
            match keyword {
                "ARG" => Command::Arg(request.arguments()?),
                "ENV" => Command::Env(request.pairs()?),
                "LABEL" => Command::Label(request.pairs()?),
                "WORKDIR" => Command::Workdir(request.single()?),
                "USER" => Command::User(request.single()?),
                "STOPSIGNAL" => Command::StopSignal(request.single()?),
                "MAINTAINER" => Command::Maintainer(request.single()?.value),
                "CMD" => Command::Cmd(request.command_line()?),
                "ENTRYPOINT" => Command::Entrypoint(request.command_line()?),
                "EXPOSE" => Command::Expose(request.words_or_json(false)?),
                "VOLUME" => Command::Volume(request.words_or_json(true)?),
                _ => match request.command_line()? {
                    CommandLine::Exec(shell) if !shell.is_empty() => Command::Shell(shell),
                    CommandLine::Exec(_) => return Err(request.arguments_error("at least one argument")),
                    CommandLine::Shell(_) => {
                        let kind = ErrorKind::NotJson { instruction: request.keyword.to_owned() };
                        return Err(Error::new(kind, request.rest.span()));
                    }
                },
            }
        }
    })
}

impl<'l> Request<'l> {
    fn arguments_error(&self, expected: &'static str) -> Error {
        Error::new(ErrorKind::Arguments { instruction: self.keyword.to_owned(), expected }, self.part.span())
    }

    fn take_flags(&mut self, allowed: &'static [&'static str], repeatable: &[&str]) -> Result<Flags<'l>, Error> {
        Flags::new(self.keyword, std::mem::take(&mut self.flags), allowed, repeatable)
    }

    /// The rest of the line as one argument.
    fn single(&self) -> Result<Word, Error> {
        if self.rest.is_empty() {
            return Err(self.arguments_error("exactly one argument"));
        }
        Ok(self.rest.word())
    }

    fn command_line(&self) -> Result<CommandLine, Error> {
        if self.rest.is_empty() {
            return Err(self.arguments_error("at least one argument"));
        }
        match json(self.rest.text()) {
            Json::No => Ok(CommandLine::Shell(self.rest.text().to_owned())),
            Json::Strings(arguments) => Ok(CommandLine::Exec(arguments)),
            Json::NotStrings => Err(Error::new(ErrorKind::JsonNotStrings, self.rest.span())),
        }
    }

    fn words_or_json(&self, allow_json: bool) -> Result<Vec<Word>, Error> {
        let words = match json(self.rest.text()) {
            Json::Strings(values) if allow_json => {
                values.into_iter().map(|value| Word { value, span: self.rest.span() }).collect()
            }
            Json::NotStrings if allow_json => {
                return Err(Error::new(ErrorKind::JsonNotStrings, self.rest.span()));
            }
            _ => self.rest.split_whitespace().into_iter().map(Part::word).collect::<Vec<_>>(),
        };
        if words.is_empty() || words.iter().any(|word| word.value.trim().is_empty()) {
            return Err(self.arguments_error("at least one argument, and no empty ones"));
        }
        Ok(words)
    }

    fn arguments(&self) -> Result<Vec<ArgDeclaration>, Error> {
        let words = quoted_words(self.rest, self.escape);
        if words.is_empty() {
            return Err(self.arguments_error("at least one argument"));
        }
        words
            .into_iter()
            .map(|word| {
                let (name, default) = match word.split_once(|c| c == '=') {
                    Some((name, default)) => (name, Some(default.word())),
                    None => (word, None),
                };
                if name.is_empty() {
                    let kind = ErrorKind::BlankName { instruction: self.keyword.to_owned() };
                    return Err(Error::new(kind, word.span()));
                }
                Ok(ArgDeclaration { name: name.word(), default })
            })
            .collect()
    }

    fn pairs(&self) -> Result<Vec<Pair>, Error> {
        let words = quoted_words(self.rest, self.escape);
        let Some(first) = words.first() else { return Err(self.arguments_error("at least one argument")) };
        if !first.text().contains('=') {
            let (name, value) = self.rest.first_word();
            if value.is_empty() {
                return Err(Error::new(ErrorKind::NotKeyValue { word: name.text().to_owned() }, name.span()));
            }
            return Ok(vec![Pair { name: name.word(), value: value.word(), legacy: true }]);
        }
        words
            .into_iter()
            .map(|word| {
                let Some((name, value)) = word.split_once(|c| c == '=') else {
                    let kind = ErrorKind::NotKeyValue { word: word.text().to_owned() };
                    return Err(Error::new(kind, word.span()));
                };
                if name.is_empty() {
                    let kind = ErrorKind::BlankName { instruction: self.keyword.to_owned() };
                    return Err(Error::new(kind, word.span()));
                }
                Ok(Pair { name: name.word(), value: value.word(), legacy: false })
            })
            .collect()
    }

    fn healthcheck(&mut self) -> Result<kiln_graph::Healthcheck, Error> {
        let flags = self.take_flags(&["interval", "timeout", "start-period", "start-interval", "retries"], &[])?;
        let (kind, rest) = self.rest.first_word();
        match kind.text().to_uppercase().as_str() {
            "" => Err(self.arguments_error("`NONE`, or `CMD` and a command")),
            "NONE" if rest.is_empty() => {
                Ok(kiln_graph::Healthcheck { test: vec!["NONE".into()], ..Default::default() })
            }
            "NONE" => Err(self.arguments_error("nothing after `NONE`")),
            "CMD" => {
                self.rest = rest;
                let mut test = match self.command_line()? {
                    CommandLine::Shell(line) => vec!["CMD-SHELL".into(), line],
                    CommandLine::Exec(arguments) => [vec!["CMD".into()], arguments].concat(),
                };
                if test.len() < 2 {
                    return Err(self.arguments_error("a command after `CMD`"));
                }
                healthcheck(&flags, std::mem::take(&mut test))
            }
            _ => Err(invalid("`HEALTHCHECK`", &kind.word(), "NONE or CMD")),
        }
    }
}

fn from(mut request: Request<'_>, keyword: &str) -> Result<Stage, Error> {
    let flags = request.take_flags(&["platform"], &[])?;
    let words = request.rest.split_whitespace();
    let (base, name, as_keyword) = match words.as_slice() {
        [base] => (base, None, None),
        [base, keyword, name] if keyword.text().eq_ignore_ascii_case("as") => (base, Some(name), Some(keyword)),
        _ => return Err(request.arguments_error("an image, or an image, `AS` and a name")),
    };
    if let Some(name) = name {
        let mut chars = name.text().chars();
        let valid = chars.next().is_some_and(|c| c.is_ascii_alphabetic())
            && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        if !valid {
            return Err(Error::new(ErrorKind::StageName { name: name.text().to_owned() }, name.span()));
        }
    }
    Ok(Stage {
        name: name.map(|name| name.word()),
        base: base.word(),
        platform: flags.value("platform")?,
        span: request.part.span(),
        keyword: keyword.to_owned(),
        as_keyword: as_keyword.map(|word| word.text().to_owned()),
        instructions: vec![],
    })
}

fn run(request: &mut Request<'_>) -> Result<Run, Error> {
    let flags = request.take_flags(&["mount", "network", "security"], &["mount"])?;
    let mounts = flags.values("mount")?;
    let mounts = mounts.iter().map(|(value, part)| mount::read(value, *part)).collect::<Result<_, _>>()?;
    let network = match flags.value("network")? {
        None => Network::Default,
        Some(word) => match word.value.as_str() {
            "default" => Network::Default,
            "none" => Network::None,
            "host" => Network::Host,
            _ => return Err(invalid("`--network`", &word, "default, none or host")),
        },
    };
    let privileged = match flags.value("security")? {
        None => false,
        Some(word) => match word.value.as_str() {
            "insecure" => true,
            "sandbox" => false,
            _ => return Err(invalid("`--security`", &word, "sandbox or insecure")),
        },
    };
    let command = request.command_line()?;
    if command == CommandLine::Exec(vec![]) {
        return Err(request.arguments_error("at least one argument"));
    }
    Ok(Run { command, mounts, network, privileged, heredocs: std::mem::take(&mut request.heredocs) })
}

fn transfer(request: &mut Request<'_>) -> Result<Transfer, Error> {
    let copy = request.keyword == "COPY";
    let allowed: &[&str] = if copy {
        &["from", "chown", "chmod", "link", "parents", "exclude"]
    } else {
        &["chown", "chmod", "link", "exclude", "checksum", "keep-git-dir", "unpack"]
    };
    let flags = request.take_flags(allowed, &["exclude"])?;
    let mut words = match json(request.rest.text()) {
        Json::Strings(values) => {
            let span = request.rest.span();
            values.into_iter().map(|value| Word { value, span }).collect()
        }
        Json::NotStrings => return Err(Error::new(ErrorKind::JsonNotStrings, request.rest.span())),
        Json::No => request.rest.split_whitespace().into_iter().map(Part::word).collect::<Vec<_>>(),
    };
    let dest = words.pop().filter(|_| !words.is_empty());
    let dest = dest.ok_or_else(|| request.arguments_error("at least one source and a destination"))?;
    if !request.heredocs.is_empty() && heredoc_word(&dest.value).is_some() {
        return Err(Error::new(ErrorKind::HeredocDestination, dest.span));
    }
    let (mut sources, mut contents) = (Vec::new(), Vec::new());
    for word in words {
        let name = heredoc_word(&word.value).map(|heredoc| heredoc.name);
        match name.and_then(|name| request.heredocs.iter().rfind(|heredoc| heredoc.name == name)) {
            Some(heredoc) => contents.push(heredoc.clone()),
            None => sources.push(word),
        }
    }
    let only = |condition: bool| condition.then_some(());
    let from = only(copy).map(|()| flags.value("from")).transpose()?.flatten();
    if let Some(from) = from.as_ref().filter(|from| from.value.contains('$')) {
        return Err(Error::new(ErrorKind::VariableInFrom { value: from.value.clone() }, from.span));
    }
    Ok(Transfer {
        sources,
        contents,
        dest,
        from,
        chown: flags.value("chown")?,
        chmod: flags.value("chmod")?,
        link: flags.boolean("link")?.unwrap_or(false),
        parents: copy && flags.boolean("parents")?.unwrap_or(false),
        excludes: flags.values("exclude")?.into_iter().map(|(value, _)| value).collect(),
        checksum: only(!copy).map(|()| flags.value("checksum")).transpose()?.flatten(),
        keep_git_dir: !copy && flags.boolean("keep-git-dir")?.unwrap_or(false),
        unpack: only(!copy).map(|()| flags.boolean("unpack")).transpose()?.flatten(),
    })
}

fn on_build(request: &mut Request<'_>) -> Result<OnBuild, Error> {
    if request.rest.is_empty() {
        return Err(request.arguments_error("an instruction"));
    }
    let keyword = request.rest.first_word().0;
    let upper = keyword.text().to_uppercase();
    if matches!(upper.as_str(), "ONBUILD" | "FROM" | "MAINTAINER") {
        return Err(Error::new(ErrorKind::OnBuildNotAllowed { instruction: upper }, keyword.span()));
    }
    let mut trigger = request.rest.text().to_owned();
    for heredoc in &request.heredocs {
        trigger.push('\n');
        trigger.push_str(&heredoc.content);
        trigger.push_str(&heredoc.name);
    }
    match read(request.rest, request.escape, std::mem::take(&mut request.heredocs))? {
        Parsed::Instruction(instruction) => Ok(OnBuild { trigger, instruction: *instruction }),
        Parsed::From(_) => Err(Error::new(ErrorKind::OnBuildNotAllowed { instruction: upper }, keyword.span())),
    }
}
