//! From text to [`Dockerfile`].
//!
//! [`lines`] joins physical lines, [`instruction`] reads one instruction of a joined line with the help of [`words`],
//! [`mount`] reads `RUN --mount`, and this file sorts instructions into stages.

use crate::ast::{Command, Dockerfile, Instruction, OnBuild, Stage};
use crate::check::{Rule, Warning};
use crate::{Error, ErrorKind, Span};

mod instruction;
mod lines;
pub(crate) mod mount;
pub(crate) mod units;
mod words;

pub(crate) use instruction::Parsed;
use lines::{Line, Reader};

/// Parses a Dockerfile. `name` is the file as the user named it; it appears in errors and in the graph.
///
/// # Errors
/// The first mistake, with its place.
pub fn parse(name: &str, text: &str) -> Result<Dockerfile, Error> {
    parse_file(name, text).map_err(|error| error.in_file(name))
}

/// Parses a Dockerfile from its bytes. Comments may be in any encoding.
///
/// # Errors
/// As [`parse`], and if an instruction is no UTF-8.
pub fn parse_bytes(name: &str, bytes: &[u8]) -> Result<Dockerfile, Error> {
    let error = match std::str::from_utf8(bytes) {
        Ok(text) => return parse(name, text),
        Err(error) => error,
    };
    let mut text = String::with_capacity(bytes.len());
    for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let line_text = String::from_utf8_lossy(line);
        if matches!(line_text, std::borrow::Cow::Owned(_)) && !line_text.trim_start().starts_with('#') {
            let valid = std::str::from_utf8(line).map_or_else(|error| error.valid_up_to(), str::len);
            let column = lines::number(String::from_utf8_lossy(&line[..valid]).chars().count() + 1);
            let at = lines::number(index + 1);
            let span = Span { line: at, column, end_line: at, end_column: column + 1 };
            let byte = line.get(valid).or(bytes.get(error.valid_up_to())).copied().unwrap_or_default();
            return Err(Error::new(ErrorKind::NotUtf8 { byte }, span).in_file(name));
        }
        text.push_str(&line_text);
    }
    parse(name, &text)
}

fn parse_file(name: &str, text: &str) -> Result<Dockerfile, Error> {
    let mut reader = Reader::new(text);
    let mut file = Dockerfile {
        name: name.to_owned(),
        directives: crate::ast::Directives::default(),
        global_args: vec![],
        stages: vec![],
        warnings: vec![],
    };
    while let Some(line) = reader.next_line()? {
        let blank_inside = line.blank_inside;
        let parsed = read(&mut reader, &line)?;
        let span = parsed.span();
        if blank_inside {
            // At the end of the instruction, as BuildKit has it.
            let end = Span { line: span.end_line, column: 1, ..span };
            file.warnings.push(Warning::new(Rule::NoEmptyContinuation, end, "empty continuation line".into()));
        }
        file.warnings.extend(line.comment.as_deref().and_then(|comment| check_description(&parsed, comment)));
        match (parsed, file.stages.last_mut()) {
            (Parsed::From(stage), _) => file.stages.push(*stage),
            (Parsed::Instruction(instruction), Some(stage)) => stage.instructions.push(*instruction),
            (Parsed::Instruction(instruction), None) if matches!(instruction.command, Command::Arg(_)) => {
                file.global_args.push(*instruction);
            }
            (Parsed::Instruction(instruction), None) => {
                let instruction = instruction.keyword.to_uppercase();
                return Err(Error::new(ErrorKind::BeforeFrom { instruction }, span));
            }
        }
    }
    file.directives = reader.directives;
    if file.stages.is_empty() {
        let kind = if file.global_args.is_empty() { ErrorKind::Empty } else { ErrorKind::NoStage };
        return Err(Error::new(kind, Span { line: 1, column: 1, end_line: 1, end_column: 1 }));
    }
    Ok(file)
}

