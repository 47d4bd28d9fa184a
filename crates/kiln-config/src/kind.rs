//! The kinds of values that settings have: what each allows, and the check that turns a written value into a plain one.

use std::ops::Range;

use kiln_graph::Platform;

use crate::artifact::ArtifactPattern;
use crate::raw::{Data, Raw, quote};
use crate::suggest::nearest;
use crate::units::{ByteSize, DURATION_FORM, SIZE_FORM, parse_duration};

/// What a setting may be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Any text but the empty one.
    Text,
    /// A path on the machine that kiln runs on; relative to the project folder.
    Path,
    /// A path inside the project folder: relative, without `..`.
    Inside,
    /// An absolute path in an image.
    Absolute,
    /// A user of an image: a name or number, and a group's after a colon.
    User,
    /// A name that may be part of a file name.
    Name,
    /// A program's version.
    Version,
    /// A version of Python, `3.12` or `3.12.4`.
    Python,
    /// A dotted Python module name, or `MODULE:FUNCTION`.
    Module,
    /// A URL with a scheme.
    Url,
    /// A proxy: a URL, or `HOST:PORT`.
    Proxy,
    /// A reference to a container image.
    Image,
    /// `true` or `false`.
    Bool,
    /// `auto`, `yes` or `no`; `true` and `false` mean the same as the latter two.
    Toggle,
    /// One of several words.
    Choice(&'static [&'static str]),
    /// `auto` or a number from 1.
    Jobs,
    /// A number from 1.
    Count,
    /// A price: a decimal number from 0.
    Price,
    /// A number of bytes, as [`ByteSize`] reads it.
    Size,
    /// Whole seconds, or a duration.
    Seconds,
    /// A list of texts.
    List(Item),
    /// A requirements file, or a list of requirements.
    Requirements,
    /// A built-in recipe or a Dockerfile.
    Recipe,
    /// A list of platforms.
    Platforms,
    /// A name pattern with placeholders.
    Artifact,
    /// What to run as a test of the artifact.
    Smoke,
    /// A table of build arguments.
    Arguments,
    /// A label of a CI runner, or a list of labels.
    Labels,
    /// A command: a line for the shell, or a list of words.
    Command,
    /// Images by version of Python: a pattern with `{python}`, or a table.
    Images,
    /// A version of glibc.
    Glibc,
}

/// What the texts of a list may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Item {
    /// Any text but the empty one.
    Text,
    /// `SRC=DST`.
    Data,
    /// One word: no blanks and no leading `-`.
    Word,
    /// A version of Python that a CI system offers: `3.12`, `3.13t`, `3.15-dev`. The list has at least one.
    Release,
    /// A version of Python, `3.12` or `3.12.4`.
    Python,
    /// A form of bills of materials; the list may be empty.
    Bill,
    /// What signs: `minisign:KEY`, `cosign:KEY` or `keyless`.
    Signer,
    /// One of several words. The list has at least one.
    OneOf(&'static [&'static str]),
    /// `SRC=DST`, where `DST` may begin with `/`.
    Placed,
    /// `NAME=VALUE`.
    Label,
    /// A port, `8080` or `53/udp`.
    Port,
    /// What `kiln verify` finds: one of [`FINDINGS`], or `NAME:FILE` with wildcards.
    Finding,
}

/// The forms of bills of materials.
const BILLS: &[&str] = &["cyclonedx", "spdx"];
/// The formats of packages.
pub(crate) const FORMATS: &[&str] = &["tar.gz", "tar.xz", "tar.zst", "zip", "deb", "rpm", "apk", "image"];

/// The names of what `kiln verify` finds. `kiln` holds them against those of the code that finds.
pub const FINDINGS: [&str; 22] = [
    "format",
    "architecture",
    "foreign-file",
    "payload",
    "library",
    "system-library",
    "glibc",
    "mixed-libc",
    "wx-segment",
    "exec-stack",
    "text-relocations",
    "relro",
    "pie",
    "rpath",
    "interpreter",
    "mode",
    "broken-elf",
    "secret",
    "sum",
    "signature",
    "sbom",
    "provenance",
];

