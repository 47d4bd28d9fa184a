//! `--metadata-file`, `--iidfile` and what goes to standard output at the end, as buildx writes them.

use std::io::Write;
use std::path::Path;

use kiln_artifact::place;
use kiln_solver::SolveError;
use kiln_solver::image::{ImageResult, Published};
use serde_json::{Map, Value, json};

use crate::error::{CliError, Result};
use crate::job::Job;

/// Writes what `--metadata-file` asks for: the facts about the result, or those of each target of a bake file by its
/// name. `build` is the id of the build, and what was made has the order of the job's items.
pub(crate) fn write(
    file: &Path,
    job: &Job,
    build: &str,
    published: &[Option<Result<Published, SolveError>>],
) -> Result<()> {
    let mut documents = Map::new();
    for (item, published) in job.items.iter().zip(published) {
        let document = document(build, image(published.as_ref()));
        match item.name() {
            Some(name) => drop(documents.insert(name.to_owned(), document.into())),
            None => documents = document,
        }
    }
    let mut bytes = serde_json::to_vec_pretty(&documents).map_err(|error| CliError::io("write", file)(error.into()))?;
    bytes.push(b'\n');
    Ok(place::write_atomically(file, 0o644, &bytes)?)
}

/// Writes what `--iidfile` asks for, if there is an image.
pub(crate) fn write_id(file: &Path, published: Option<&Result<Published, SolveError>>) -> Result<()> {
    match image(published).and_then(ImageResult::id) {
        Some(id) => Ok(place::write_atomically(file, 0o644, id.as_bytes())?),
        None => Ok(()),
    }
}

fn image(published: Option<&Result<Published, SolveError>>) -> Option<&ImageResult> {
    published?.as_ref().ok()?.image.as_ref()
}

/// The document, with buildx's keys.
fn document(build: &str, image: Option<&ImageResult>) -> Map<String, Value> {
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
    document
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
        assert_eq!(Value::Object(document("b1", Some(&image))), expected);
        assert_eq!(Value::Object(document("b1", None)), json!({ "buildx.build.ref": "kiln/kiln/b1" }));
    }
}
