//! Gitea's API. Source: its own description, `/api/swagger`.

use serde_json::{Value, json};

use super::{REPOSITORY, Release, Stored, World, apply, may, message_of, page};
use crate::wire::{Answer, Head};

/// Entries of a page at most, whatever is asked for.
const MOST: usize = 50;

fn not_found() -> Answer {
    message_of(404, "The target couldn't be found.")
}

fn asset(world: &World, stored: &Stored) -> Value {
    json!({
        "id": stored.id, "name": stored.name, "size": stored.bytes.len(), "download_count": 0,
        "uuid": format!("uuid-{}", stored.id),
        "browser_download_url": format!("{}/attachments/{}", world.url, stored.id),
    })
}

fn release(world: &World, release: &Release) -> Value {
    json!({
        "id": release.id, "tag_name": release.tag, "name": release.name, "body": release.body, "draft": release.draft,
        "prerelease": release.prerelease, "target_commitish": release.target,
        "html_url": format!("{}/{REPOSITORY}/releases/tag/{}", world.url, release.tag),
        "assets": release.assets.iter().map(|stored| asset(world, stored)).collect::<Vec<_>>(),
    })
}

pub(super) fn answer(world: &mut World, head: &Head, body: &[u8]) -> Result<Answer, Answer> {
    let token = head.header("authorization").and_then(|value| value.strip_prefix("token "));
    may(head, token, "user does not exist [uid: 0, name: ]", || {
        message_of(403, "token does not have at least one of required scope(s): [write:repository]")
    })?;
    if let Some(id) = head.path.strip_prefix("/attachments/") {
        let stored =
            world.releases.iter().flat_map(|release| &release.assets).find(|stored| stored.id.to_string() == id);
        return stored.map(|stored| Answer::new(200, stored.bytes.clone())).ok_or_else(not_found);
    }
    let path = head.path.strip_prefix("/api/v1/repos/").and_then(|path| path.strip_prefix(REPOSITORY));
    let path = path.ok_or_else(not_found)?;
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let parsed = || serde_json::from_slice::<Value>(body).map_err(|_| message_of(422, "not JSON"));
    match (head.method.as_str(), parts.as_slice()) {
        ("GET", []) => Ok(Answer::json(200, &json!({ "full_name": REPOSITORY }))),
        ("GET", ["git", "commits", sha]) if world.commits.iter().any(|commit| commit == sha) => {
            Ok(Answer::json(200, &json!({ "sha": sha })))
        }
        ("GET", ["tags", tag @ ..]) => {
            let tag = tag.join("/");
            let (commit, _) = world.tags.get(&tag).ok_or_else(not_found)?;
            Ok(Answer::json(200, &json!({ "name": tag, "id": commit, "commit": { "sha": commit } })))
        }
        ("GET", ["releases"]) => {
            let mut all: Vec<Value> = world.releases.iter().rev().map(|found| release(world, found)).collect();
            all = page(head, all, "limit");
            all.truncate(MOST);
            Ok(Answer::json(200, &Value::Array(all)))
        }
        ("POST", ["releases"]) => create(world, &parsed()?),
        ("PATCH", ["releases", id]) => change(world, id, &parsed()?),
        ("GET", ["releases", id, "assets"]) => {
            let found = world.releases.iter().find(|release| release.id.to_string() == *id).ok_or_else(not_found)?;
            Ok(Answer::json(200, &found.assets.iter().map(|stored| asset(world, stored)).collect()))
        }
        ("POST", ["releases", id, "assets"]) => {
            let new = world.next();
            let found =
                world.releases.iter_mut().find(|release| release.id.to_string() == *id).ok_or_else(not_found)?;
            let bytes = attachment(head, body).ok_or_else(|| message_of(400, "http: no such file"))?;
            let name = head.query("name").unwrap_or_default().to_owned();
            found.assets.push(Stored { id: new, name, bytes, complete: true });
            let stored = world.releases.iter().flat_map(|release| &release.assets).find(|stored| stored.id == new);
            Ok(Answer::json(201, &asset(world, stored.expect("it was just put there"))))
        }
        ("DELETE", ["releases", id, "assets", asset]) => {
            let found =
                world.releases.iter_mut().find(|release| release.id.to_string() == *id).ok_or_else(not_found)?;
            let before = found.assets.len();
            found.assets.retain(|stored| stored.id.to_string() != *asset);
            if found.assets.len() < before { Ok(Answer::new(204, "")) } else { Err(not_found()) }
        }
        _ => Err(not_found()),
    }
}

/// The file of a form.
fn attachment(head: &Head, body: &[u8]) -> Option<Vec<u8>> {
    let boundary = head.header("content-type")?.strip_prefix("multipart/form-data; boundary=")?;
    let find = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|window| window == what);
    let start = find(body, b"\r\n\r\n")?;
    let headers = String::from_utf8_lossy(&body[..start]).to_ascii_lowercase();
    let rest = &body[start + 4..];
    let end = find(rest, format!("\r\n--{boundary}--").as_bytes())?;
    let is_form = headers.starts_with(&format!("--{boundary}")) && headers.contains("name=\"attachment\"; filename=");
    is_form.then(|| rest[..end].to_vec())
}

fn create(world: &mut World, value: &Value) -> Result<Answer, Answer> {
    let mut new = Release { id: world.next(), ..Release::default() };
    apply(&mut new, value);
    if world.releases.iter().any(|release| release.tag == new.tag) {
        return Err(message_of(409, "Release is has no Tag"));
    }
    let answer = release(world, &new);
    world.releases.push(new);
    Ok(Answer::json(201, &answer))
}

fn change(world: &mut World, id: &str, value: &Value) -> Result<Answer, Answer> {
    let at = world.releases.iter().position(|release| release.id.to_string() == id).ok_or_else(not_found)?;
    let was_draft = world.releases[at].draft;
    apply(&mut world.releases[at], value);
    let changed = &world.releases[at];
    if was_draft && !changed.draft {
        let (tag, target) = (changed.tag.clone(), changed.target.clone());
        let names = changed.assets.iter().map(|stored| stored.name.clone()).collect();
        if !world.tags.contains_key(&tag) {
            if !world.commits.contains(&target) {
                world.releases[at].draft = true;
                return Err(not_found());
            }
            world.tags.insert(tag, (target, false));
        }
        world.show(names);
    }
    Ok(Answer::json(200, &release(world, &world.releases[at])))
}
