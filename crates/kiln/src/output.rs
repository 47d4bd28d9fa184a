//! `--output`, `--tag`, `--load`, `--push` and what belongs to them, with buildx's names and meaning.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kiln_docker::StoreKind;
use kiln_docker::registry::ImageName;
use kiln_graph::Platform;
use kiln_solver::image::{Annotation, Compression, Export, ImageArchive, ImageForm, Level, MediaTypes};

use crate::cli;
use crate::error::{CliError, Result};
use crate::fields;

/// Where docker keeps certificate authorities of registries.
pub(crate) const CERTIFICATES: &str = "/etc/docker/certs.d";
/// The latest time that an image may claim. Source: reproducible-builds.org.
pub(crate) const EPOCH: &str = "SOURCE_DATE_EPOCH";

const TYPES: &str = "write --output type=local|tar|docker|image|registry|oci|cacheonly[,dest=PATH][,name=NAME]";

/// What the command line asks for.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// The folder for files, as written.
    pub(crate) folder: Option<PathBuf>,
    /// What is made of all targets together; `-` stands for [`Asked::stdout`] already.
    pub(crate) exports: Vec<Export>,
    /// The file whose content goes to standard output in the end.
    pub(crate) stdout: Option<PathBuf>,
    /// Whether any output was named.
    pub(crate) explicit: bool,
}

/// One `--output`, taken apart.
struct Spec<'t> {
    text: &'t str,
    fields: Vec<(String, String)>,
}

/// Reads the options. `spool` is a file for what goes to standard output.
pub(crate) fn asked(args: &cli::Build, spool: &Path) -> Result<Asked> {
    let tags = names(&args.tags, "--tag")?;
    let annotations = args.annotations.iter().map(|text| annotation(text)).collect::<Result<Vec<_>>>()?;
    let mut asked = Asked { explicit: !args.output.is_empty() || args.load || args.push, ..Asked::default() };
    let (mut is_loaded, mut is_pushed) = (false, false);
    for text in &args.output {
        let spec = Spec::parse(text)?;
        let kind = spec.value("type").unwrap_or_default();
        is_loaded |= kind == "docker" && spec.value("dest").is_none();
        is_pushed |= kind == "registry" || (kind == "image" && (args.push || spec.is_set("push")?));
        one(&spec, args.push, &tags, &annotations, spool, &mut asked)?;
    }
    if args.load && !is_loaded {
        asked.exports.push(Export::Load { names: tags.clone(), rewritten: false });
    }
    if args.push && !is_pushed {
        let form = ImageForm { annotations, ..ImageForm::default() };
        asked.exports.push(push(tags.clone(), false, form)?);
    }
    // As with buildx on a daemon of its own: an image with these names.
    if !asked.explicit && !tags.is_empty() {
        asked.exports.push(Export::Load { names: tags, rewritten: false });
        asked.explicit = true;
    }
    Ok(asked)
}

/// The folder of `-o FOLDER` or `-o type=local,dest=FOLDER`, if that is asked for.
pub(crate) fn folder(args: &cli::Build) -> Result<Option<PathBuf>> {
    asked(args, Path::new("-")).map(|asked| asked.folder)
}

/// `--label NAME=VALUE`; a name alone is a label without a value.
pub(crate) fn labels(texts: &[String]) -> Result<BTreeMap<String, String>> {
    let label = |text: &String| match text.split_once('=').unwrap_or((text, "")) {
        ("", _) => Err(CliError::Usage {
            problem: format!("--label `{text}` has no name"),
            hint: "write --label NAME=VALUE".to_owned(),
        }),
        (name, value) => Ok((name.to_owned(), value.to_owned())),
    };
    texts.iter().map(label).collect()
}

/// `SOURCE_DATE_EPOCH` among the build arguments.
pub(crate) fn epoch(args: &BTreeMap<String, String>) -> Result<Option<i64>> {
    let Some(text) = args.get(EPOCH).filter(|text| !text.is_empty()) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| CliError::Usage {
        problem: format!("{EPOCH}=`{text}` is no time"),
        hint: "it is a number of seconds since 1970, as `date +%s` prints".to_owned(),
    })
}