/// The names of the built-in recipes.
pub(crate) const RECIPES: [&str; 2] = ["alpine", "debian"];

/// A checked value in its plain form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Bool(bool),
    Integer(u64),
    Text(String),
    List(Vec<String>),
    /// Name and value of each build argument; split into one setting each before it is stored.
    Pairs(Vec<(String, String)>),
}

impl Value {
    /// The value as TOML.
    pub(crate) fn to_toml(&self) -> String {
        match self {
            Self::Bool(yes) => yes.to_string(),
            Self::Integer(number) => number.to_string(),
            Self::Text(text) => quote(text),
            Self::List(items) => format!("[{}]", items.iter().map(|item| quote(item)).collect::<Vec<_>>().join(", ")),
            Self::Pairs(pairs) => {
                let pairs: Vec<String> =
                    pairs.iter().map(|(name, value)| format!("{name} = {}", quote(value))).collect();
                format!("{{ {} }}", pairs.join(", "))
            }
        }
    }
}

/// Why a value is refused. What would be allowed, [`Kind::allowed`] says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rejected {
    pub(crate) span: Range<usize>,
    pub(crate) given: String,
    pub(crate) hint: Option<String>,
}

impl Kind {
    /// What is allowed, as the end of a sentence.
    pub fn allowed(&self) -> String {
        match self {
            Self::Text => "a text".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::Inside => "a relative path inside the project folder".to_owned(),
            Self::Absolute => "an absolute path, such as \"/data\"".to_owned(),
            Self::User => "a user such as \"65532:65532\", \"1000\" or \"nobody\"".to_owned(),
            Self::Name => "letters, digits, `.`, `_` and `-`, beginning with a letter or digit".to_owned(),
            Self::Version => "a version such as \"1.2.3\"".to_owned(),
            Self::Python => "a Python version such as \"3.12\"".to_owned(),
            Self::Module => {
                "a module such as \"hello.__main__\", or a function of one such as \"hello.cli:main\"".to_owned()
            }
            Self::Url => "a URL with a scheme, such as \"https://host/path\"".to_owned(),
            Self::Proxy => "a URL or HOST:PORT, such as \"http://proxy:3128\"".to_owned(),
            Self::Image => "an image reference such as \"debian:bookworm\"".to_owned(),
            Self::Bool => "true or false".to_owned(),
            Self::Toggle => "\"auto\", \"yes\" (or true), \"no\" (or false)".to_owned(),
            Self::Choice(words) => one_of(words),
            Self::Jobs => "\"auto\" or a number from 1 to 1024".to_owned(),
            Self::Count => "a number from 1 to 1000000".to_owned(),
            Self::Price => "a number from 0, such as 0.008".to_owned(),
            Self::Size => SIZE_FORM.to_owned(),
            Self::Seconds => format!("a number of seconds from 1, or {DURATION_FORM}"),
            Self::List(Item::Text) => "a list of texts".to_owned(),
            Self::List(Item::Data) => {
                "a list of \"SRC=DST\", where DST is a relative path inside the program's folder".to_owned()
            }
            Self::List(Item::OneOf(words)) => format!("a list of {}", one_of(words)),
            Self::List(Item::Placed) => "a list of \"SRC=DST\", where DST is a path without `..`".to_owned(),
            Self::List(Item::Word) => "a list of words without blanks or a leading `-`".to_owned(),
            Self::List(Item::Python) => "a list of Python versions, such as [\"3.12\", \"3.13\"]".to_owned(),
            Self::List(Item::Label) => "a list of \"NAME=VALUE\"".to_owned(),
            Self::List(Item::Port) => "a list of ports, such as [\"8080\", \"53/udp\"]".to_owned(),
            Self::List(Item::Finding) => {
                format!("a list of findings, NAME or NAME:FILE, where NAME is {}", one_of(&FINDINGS))
            }
            Self::Glibc => "a glibc version such as \"2.28\"".to_owned(),
            Self::Requirements => "the path of a requirements file, or a list of requirements".to_owned(),
            Self::Recipe => format!("{} or the path of a Dockerfile", RECIPES.map(quote).join(", ")),
            Self::Platforms => {
                let known: Vec<String> = Platform::all().map(|platform| platform.to_string()).collect();
                format!("a list of platforms, of which kiln knows {}", known.join(", "))
            }
            Self::Artifact => {
                "a relative path without `..`, with the placeholders {name}, {version}, {arch} and {platform}"
                    .to_owned()
            }
            Self::Smoke => "a command as a text or as a list of words, \"auto\", or false".to_owned(),
            Self::Arguments => "a table of NAME = \"value\"".to_owned(),
            Self::Labels => "the label of a runner such as \"ubuntu-24.04-arm\", or a list of labels".to_owned(),
            Self::List(Item::Release) => "a list of Python versions such as [\"3.12\", \"3.13\"]".to_owned(),
            Self::List(Item::Bill) => format!("a list of {}", one_of(BILLS)),
            Self::List(Item::Signer) => {
                "a list of \"minisign:KEY\", \"cosign:KEY\" and \"keyless\", in which KEY is a file or env:VARIABLE"
                    .to_owned()
            }
            Self::Command => "a line for the shell, or a list of words".to_owned(),
            Self::Images => format!(
                "an image with {PYTHON} in it, such as \"python:{PYTHON}-slim\", or a table such as {{ \"3.12\" = \"image\" }}"
            ),
        }
    }