/// A comment above `ARG` or a named `FROM` that does not start with the name that it describes.
fn check_description(parsed: &Parsed, comment: &str) -> Option<Warning> {
    let (keyword, names): (_, Vec<&str>) = match parsed {
        Parsed::From(stage) => ("FROM", stage.name.iter().map(|name| name.value.as_str()).collect()),
        Parsed::Instruction(instruction) => match &instruction.command {
            Command::Arg(arguments) => ("ARG", arguments.iter().map(|argument| argument.name.value.as_str()).collect()),
            _ => return None,
        },
    };
    let first = comment.split(' ').next().unwrap_or_default();
    let name = *names.first()?;
    if names.contains(&first) {
        return None;
    }
    let message = format!("the comment above this `{keyword}` should start with its name: `# {name} ...`");
    Some(Warning::new(Rule::InvalidDefinitionDescription, parsed.span(), message))
}

/// Parses the text of a trigger as it is stored in an image.
pub(crate) fn parse_trigger(text: &str) -> Result<Instruction, Error> {
    let mut reader = Reader::new(text);
    let line = reader.next_line()?.ok_or_else(|| Error::nowhere(ErrorKind::Empty))?;
    let parsed = read(&mut reader, &line)?;
    let span = parsed.span();
    match parsed {
        Parsed::Instruction(instruction) if reader.next_line()?.is_none() => Ok(*instruction),
        Parsed::Instruction(_) => Err(Error::new(
            ErrorKind::Arguments { instruction: "ONBUILD".into(), expected: "a single instruction" },
            span,
        )),
        Parsed::From(_) => Err(Error::new(ErrorKind::OnBuildNotAllowed { instruction: "FROM".into() }, span)),
    }
}

/// Whether a text is the word of a here-document and nothing else.
pub(crate) fn is_heredoc_word(text: &str) -> bool {
    words::heredoc_word(text).is_some()
}

/// Reads the instruction on a line, and the here-documents that follow it.
fn read(reader: &mut Reader<'_>, line: &Line) -> Result<Parsed, Error> {
    let part = line.part();
    let escape = reader.directives.escape();
    let mut heredocs = Vec::new();
    if instruction::may_have_heredocs(part) {
        for heredoc in words::heredoc_words(&line.text) {
            heredocs.push(reader.heredoc_body(heredoc, part.span())?);
        }
    }
    let mut parsed = instruction::read(part, escape, heredocs)?;
    let (original, end_line, end_column) = reader.original(line.first);
    parsed.set_extent(&original, end_line, end_column);
    Ok(parsed)
}

impl Parsed {
    fn span(&self) -> crate::Span {
        match self {
            Self::From(stage) => stage.span,
            Self::Instruction(instruction) => instruction.span,
        }
    }

    fn set_extent(&mut self, original: &str, end_line: u32, end_column: u32) {
        let extend = |span: &mut crate::Span| {
            if end_line > span.end_line {
                (span.end_line, span.end_column) = (end_line, end_column);
            }
        };
        match self {
            Self::From(stage) => extend(&mut stage.span),
            Self::Instruction(instruction) => {
                extend(&mut instruction.span);
                original.clone_into(&mut instruction.original);
                if let Command::OnBuild(trigger) = &mut instruction.command {
                    let OnBuild { instruction: inner, .. } = &mut **trigger;
                    extend(&mut inner.span);
                    original.clone_into(&mut inner.original);
                }
            }
        }
    }
}

impl Dockerfile {
    /// Names of the stages, `stage-N` for those without.
    pub fn stage_names(&self) -> Vec<String> {
        self.stages.iter().enumerate().map(|(index, stage)| stage.label(index)).collect()
    }
}

impl Stage {
    /// Its name in lowercase, or `stage-N`.
    pub(crate) fn label(&self, index: usize) -> String {
        self.name.as_ref().map_or_else(|| format!("stage-{index}"), |name| name.value.to_lowercase())
    }
}

#[cfg(test)]
mod tests;