/// Several platforms make an index, which neither the classic image store nor an archive for `docker load` takes.
pub(crate) fn check_platforms(exports: &[Export], platforms: &[Platform], store: StoreKind) -> Result<()> {
    let single = |export: &&Export| match export {
        Export::Load { .. } => store == StoreKind::Classic,
        Export::Archive(archive) => archive.docker,
        _ => false,
    };
    if platforms.len() < 2 || exports.iter().find(single).is_none() {
        return Ok(());
    }
    let list: Vec<String> = platforms.iter().map(ToString::to_string).collect();
    Err(CliError::Usage {
        problem: format!("an image of several platforms ({}) cannot be loaded into the daemon", list.join(", ")),
        hint: "push it with --push, write it with --output type=oci,dest=FILE, or name one --platform; the containerd \
               image store can hold it"
            .to_owned(),
    })
}

fn one(
    spec: &Spec<'_>,
    with_push: bool,
    tags: &[ImageName],
    annotations: &[Annotation],
    spool: &Path,
    asked: &mut Asked,
) -> Result<()> {
    let dest = spec.value("dest").filter(|dest| !dest.is_empty());
    let file = |asked: &mut Asked| -> Result<PathBuf> {
        match dest {
            Some(path) if path != "-" => Ok(std::path::absolute(path).map_err(CliError::io("find", path))?),
            _ if asked.stdout.is_some() => Err(spec.wrong("standard output is taken by another --output")),
            _ => {
                asked.stdout = Some(spool.to_owned());
                Ok(spool.to_owned())
            }
        }
    };
    // As with buildx, `--tag` has the last word.
    let names = match spec.value("name").filter(|_| tags.is_empty()) {
        Some(list) if !list.is_empty() => {
            names(&list.split(',').map(|name| name.trim().to_owned()).collect::<Vec<_>>(), "--output name=")?
        }
        _ => tags.to_vec(),
    };
    let form = |types| spec.form(types, annotations);
    match spec.value("type").unwrap_or_default() {
        "local" => {
            let Some(dest) = dest else { return Err(spec.wrong("dest is required for type=local")) };
            if asked.folder.replace(PathBuf::from(dest)).is_some() {
                return Err(spec.wrong("there can be one folder for files"));
            }
        }
        "tar" => {
            let dest = file(asked)?;
            asked.exports.push(Export::Tar { dest });
        }
        "cacheonly" => {}
        "registry" => {
            let form = form(MediaTypes::Oci)?;
            asked.exports.push(push(names, spec.is_set("registry.insecure")?, form)?);
        }
        "image" => {
            if with_push || spec.is_set("push")? {
                let form = form(MediaTypes::Oci)?;
                asked.exports.push(push(names, spec.is_set("registry.insecure")?, form)?);
            } else {
                let rewritten = form(MediaTypes::Oci)?.rewritten;
                asked.exports.push(Export::Load { names, rewritten });
            }
        }
        "docker" if dest.is_none() => {
            asked.exports.push(Export::Load { names, rewritten: spec.is_set("rewrite-timestamp")? });
        }
        kind @ ("docker" | "oci") => {
            let docker = kind == "docker";
            let folder = spec.value("tar").is_some() && !spec.is_set("tar")?;
            if folder && dest.is_none_or(|dest| dest == "-") {
                return Err(spec.wrong("tar=false writes a folder, which dest must name"));
            }
            let form = form(if docker { MediaTypes::Docker } else { MediaTypes::Oci })?;
            let dest = file(asked)?;
            asked.exports.push(Export::Archive(ImageArchive { dest, folder, docker, names, form }));
        }
        "" => return Err(spec.wrong("type is required")),
        other => return Err(spec.wrong(&format!("there is no type `{other}`"))),
    }
    Ok(())
}

fn push(names: Vec<ImageName>, insecure: bool, form: ImageForm) -> Result<Export> {
    if names.is_empty() {
        return Err(CliError::Usage {
            problem: "an image needs a name to be pushed".to_owned(),
            hint: "add --tag registry.example/name:tag".to_owned(),
        });
    }
    Ok(Export::Push { names, insecure, form })
}

fn names(texts: &[String], option: &str) -> Result<Vec<ImageName>> {
    let name = |text: &String| {
        ImageName::parse(text).map_err(|error| CliError::Usage {
            problem: format!("{option}: {error}"),
            hint: error.hint().unwrap_or_default(),
        })
    };
    texts.iter().map(name).collect()
}

