//! GitLab's API. Sources: "Releases API", "Release links API", "Packages API", "GitLab generic packages repository".

use serde_json::{Value, json};

use super::{JOB_TOKEN, Package, REPOSITORY, Release, Stored, World, may, message_of, page, text};
use crate::wire::{Answer, Head};

fn not_found() -> Answer {
    message_of(404, "404 Not found")
}

fn release(world: &World, release: &Release) -> Value {
    let links = release.links.iter().map(|(id, name, url)| json!({ "id": id, "name": name, "url": url }));
    json!({
        "tag_name": release.tag, "name": release.name, "description": release.body, "commit": { "id": release.target },
        "assets": { "count": release.links.len(), "links": links.collect::<Vec<_>>() },
        "_links": { "self": format!("{}/{REPOSITORY}/-/releases/{}", world.url, release.tag) },
    })
}

fn package_file(world: &World, package: u64, stored: &Stored) -> Value {
    json!({
        "id": stored.id, "package_id": package, "file_name": stored.name, "size": stored.bytes.len(),
        "file_sha256": world.has_digests.then(|| stored.sha256()), "file_md5": null,
    })
}

/// The file behind an address, the newest of its name.
pub(super) fn linked<'a>(world: &'a World, url: &str) -> Option<&'a Stored> {
    let (_, rest) = url.split_once("/packages/generic/")?;
    let parts: Vec<&str> = rest.split('/').collect();
    let [name, version, file] = parts.as_slice() else { return None };
    let package = world.packages.iter().find(|package| package.name == *name && package.version == *version)?;
    package.files.iter().rev().find(|stored| stored.name == *file)
}

pub(super) fn answer(world: &mut World, head: &Head, body: &[u8]) -> Result<Answer, Answer> {
    let is_of_job = head.header("job-token") == Some(JOB_TOKEN);
    let token = head.header("private-token").or(head.header("job-token").filter(|_| is_of_job));
    may(head, token, "401 Unauthorized", || {
        Answer::json(403, &json!({ "error": "insufficient_scope", "scope": "api" }))
    })?;
    let path = head.path.strip_prefix("/api/v4/projects/").and_then(|path| path.strip_prefix(REPOSITORY));
    let path = path.ok_or_else(|| message_of(404, "404 Project Not Found"))?;
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let parsed = || serde_json::from_slice::<Value>(body).map_err(|_| message_of(400, "not JSON"));
    match (head.method.as_str(), parts.as_slice()) {
        ("GET", ["repository", ..]) if is_of_job => Err(message_of(401, "401 Unauthorized")),
        ("GET", ["repository", "commits", sha]) if world.commits.iter().any(|commit| commit == sha) => {
            Ok(Answer::json(200, &json!({ "id": sha })))
        }
        ("GET", ["repository", "tags", tag @ ..]) => {
            let tag = tag.join("/");
            let (commit, _) = world.tags.get(&tag).ok_or_else(|| message_of(404, "404 Tag Not Found"))?;
            Ok(Answer::json(200, &json!({ "name": tag, "commit": { "id": commit } })))
        }
        ("GET", ["releases"]) => {
            let all = world.releases.iter().rev().map(|found| release(world, found)).collect();
            Ok(Answer::json(200, &Value::Array(page(head, all, "per_page"))))
        }
        ("POST", ["releases"]) => create(world, &parsed()?),
        (method, ["releases", tag]) => {
            let at = world.releases.iter().position(|release| release.tag == *tag).ok_or_else(not_found)?;
            if method == "PUT" {
                let value = parsed()?;
                let changed = &mut world.releases[at];
                changed.name = text(&value, "name").unwrap_or_default();
                changed.body = text(&value, "description").unwrap_or_default();
            }
            Ok(Answer::json(200, &release(world, &world.releases[at])))
        }
        (method, ["releases", tag, "assets", "links", rest @ ..]) => link(world, tag, method, rest.first(), &parsed()?),
        ("GET", ["packages"]) => {
            let part = head.query("package_name").unwrap_or_default();
            let version = head.query("package_version");
            let fits = |package: &&Package| {
                package.name.contains(part) && version.is_none_or(|version| package.version == version)
            };
            let all = world.packages.iter().filter(fits);
            let seen =
                |package: &Package| json!({ "id": package.id, "name": package.name, "version": package.version });
            Ok(Answer::json(200, &Value::Array(page(head, all.map(seen).collect(), "per_page"))))
        }
        ("GET", ["packages", id, "package_files"]) => {
            let package = world.packages.iter().find(|package| package.id.to_string() == *id).ok_or_else(not_found)?;
            let files = package.files.iter().map(|stored| package_file(world, package.id, stored)).collect();
            Ok(Answer::json(200, &Value::Array(page(head, files, "per_page"))))
        }
        ("DELETE", ["packages", id, "package_files", file]) => {
            let package = world.packages.iter_mut().find(|package| package.id.to_string() == *id);
            let package = package.ok_or_else(not_found)?;
            package.files.retain(|stored| stored.id.to_string() != *file);
            Ok(Answer::new(204, ""))
        }
        ("GET", ["packages", "generic", ..]) => {
            linked(world, &head.path).map(|stored| Answer::new(200, stored.bytes.clone())).ok_or_else(not_found)
        }
        ("PUT", ["packages", "generic", name, version, file]) => {
            let (id, new) = (world.next(), world.next());
            let is_it = |package: &Package| package.name == *name && package.version == *version;
            if !world.packages.iter().any(is_it) {
                let (name, version) = ((*name).to_owned(), (*version).to_owned());
                world.packages.push(Package { id, name, version, files: Vec::new() });
            }
            let package = world.packages.iter_mut().find(|package| is_it(package)).expect("it was just made");
            package.files.push(Stored { id: new, name: (*file).to_owned(), bytes: body.to_vec(), complete: true });
            let package = world.packages.iter().find(|package| is_it(package)).expect("it was just made");
            let stored = package.files.last().expect("it was just put there");
            let full = head.query("select") == Some("package_file");
            let told = if full { package_file(world, package.id, stored) } else { json!({ "message": "201 Created" }) };
            Ok(Answer::json(201, &told))
        }
        _ => Err(not_found()),
    }
}

