//! GitHub's API. Source: "REST API endpoints for releases", "... for release assets", "... for Git references".

use serde_json::{Value, json};

use super::{READ_TOKEN, REPOSITORY, Release, Stored, World, apply, may, message_of, page};
use crate::wire::{Answer, Head};

/// The object of a tag with a message.
const TAG_OBJECT: &str = "7a60000000000000000000000000000000000000";
const API: &str = "/api/v3/repos/";
const UPLOADS: &str = "/api/uploads/repos/";

fn not_found() -> Answer {
    message_of(404, "Not Found")
}

fn invalid(resource: &str, code: &str, field: &str) -> Answer {
    let errors = json!([{ "resource": resource, "code": code, "field": field }]);
    Answer::json(422, &json!({ "message": "Validation Failed", "errors": errors }))
}

/// What is asked of the repository, if it is that.
fn within<'a>(head: &'a Head, base: &str) -> Option<&'a str> {
    head.path.strip_prefix(base)?.strip_prefix(REPOSITORY)
}

/// As GitHub names a file.
fn renamed(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.+@".contains(c) { c } else { '.' }).collect()
}

fn asset(world: &World, stored: &Stored) -> Value {
    let digest = (world.has_digests && stored.complete).then(|| format!("sha256:{}", stored.sha256()));
    json!({
        "id": stored.id, "url": format!("{}{API}{REPOSITORY}/releases/assets/{}", world.url, stored.id),
        "name": stored.name, "label": "", "state": if stored.complete { "uploaded" } else { "starter" },
        "content_type": "application/octet-stream", "size": stored.bytes.len(), "digest": digest,
        "browser_download_url": format!("{}/{REPOSITORY}/releases/download/{}", world.url, stored.name),
    })
}

fn release(world: &World, release: &Release) -> Value {
    let (url, id) = (&world.url, release.id);
    let page = if release.draft { format!("untagged-{id}") } else { release.tag.clone() };
    json!({
        "id": id, "tag_name": release.tag, "name": release.name, "body": release.body, "draft": release.draft,
        "prerelease": release.prerelease, "target_commitish": release.target,
        "html_url": format!("{url}/{REPOSITORY}/releases/tag/{page}"),
        "upload_url": format!("{url}{UPLOADS}{REPOSITORY}/releases/{id}/assets{{?name,label}}"),
        "assets": release.assets.iter().map(|stored| asset(world, stored)).collect::<Vec<_>>(),
    })
}

/// The id in a path such as `/releases/1` or `/releases/1/assets`.
fn id_in(path: &str, before: &str, after: &str) -> Option<u64> {
    path.strip_prefix(before)?.strip_suffix(after)?.parse().ok()
}

pub(super) fn leave_starter(world: &mut World, head: &Head) {
    let Some(id) = within(head, UPLOADS).and_then(|path| id_in(path, "/releases/", "/assets")) else { return };
    let (new, name) = (world.next(), renamed(head.query("name").unwrap_or_default()));
    let Some(release) = world.releases.iter_mut().find(|release| release.id == id) else { return };
    if release.assets.iter().all(|stored| stored.name != name) {
        release.assets.push(Stored { id: new, name, bytes: Vec::new(), complete: false });
    }
}

pub(super) fn answer(world: &mut World, head: &Head, body: &[u8]) -> Result<Answer, Answer> {
    if let Some(id) = head.path.strip_prefix("/storage/") {
        // Its addresses are signed, and a second authorization is an error.
        if head.header("authorization").is_some() {
            return Err(Answer::new(400, "<Error>InvalidArgument</Error>"));
        }
        let stored =
            world.releases.iter().flat_map(|release| &release.assets).find(|stored| stored.id.to_string() == id);
        return stored.map(|stored| Answer::new(200, stored.bytes.clone())).ok_or_else(not_found);
    }
    let token = head.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    may(head, token, "Bad credentials", || message_of(403, "Resource not accessible by integration"))?;
    if let Some(path) = within(head, UPLOADS) {
        let id = id_in(path, "/releases/", "/assets").filter(|_| head.method == "POST").ok_or_else(not_found)?;
        return upload(world, id, head.query("name").unwrap_or_default(), body);
    }
    let path = within(head, API).ok_or_else(not_found)?;
    let parsed = || serde_json::from_slice::<Value>(body).map_err(|_| message_of(400, "Problems parsing JSON"));
    match head.method.as_str() {
        "GET" => get(world, head, path, token == Some(READ_TOKEN)),
        "POST" if path == "/releases" => create(world, &parsed()?),
        "PATCH" => {
            let id = id_in(path, "/releases/", "").ok_or_else(not_found)?;
            change(world, id, &parsed()?)
        }
        "DELETE" => {
            let id = id_in(path, "/releases/assets/", "").ok_or_else(not_found)?;
            let of = world.releases.iter_mut().find(|release| release.assets.iter().any(|stored| stored.id == id));
            of.ok_or_else(not_found)?.assets.retain(|stored| stored.id != id);
            Ok(Answer::new(204, ""))
        }
        _ => Err(not_found()),
    }
}