    /// Checks a written value and brings it into its plain form.
    pub(crate) fn check(&self, raw: &Raw) -> Result<Value, Rejected> {
        let no = || Rejected { span: raw.span.clone(), given: raw.to_toml(), hint: None };
        let because = |hint: Option<String>| Rejected { hint, ..no() };
        let data = &raw.data;
        match (self, data) {
            (Self::Bool, Data::Bool(yes)) => Ok(Value::Bool(*yes)),
            (Self::Bool, Data::Text(text)) if text == "true" || text == "false" => {
                Err(because(Some(format!("write {text} without quotes"))))
            }
            (Self::Toggle, Data::Bool(yes)) => Ok(Value::Text(if *yes { "yes" } else { "no" }.to_owned())),
            (Self::Toggle, Data::Text(text)) => match text.to_ascii_lowercase().as_str() {
                word @ ("auto" | "yes" | "no") => Ok(Value::Text(word.to_owned())),
                "true" | "on" | "1" => Ok(Value::Text("yes".to_owned())),
                "false" | "off" | "0" => Ok(Value::Text("no".to_owned())),
                word => Err(because(meant(word, &["auto", "yes", "no"]))),
            },
            (Self::Choice(words), Data::Text(text)) if words.contains(&text.as_str()) => Ok(Value::Text(text.clone())),
            (Self::Choice(words), Data::Text(text)) => Err(because(meant(text, words))),
            (Self::Jobs, Data::Text(text)) if text.eq_ignore_ascii_case("auto") => Ok(Value::Text("auto".to_owned())),
            (Self::Jobs, Data::Integer(number @ 1..=1024)) | (Self::Seconds, Data::Integer(number @ 1..)) => {
                Ok(Value::Integer(number.unsigned_abs()))
            }
            (Self::Count, Data::Integer(number @ 1..=1_000_000)) => Ok(Value::Integer(number.unsigned_abs())),
            (Self::Jobs | Self::Count, Data::Text(text)) if text.parse::<u16>().is_ok() => {
                Err(because(Some("write the number without quotes".to_owned())))
            }
            // A float has no form of its own among the data; how it was written is all that counts.
            (Self::Price, Data::Integer(_) | Data::Other(_) | Data::Text(_)) => {
                let text = if let Data::Text(text) = data { text.trim().to_owned() } else { raw.to_toml() };
                let price = text.parse::<f64>().ok().filter(|price| price.is_finite() && *price >= 0.0);
                price.map(|price| Value::Text(price.to_string())).ok_or_else(no)
            }
            (Self::Seconds, Data::Text(text)) => match parse_duration(text) {
                Ok(duration) if duration.as_secs() > 0 => Ok(Value::Integer(duration.as_secs())),
                _ => Err(no()),
            },
            (Self::Size, Data::Integer(number @ 0..)) => Ok(Value::Text(ByteSize(number.unsigned_abs()).to_string())),
            (Self::Size, Data::Text(text)) => {
                text.parse::<ByteSize>().map(|size| Value::Text(size.to_string())).map_err(|_| no())
            }
            (Self::Requirements, Data::List(items)) => list(items, Item::Text).map(Value::List),
            (Self::List(Item::Python | Item::Release | Item::OneOf(_)), Data::List(items)) if items.is_empty() => {
                Err(no())
            }
            (Self::List(item), Data::List(items)) => list(items, *item).map(Value::List),
            (Self::List(_) | Self::Platforms, Data::Text(text)) => {
                Err(because(Some(format!("write a list: [{}]", quote(text)))))
            }
            (Self::Platforms, Data::List(items)) if !items.is_empty() => platforms(items),
            (Self::Smoke, Data::Bool(false)) => Ok(Value::Bool(false)),
            (Self::Smoke, Data::Bool(true)) => Ok(Value::Text("auto".to_owned())),
            (Self::Smoke | Self::Labels | Self::Command, Data::List(items)) if !items.is_empty() => {
                list(items, Item::Text).map(Value::List)
            }
            (Self::Images, Data::Table(entries)) if !entries.is_empty() => entries
                .iter()
                .map(|(version, image)| match &image.data {
                    Data::Text(text) if is_image_of(&version.text, text) => Ok(format!("{}={text}", version.text)),
                    _ => Err(Rejected { span: image.span.clone(), ..no() }),
                })
                .collect::<Result<_, _>>()
                .map(Value::List),
            // As `kiln config show` prints it.
            (Self::Images, Data::List(items)) if !items.is_empty() => {
                let good =
                    |text: &String| text.split_once('=').is_some_and(|(version, image)| is_image_of(version, image));
                match list(items, Item::Text)? {
                    items if items.iter().all(good) => Ok(Value::List(items)),
                    _ => Err(no()),
                }
            }
            (Self::Arguments, Data::Table(entries)) => entries
                .iter()
                .map(|(name, value)| argument(&name.text, value).map(|value| (name.text.clone(), value)))
                .collect::<Result<_, _>>()
                .map(Value::Pairs),
            (kind, Data::Text(text)) => match kind.check_text(text) {
                Ok(()) => Ok(Value::Text(text.trim().to_owned())),
                Err(hint) => Err(because(hint)),
            },
            (kind, Data::Integer(_) | Data::Other(_)) if kind.is_text() => {
                Err(because(Some(format!("put it in quotes: {}", quote(&raw.to_toml())))))
            }
            _ => Err(no()),
        }
    }

