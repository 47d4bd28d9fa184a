//! `--metadata-file`, `--iidfile` and what goes to standard output at the end, as buildx writes them.

use std::io::Write;
use std::path::Path;

use kiln_artifact::place;
use kiln_solver::image::{ImageResult, Published};
use serde_json::{Map, Value, json};

use crate::cli;
use crate::error::{CliError, Result};

/// Writes the files that were asked for. `build` is the id of the build.
pub(crate) fn write(args: &cli::Build, build: &str, published: Option<&Published>) -> Result<()> {
    let image = published.and_then(|published| published.image.as_ref());
    if let Some(file) = &args.metadata_file {
        let mut bytes = serde_json::to_vec_pretty(&document(build, image))
            .map_err(|error| CliError::io("write", file)(error.into()))?;
        bytes.push(b'\n');
        place::write_atomically(file, 0o644, &bytes)?;
    }
    if let (Some(file), Some(id)) = (&args.iidfile, image.and_then(ImageResult::id)) {
        place::write_atomically(file, 0o644, id.as_bytes())?;
    }
    Ok(())
}

/// The document, with buildx's keys.
fn document(build: &str, image: Option<&ImageResult>) -> Value {
    let mut document = Map::new();
    document.insert("buildx.build.ref".to_owned(), format!("kiln/kiln/{build}").into());
    if let Some(image) = image {
        if let Some(config) = &image.config {
            document.insert("containerimage.config.digest".to_owned(), config.as_str().into());
        }
        if let Some(descriptor) = &image.descriptor {
            document.insert("containerimage.descriptor".to_owned(), json!(descriptor));
        }
        if let Some(digest) = image.digest() {
            document.insert("containerimage.digest".to_owned(), digest.into());
        }
        if !image.names.is_empty() {
            let names: Vec<String> = image.names.iter().map(ToString::to_string).collect();
            document.insert("image.name".to_owned(), names.join(",").into());
        }
    }
    Value::Object(document)
}

/// Copies a finished file to standard output and removes it.
pub(crate) fn to_stdout(file: &Path) -> Result<()> {
    let mut from = fs_err::File::open(file).map_err(CliError::io("read", file))?;
    let mut out = std::io::stdout().lock();
    std::io::copy(&mut from, &mut out)
        .and_then(|_| out.flush())
        .map_err(CliError::io("write to", "standard output"))?;
    // It is in the state folder, where the next build would remove it.
    let _ = fs_err::remove_file(file);
    Ok(())
}

#[cfg(test)]
mod tests {
    use kiln_docker::registry::ImageName;

    use super::*;

    #[test]
    fn the_document_has_buildxs_keys() {
        let names = ["a/b:1", "c:2"].map(|name| ImageName::parse(name).expect("valid")).to_vec();
        let image = ImageResult { config: Some("sha256:c".to_owned()), descriptor: None, names };
        let expected = json!({
            "buildx.build.ref": "kiln/kiln/b1",
            "containerimage.config.digest": "sha256:c",
            "containerimage.digest": "sha256:c",
            "image.name": "docker.io/a/b:1,docker.io/library/c:2",
        });
        assert_eq!(document("b1", Some(&image)), expected);
        assert_eq!(document("b1", None), json!({ "buildx.build.ref": "kiln/kiln/b1" }));
    }
}