impl<'t> Spec<'t> {
    fn parse(text: &'t str) -> Result<Self> {
        let spec = |fields: Vec<(&str, String)>| Self {
            text,
            fields: fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        };
        if text.is_empty() {
            return Err(spec(vec![]).wrong("it is empty"));
        }
        let fields = fields::split(text);
        if fields.len() == 1 && !text.starts_with("type=") {
            return Ok(spec(match text {
                "-" => vec![("type", "tar".to_owned()), ("dest", "-".to_owned())],
                folder => vec![("type", "local".to_owned()), ("dest", folder.to_owned())],
            }));
        }
        let mut found = Vec::new();
        for field in &fields {
            let Some((name, value)) = field.split_once('=') else {
                return Err(spec(vec![]).wrong(&format!("`{field}` is no key=value")));
            };
            found.push((name.trim().to_lowercase(), value.to_owned()));
        }
        let spec = Self { text, fields: found };
        if let Some((name, _)) = spec.fields.iter().find(|(name, _)| !is_known(name)) {
            return Err(spec.wrong(&format!("there is no option `{name}`")));
        }
        if spec.is_set("push-by-digest")? {
            return Err(spec.wrong("`push-by-digest` is not supported"));
        }
        Ok(spec)
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.fields.iter().rev().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// A switch, by Go's rules.
    fn is_set(&self, name: &str) -> Result<bool> {
        match self.value(name) {
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some(other) => Err(self.wrong(&format!("`{name}={other}` is neither true nor false"))),
        }
    }

    fn form(&self, types: MediaTypes, annotations: &[Annotation]) -> Result<ImageForm> {
        let types = match self.value("oci-mediatypes") {
            None => types,
            Some(_) if self.is_set("oci-mediatypes")? => MediaTypes::Oci,
            Some(_) => MediaTypes::Docker,
        };
        let compression = match self.value("compression") {
            None | Some("gzip") => Compression::Gzip,
            Some("uncompressed") => Compression::None,
            Some(other) => {
                return Err(self.wrong(&format!("compression `{other}` is not supported: gzip or uncompressed")));
            }
        };
        let mut annotations = annotations.to_vec();
        for (name, value) in &self.fields {
            let Some(rest) = name.strip_prefix("annotation") else { continue };
            let level = |text: &str| level(text).ok_or_else(|| self.wrong(&format!("`{name}` is no annotation")));
            let (at, key) = if let Some(key) = rest.strip_prefix('.') {
                (Level::Manifest(None), key)
            } else {
                let (at, key) = rest.trim_start_matches('-').split_once('.').unwrap_or_default();
                (level(at)?, key)
            };
            annotations.push(Annotation { level: at, name: key.to_owned(), value: value.clone() });
        }
        Ok(ImageForm { types, compression, annotations, rewritten: self.is_set("rewrite-timestamp")? })
    }

    fn wrong(&self, problem: &str) -> CliError {
        CliError::Usage { problem: format!("--output `{}`: {problem}", self.text), hint: TYPES.to_owned() }
    }
}

/// Whether buildx knows the option. What has no meaning here (`unpack`, `store`) is accepted all the same.
fn is_known(name: &str) -> bool {
    const NAMES: [&str; 21] = [
        "type",
        "dest",
        "name",
        "push",
        "push-by-digest",
        "registry.insecure",
        "tar",
        "oci-mediatypes",
        "oci-artifact",
        "compression",
        "compression-level",
        "force-compression",
        "rewrite-timestamp",
        "unpack",
        "store",
        "name-canonical",
        "dangling-name-prefix",
        "buildinfo",
        "context",
        "platform-split",
        "attestation-inline",
    ];
    NAMES.contains(&name) || name.starts_with("annotation")
}

/// `[index,manifest[platform]:]name=value`.
fn annotation(text: &str) -> Result<Annotation> {
    let wrong = || CliError::Usage {
        problem: format!("--annotation `{text}` makes no sense"),
        hint: "write NAME=VALUE, manifest[linux/amd64]:NAME=VALUE or index:NAME=VALUE".to_owned(),
    };
    let (key, value) = text.split_once('=').ok_or_else(wrong)?;
    let (at, name) = match key.split_once(':') {
        Some((at, name)) => (level(at).ok_or_else(wrong)?, name),
        None => (Level::Manifest(None), key),
    };
    if name.is_empty() {
        return Err(wrong());
    }
    Ok(Annotation { level: at, name: name.to_owned(), value: value.to_owned() })
}

fn level(text: &str) -> Option<Level> {
    match text {
        "index" => Some(Level::Index),
        "manifest" => Some(Level::Manifest(None)),
        _ => {
            let platform = text.strip_prefix("manifest[")?.strip_suffix(']')?;
            platform.parse().ok().map(|platform| Level::Manifest(Some(platform)))
        }
    }
}

#[cfg(test)]
mod tests;