    /// Whether a value of this kind is a plain text.
    fn is_text(&self) -> bool {
        matches!(
            self,
            Self::Text
                | Self::Name
                | Self::Version
                | Self::Python
                | Self::Glibc
                | Self::Image
                | Self::Artifact
                | Self::Path
                | Self::Inside
                | Self::Absolute
                | Self::User
        )
    }

    /// The check of the kinds that are one text; the error is a hint, if there is one to give.
    fn check_text(&self, text: &str) -> Result<(), Option<String>> {
        let text = text.trim();
        if text.is_empty() || text.contains('\0') {
            return Err(None);
        }
        let good = match self {
            Self::Text | Self::Path | Self::Requirements | Self::Labels | Self::Command => true,
            Self::Images => text.contains(PYTHON) && Self::Image.check_text(text).is_ok(),
            Self::Smoke if text.contains(ARTIFACT) => true,
            Self::Smoke => {
                return split_words(text).map(|_| ()).ok_or_else(|| Some("a quotation mark is missing".to_owned()));
            }
            Self::Inside => !text.starts_with('/') && text.split('/').all(|part| part != ".."),
            Self::Absolute => text.starts_with('/') && !text.chars().any(|c| c.is_whitespace() || c == '$'),
            Self::User => {
                let (user, group) = text.split_once(':').unwrap_or((text, text));
                [user, group].iter().all(|part| is_name(part, "._-") || is_name(part.trim_start_matches('_'), "._-"))
            }
            Self::Name => is_name(text, "._-"),
            Self::Version => is_name(text, "._-+!"),
            Self::Glibc => (2..=3).contains(&text.split('.').count()) && text.split('.').all(is_number),
            Self::Python => is_python(text),
            Self::Module => {
                let path = text.trim_end_matches(".py").replace('/', ".");
                let (module, function) = text.split_once(':').unwrap_or((text, "main"));
                return if is_module(module) && is_module(function) && (text == "py" || !has_suffix(text, "py")) {
                    Ok(())
                } else if is_module(&path) {
                    Err(Some(format!("a file is set with `entry`; the module would be {}", quote(&path))))
                } else {
                    Err(None)
                };
            }
            Self::Url => text
                .split_once("://")
                .is_some_and(|(scheme, rest)| is_name(scheme, "+.-") && !rest.is_empty() && !text.contains(' ')),
            Self::Proxy | Self::Image => !text.starts_with('-') && !text.contains(char::is_whitespace),
            Self::Recipe => {
                let base = text.rsplit('/').next().unwrap_or(text).to_ascii_lowercase();
                let path = text.contains(['/', '.', '\\']) || base.starts_with("dockerfile") || base == "containerfile";
                if !path && !RECIPES.contains(&text) {
                    let hint = meant(text, &RECIPES)
                        .unwrap_or_else(|| format!("a file is written {}", quote(&format!("./{text}"))));
                    return Err(Some(hint));
                }
                true
            }
            Self::Artifact => {
                return text.parse::<ArtifactPattern>().map(|_| ()).map_err(|error| Some(error.to_string()));
            }
            _ => false,
        };
        if good { Ok(()) } else { Err(None) }
    }
}

