//! `RUN --mount`. Options are split and their names checked when the file is read; values may hold variables, so they
//! are understood when the instruction is lowered, or at once if they hold none.

use kiln_graph::Sharing;

use super::lines::Part;
use super::units::{boolean, size};
use super::words::invalid;
use crate::ast::{MOUNT_OPTIONS, MOUNT_TYPES, MountFlag, MountOption};
use crate::suggest::nearest;
use crate::{Error, ErrorKind, Span, Word};

/// What a mount flag says once its values are known.
#[derive(Debug)]
pub(crate) struct MountRequest {
    /// One of [`MOUNT_TYPES`].
    pub(crate) kind: &'static str,
    /// Path in what is mounted.
    pub(crate) source: String,
    /// Path in the container; may be empty or relative.
    pub(crate) target: String,
    pub(crate) readonly: bool,
    pub(crate) id: String,
    pub(crate) sharing: Sharing,
    pub(crate) required: bool,
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) size: Option<u64>,
    pub(crate) env: Option<String>,
    pub(crate) span: Span,
}

/// Reads the value of a `--mount`.
pub(super) fn read(value: &Word, part: Part<'_>) -> Result<MountFlag, Error> {
    // Option places are exact if no quotes were removed in front of them.
    let prefix = part.text().strip_suffix(value.value.as_str()).map(str::len);
    let at = |from: usize, to: usize| prefix.map_or(value.span, |start| part.slice(start + from, start + to).span());
    let mut options = Vec::new();
    for (start, end) in csv(&value.value) {
        let field = &value.value[start..end];
        let (written, option_value) = field.split_once('=').map_or((field, None), |(name, value)| (name, Some(value)));
        let name = written.to_lowercase();
        if !MOUNT_OPTIONS.contains(&name.as_str()) {
            let suggestion = nearest(&name, MOUNT_OPTIONS);
            let kind = ErrorKind::UnknownMountOption { option: written.to_owned(), suggestion };
            return Err(Error::new(kind, at(start, end)));
        }
        let option_value = option_value.map(|text| {
            let span = at(start + written.len() + 1, end);
            Word { value: text.trim_matches('"').to_owned(), span }
        });
        match &option_value {
            None if !matches!(name.as_str(), "ro" | "readonly" | "rw" | "readwrite" | "required") => {
                return Err(Error::new(ErrorKind::NotKeyValue { word: field.to_owned() }, at(start, end)));
            }
            Some(word) if name == "from" && word.value.contains('$') => {
                return Err(Error::new(ErrorKind::VariableInFrom { value: word.value.clone() }, word.span));
            }
            _ => {}
        }
        options.push(MountOption { name, value: option_value });
    }
    let flag = MountFlag { options, span: part.span() };
    let literal = |option: &MountOption| option.value.as_ref().is_none_or(|v| !v.value.contains(['$', '\\', '\'']));
    if flag.options.iter().all(literal) {
        flag.resolve(&mut |word| Ok(word.value.clone()))?;
    }
    Ok(flag)
}

/// The fields of a comma-separated line, as byte ranges; a comma in double quotes separates nothing.
fn csv(text: &str) -> Vec<(usize, usize)> {
    let mut fields = Vec::new();
    let (mut start, mut quoted) = (0, false);
    for (index, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => {
                fields.push((start, index));
                start = index + 1;
            }
            _ => {}
        }
    }
    fields.push((start, text.len()));
    fields
}

impl MountFlag {
    /// Understands the values, each first expanded by `expand`.
    pub(crate) fn resolve(
        &self,
        expand: &mut dyn FnMut(&Word) -> Result<String, Error>,
    ) -> Result<MountRequest, Error> {
        let mut request = MountRequest {
            kind: "bind",
            source: String::new(),
            target: String::new(),
            readonly: false,
            id: String::new(),
            sharing: Sharing::Shared,
            required: false,
            mode: None,
            uid: None,
            gid: None,
            size: None,
            env: None,
            span: self.span,
        };
        let (mut readonly, mut seen) = (None, Vec::new());
        for option in &self.options {
            let word = match &option.value {
                Some(value) => Word { value: expand(value)?, span: value.span },
                None => Word { value: "true".into(), span: self.span },
            };
            let flag = || boolean(&word.value).ok_or_else(|| invalid(what(&option.name), &word, "true or false"));
            let octal = || u32::from_str_radix(&word.value, 8).map_err(|_| invalid("`mode`", &word, "an octal number"));
            let decimal = || word.value.parse().map_err(|_| invalid(what(&option.name), &word, "a number"));
            match option.name.as_str() {
                "type" => {
                    let lower = word.value.to_lowercase();
                    request.kind = MOUNT_TYPES.into_iter().find(|kind| *kind == lower).ok_or_else(|| {
                        let suggestion = nearest(&lower, MOUNT_TYPES);
                        Error::new(ErrorKind::UnknownMountType { given: word.value.clone(), suggestion }, word.span)
                    })?;
                }
                "source" | "src" => request.source.clone_from(&word.value),
                "target" | "dst" | "destination" => request.target.clone_from(&word.value),
                "ro" | "readonly" => readonly = Some(flag()?),
                "rw" | "readwrite" => readonly = Some(!flag()?),
                "required" => {
                    request.required = flag()?;
                    seen.push(("required", word.span));
                }
                "id" => request.id.clone_from(&word.value),
                "sharing" => {
                    request.sharing = match word.value.to_lowercase().as_str() {
                        "shared" => Sharing::Shared,
                        "private" => Sharing::Private,
                        "locked" => Sharing::Locked,
                        _ => return Err(invalid("`sharing`", &word, "shared, private or locked")),
                    };
                    seen.push(("sharing", word.span));
                }
                "mode" => {
                    request.mode = Some(octal()?);
                    seen.push(("mode", word.span));
                }
                "uid" => {
                    request.uid = Some(decimal()?);
                    seen.push(("uid", word.span));
                }
                "gid" => {
                    request.gid = Some(decimal()?);
                    seen.push(("gid", word.span));
                }
                "size" => {
                    let bytes =
                        size(&word.value).ok_or_else(|| invalid("`size`", &word, "bytes, or a number with k, m or g"));
                    request.size = Some(bytes?);
                    seen.push(("size", word.span));
                }
                "env" => {
                    request.env = Some(word.value.clone());
                    seen.push(("env", word.span));
                }
                "from" => seen.push(("from", word.span)),
                _ => {}
            }
        }
        for (option, span) in seen {
            let kinds: &[&str] = match option {
                "required" => &["secret", "ssh"],
                "sharing" => &["cache"],
                "mode" | "uid" | "gid" => &["cache", "secret", "ssh"],
                "size" => &["tmpfs"],
                "env" => &["secret"],
                _ => &["bind", "cache"],
            };
            // BuildKit ignores `from` of a tmpfs and an agent, and so must we.
            let ignored = option == "from" && matches!(request.kind, "tmpfs" | "ssh");
            if !kinds.contains(&request.kind) && !ignored {
                return Err(Error::new(ErrorKind::MountOptionNotAllowed { option, kind: request.kind }, span));
            }
        }
        if request.kind == "secret" {
            let nameless = request.source.is_empty() && request.target.is_empty() && request.id.is_empty();
            if nameless || !request.source.is_empty() && !request.id.is_empty() {
                return Err(Error::new(ErrorKind::SecretName, self.span));
            }
        }
        request.readonly = readonly.unwrap_or(!matches!(request.kind, "cache" | "tmpfs"));
        Ok(request)
    }
}

fn what(option: &str) -> String {
    format!("`{option}`")
}