fn get(world: &World, head: &Head, path: &str, reads_alone: bool) -> Result<Answer, Answer> {
    if path.is_empty() {
        return Ok(Answer::json(200, &json!({ "full_name": REPOSITORY, "permissions": { "push": !reads_alone } })));
    }
    if let Some(sha) = path.strip_prefix("/git/commits/") {
        let is_known = world.commits.iter().any(|commit| commit == sha);
        return if is_known { Ok(Answer::json(200, &json!({ "sha": sha }))) } else { Err(not_found()) };
    }
    if let Some(tag) = path.strip_prefix("/git/ref/tags/") {
        let (commit, with_message) = world.tags.get(tag).ok_or_else(not_found)?;
        let (sha, kind) = if *with_message { (TAG_OBJECT, "tag") } else { (commit.as_str(), "commit") };
        let object = json!({ "sha": sha, "type": kind });
        return Ok(Answer::json(200, &json!({ "ref": format!("refs/tags/{tag}"), "object": object })));
    }
    if path.strip_prefix("/git/tags/") == Some(TAG_OBJECT) {
        let with_message = world.tags.values().find(|(_, with_message)| *with_message);
        let (commit, _) = with_message.ok_or_else(not_found)?;
        let object = json!({ "sha": commit, "type": "commit" });
        return Ok(Answer::json(200, &json!({ "sha": TAG_OBJECT, "object": object })));
    }
    if let Some(tag) = path.strip_prefix("/releases/tags/") {
        let found = world.releases.iter().find(|release| release.tag == tag && !release.draft);
        return found.map(|found| Answer::json(200, &release(world, found))).ok_or_else(not_found);
    }
    if path == "/releases" {
        // Drafts are seen by those who may write.
        let seen = world.releases.iter().rev().filter(|release| !(release.draft && reads_alone));
        let seen = page(head, seen.map(|found| release(world, found)).collect(), "per_page");
        return Ok(Answer::json(200, &Value::Array(seen)));
    }
    if let Some(id) = id_in(path, "/releases/assets/", "") {
        let is_there = world.releases.iter().flat_map(|release| &release.assets).any(|stored| stored.id == id);
        return match head.header("accept") {
            _ if !is_there => Err(not_found()),
            Some("application/octet-stream") => {
                Ok(Answer::new(302, "").with("location", format!("{}/storage/{id}", storage(&world.url))))
            }
            _ => Err(message_of(415, "not asked for")),
        };
    }
    let id = id_in(path, "/releases/", "/assets").ok_or_else(not_found)?;
    let found = world.releases.iter().find(|release| release.id == id).ok_or_else(not_found)?;
    let assets = found.assets.iter().map(|stored| asset(world, stored)).collect();
    Ok(Answer::json(200, &Value::Array(page(head, assets, "per_page"))))
}

/// The same server under another name: another origin, for which the token is not meant.
fn storage(url: &str) -> String {
    url.replace("127.0.0.1", "localhost")
}

fn create(world: &mut World, value: &Value) -> Result<Answer, Answer> {
    let mut new = Release { id: world.next(), ..Release::default() };
    apply(&mut new, value);
    if new.tag.is_empty() {
        return Err(invalid("Release", "missing_field", "tag_name"));
    }
    if world.releases.iter().any(|release| release.tag == new.tag && !release.draft) {
        return Err(invalid("Release", "already_exists", "tag_name"));
    }
    let answer = release(world, &new);
    world.releases.push(new);
    Ok(Answer::json(201, &answer))
}

fn change(world: &mut World, id: u64, value: &Value) -> Result<Answer, Answer> {
    let at = world.releases.iter().position(|release| release.id == id).ok_or_else(not_found)?;
    let was_draft = world.releases[at].draft;
    apply(&mut world.releases[at], value);
    let (tag, target, is_draft) = {
        let changed = &world.releases[at];
        (changed.tag.clone(), changed.target.clone(), changed.draft)
    };
    if was_draft && !is_draft {
        if !world.tags.contains_key(&tag) {
            if !world.commits.contains(&target) {
                world.releases[at].draft = true;
                return Err(invalid("Release", "invalid", "target_commitish"));
            }
            world.tags.insert(tag, (target, false));
        }
        let names = world.releases[at].assets.iter().filter(|stored| stored.complete).map(|s| s.name.clone()).collect();
        world.show(names);
    }
    Ok(Answer::json(200, &release(world, &world.releases[at])))
}

fn upload(world: &mut World, id: u64, name: &str, body: &[u8]) -> Result<Answer, Answer> {
    let (new, name) = (world.next(), renamed(name));
    let release = world.releases.iter_mut().find(|release| release.id == id).ok_or_else(not_found)?;
    if name.is_empty() || body.is_empty() {
        return Err(invalid("ReleaseAsset", "missing_field", if body.is_empty() { "size" } else { "name" }));
    }
    if release.assets.iter().any(|stored| stored.name == name) {
        return Err(invalid("ReleaseAsset", "already_exists", "name"));
    }
    release.assets.push(Stored { id: new, name, bytes: body.to_vec(), complete: true });
    let stored = world.releases.iter().flat_map(|release| &release.assets).find(|stored| stored.id == new);
    Ok(Answer::json(201, &asset(world, stored.expect("it was just put there"))))
}