fn list(items: &[Raw], kind: Item) -> Result<Vec<String>, Rejected> {
    items
        .iter()
        .map(|item| match &item.data {
            Data::Text(text) if item_is_good(text.trim(), kind) => Ok(text.trim().to_owned()),
            Data::Text(text) if matches!(kind, Item::Data | Item::Placed) && !text.contains('=') => Err(Rejected {
                span: item.span.clone(),
                given: item.to_toml(),
                hint: Some(format!("write {}", quote(&format!("{text}={text}")))),
            }),
            Data::Text(text) if let Item::OneOf(words) = kind => {
                Err(Rejected { span: item.span.clone(), given: item.to_toml(), hint: meant(text, words) })
            }
            Data::Text(text) if kind == Item::Finding => Err(Rejected {
                span: item.span.clone(),
                given: item.to_toml(),
                hint: meant(finding_name(text), &FINDINGS),
            }),
            // 3.10 as a number is 3.1.
            Data::Integer(_) | Data::Other(_) if matches!(kind, Item::Python | Item::Release | Item::Port) => {
                Err(Rejected {
                    span: item.span.clone(),
                    given: item.to_toml(),
                    hint: Some(format!("put it in quotes: {}", quote(&item.to_toml()))),
                })
            }
            _ => Err(Rejected { span: item.span.clone(), given: item.to_toml(), hint: None }),
        })
        .collect()
}