fn create(world: &mut World, value: &Value) -> Result<Answer, Answer> {
    let tag = text(value, "tag_name").ok_or_else(|| message_of(400, "tag_name is missing"))?;
    if world.releases.iter().any(|release| release.tag == tag) {
        return Err(message_of(409, "Release already exists"));
    }
    if !world.tags.contains_key(&tag) {
        let reference = text(value, "ref").filter(|reference| world.commits.contains(reference));
        let commit = reference.ok_or_else(|| message_of(422, "Ref is not specified"))?;
        world.tags.insert(tag.clone(), (commit, false));
    }
    let links = value.pointer("/assets/links").and_then(Value::as_array).cloned().unwrap_or_default();
    let links: Vec<(u64, String, String)> = links
        .iter()
        .map(|link| (world.next(), text(link, "name").unwrap_or_default(), text(link, "url").unwrap_or_default()))
        .collect();
    let names = links.iter().filter_map(|(_, _, url)| linked(world, url)).map(|stored| stored.name.clone()).collect();
    let target = world.tags[&tag].0.clone();
    let (name, body) = (text(value, "name").unwrap_or_default(), text(value, "description").unwrap_or_default());
    let new = Release { id: world.next(), tag, name, body, target, links, ..Release::default() };
    let answer = release(world, &new);
    world.releases.push(new);
    world.show(names);
    Ok(Answer::json(201, &answer))
}

fn link(world: &mut World, tag: &str, method: &str, id: Option<&&str>, value: &Value) -> Result<Answer, Answer> {
    let new = world.next();
    let release = world.releases.iter_mut().find(|release| release.tag == tag).ok_or_else(not_found)?;
    let (name, url) = (text(value, "name").unwrap_or_default(), text(value, "url").unwrap_or_default());
    match (method, id) {
        ("POST", None) if release.links.iter().any(|(_, known, _)| *known == name) => {
            return Err(Answer::json(400, &json!({ "message": { "name": ["has already been taken"] } })));
        }
        ("POST", None) => release.links.push((new, name.clone(), url.clone())),
        ("PUT", Some(id)) => {
            let known =
                release.links.iter_mut().find(|(known, _, _)| known.to_string() == **id).ok_or_else(not_found)?;
            known.1.clone_from(&name);
            known.2.clone_from(&url);
        }
        _ => return Err(not_found()),
    }
    Ok(Answer::json(201, &json!({ "id": new, "name": name, "url": url })))
}