fn item_is_good(text: &str, kind: Item) -> bool {
    !text.is_empty()
        && match kind {
            Item::Text => true,
            Item::Python => is_python(text) && text.contains('.'),
            Item::Bill => BILLS.contains(&text),
            Item::Signer => {
                let key = text.strip_prefix("minisign:").or(text.strip_prefix("cosign:"));
                text == "keyless" || key.is_some_and(|key| !key.is_empty() && key != "env:")
            }
            Item::Label => text.split_once('=').is_some_and(|(name, _)| is_name(name, "._-/")),
            Item::Port => {
                let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
                port.parse::<u16>().is_ok_and(|port| port > 0) && ["tcp", "udp", "sctp"].contains(&protocol)
            }
            Item::Finding => FINDINGS.contains(&finding_name(text)),
            Item::Word => !text.contains(char::is_whitespace) && !text.starts_with('-'),
            Item::Release => {
                let number = text.strip_suffix("-dev").or(text.strip_suffix('t')).unwrap_or(text);
                Kind::Python.check_text(number).is_ok()
            }
            Item::OneOf(words) => words.contains(&text),
            Item::Placed => text.split_once('=').is_some_and(|(source, target)| {
                let parts = target.trim_start_matches('/').split('/');
                !source.is_empty() && parts.clone().all(|part| !matches!(part, "" | "." | ".."))
            }),
            Item::Data => text.split_once('=').is_some_and(|(source, target)| {
                let inside = !target.starts_with('/') && target.split('/').all(|part| part != "..");
                !source.is_empty() && !target.is_empty() && inside
            }),
        }
}

/// The name in `NAME` or `NAME:FILE`.
fn finding_name(text: &str) -> &str {
    text.split_once(':').map_or(text, |(name, _)| name)
}

/// Platforms in their canonical spelling, each once, in the order given.
fn platforms(items: &[Raw]) -> Result<Value, Rejected> {
    let mut known: Vec<String> = Vec::with_capacity(items.len());
    for item in items {
        let wrong = |hint| Rejected { span: item.span.clone(), given: item.to_toml(), hint };
        let Data::Text(text) = &item.data else { return Err(wrong(None)) };
        let platform = text
            .parse::<Platform>()
            .map_err(|error| wrong(error.suggestion.map(|known| format!("did you mean {}?", quote(&known)))))?
            .to_string();
        if !known.contains(&platform) {
            known.push(platform);
        }
    }
    Ok(Value::List(known))
}

/// The value of one build argument as text.
fn argument(name: &str, value: &Raw) -> Result<String, Rejected> {
    let good_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    match &value.data {
        _ if !good_name => {
            Err(Rejected { span: value.span.clone(), given: format!("an argument named {}", quote(name)), hint: None })
        }
        Data::Text(text) => Ok(text.clone()),
        Data::Integer(number) => Ok(number.to_string()),
        Data::Bool(yes) => Ok(yes.to_string()),
        _ => Err(Rejected { span: value.span.clone(), given: value.to_toml(), hint: None }),
    }
}

/// What stands for the version of Python in the name of an image.
pub(crate) const PYTHON: &str = "{python}";

/// What stands for the path of the artifact in a smoke command.
pub(crate) const ARTIFACT: &str = "{artifact}";

/// The words of a command line: blanks separate, quotation marks of both kinds and `\\` protect, nothing is expanded.
/// Nothing if a quotation mark has no partner.
pub(crate) fn split_words(text: &str) -> Option<Vec<String>> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().push(characters.next()?),
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

fn is_name(text: &str, also: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(c))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.len() < 5 && text.chars().all(|c| c.is_ascii_digit())
}

fn is_python(text: &str) -> bool {
    text.starts_with('3') && text.split('.').all(is_number) && (1..=3).contains(&text.split('.').count())
}

/// Whether this is a version of Python, and that an image.
fn is_image_of(version: &str, image: &str) -> bool {
    is_python(version) && !image.trim().is_empty() && Kind::Image.check_text(image).is_ok()
}

fn is_module(text: &str) -> bool {
    text.split('.').all(|part| {
        part.starts_with(|c: char| c.is_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_alphanumeric() || c == '_')
    })
}

fn has_suffix(text: &str, suffix: &str) -> bool {
    text.rsplit('.').next() == Some(suffix)
}

fn meant(given: &str, words: &[&str]) -> Option<String> {
    nearest(given, words.iter().copied()).map(|word| format!("did you mean {}?", quote(word)))
}

fn one_of(words: &[&str]) -> String {
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => {
            format!("{} or {}", rest.iter().map(|word| quote(word)).collect::<Vec<_>>().join(", "), quote(last))
        }
        _ => words.concat(),
    }
}

#[cfg(test)]
mod tests;
