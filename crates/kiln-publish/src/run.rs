//! Carrying out a plan, so that whatever breaks off can be completed by the next run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::{StreamExt, stream};

use crate::error::{PublishError, Result};
use crate::forge::{Forge, Server};
use crate::http::Attempt;
use crate::model::{Asset, Event, LocalFile, Outcome, Release, Wanted};
use crate::plan::{Plan, Step, difference, differences, plan};

/// What a run would do where the forge has nothing of the release yet, and the requests of each step. Nothing is sent.
pub fn preview(server: &Server, wanted: &Wanted) -> Vec<(Step, Vec<String>)> {
    let forge = server.forge();
    let planned = plan(forge.http().place(), wanted, None, forge.has_drafts(), |name| forge.asset_name(name));
    let steps = planned.map(|plan| plan.steps).unwrap_or_default();
    steps.into_iter().map(|step| (step.clone(), forge.requests(&step, wanted))).collect()
}

/// Publishes a release, or completes what an earlier run began. Dropping the future leaves a draft.
///
/// # Errors
/// The first thing that went wrong; [`Event::Left`] says what stays.
pub async fn publish(server: &Server, wanted: &Wanted) -> Result<Outcome> {
    let forge = server.forge();
    let mut draft = None;
    let result = attempt(forge, wanted, &mut draft).await;
    if result.is_err()
        && let Some(what) = draft
    {
        forge.http().tell(Event::Left { what });
    }
    result
}

async fn attempt(forge: &dyn Forge, wanted: &Wanted, left: &mut Option<String>) -> Result<Outcome> {
    let http = forge.http();
    let place = http.place();
    let name = |name: &str| forge.asset_name(name);
    forge.repository().await?;
    if !forge.has_commit(&wanted.commit).await? {
        return Err(PublishError::NotPushed { place: place.to_owned(), commit: wanted.commit.clone() });
    }
    let tag = forge.tag(&wanted.tag).await?;
    if tag.is_none() && wanted.tag_is_made && forge.sees_tags() {
        return Err(PublishError::TagNotPushed { place: place.to_owned(), tag: wanted.tag.clone() });
    }
    if let Some(found) = tag.filter(|found| *found != wanted.commit) {
        return Err(PublishError::TagElsewhere {
            place: place.to_owned(),
            tag: wanted.tag.clone(),
            found,
            commit: wanted.commit.clone(),
        });
    }
    let found = known(forge, wanted, forge.find(wanted).await?).await?;
    let plan = plan(place, wanted, found.as_ref(), forge.has_drafts(), name)?;
    if let Some(release) = &found {
        if plan.steps.is_empty() {
            let kept = wanted.files.len();
            return Ok(Outcome { url: release.url.clone(), draft: false, unchanged: true, sent: 0, kept });
        }
        if release.draft {
            *left = Some(forge.left(release));
            http.tell(Event::Resumed { url: release.url.clone() });
        }
    }
    let Plan { steps, strangers } = plan;
    for name in strangers {
        http.tell(Event::Stranger { name });
    }
    let mut release = match found {
        Some(release) => release,
        None => create(forge, wanted).await?,
    };
    if release.draft {
        *left = Some(forge.left(&release));
    }
    let mut outcome = Outcome { url: release.url.clone(), draft: release.draft, unchanged: true, sent: 0, kept: 0 };
    let mut uploads = Vec::new();
    for step in &steps {
        match step {
            Step::Keep { name } => {
                outcome.kept += 1;
                http.tell(Event::Kept { name: name.clone() });
            }
            Step::Remove { id, name, why } => {
                outcome.unchanged = false;
                forge.remove(&release, id, name).await?;
                http.tell(Event::Removed { name: name.clone(), why });
            }
            Step::Upload { file } => uploads.push(&wanted.files[*file]),
            Step::Create => outcome.unchanged = false,
            Step::Check | Step::Update | Step::Publish => {}
        }
    }
    outcome.sent = uploads.len();
    outcome.unchanged &= uploads.is_empty();
    let sent = send_all(forge, wanted, &release, &uploads).await?;
    for step in steps {
        match step {
            Step::Check => release = check(forge, wanted, &release, &sent).await?,
            Step::Update => {
                outcome.unchanged = false;
                forge.update(&release, wanted).await?;
            }
            Step::Publish => {
                outcome.unchanged = false;
                outcome.draft = false;
                outcome.url = forge.publish(&release, wanted).await?;
            }
            _ => {}
        }
    }
    Ok(outcome)
}

/// A release whose files' sums are known, as far as they matter: a forge that does not tell them is asked for the files.
async fn known(forge: &dyn Forge, wanted: &Wanted, found: Option<Release>) -> Result<Option<Release>> {
    let Some(mut release) = found else { return Ok(None) };
    for asset in &mut release.assets {
        let is_meant = |file: &&LocalFile| forge.asset_name(&file.name) == asset.name && file.size == asset.size;
        if asset.complete && asset.digest.is_none() && wanted.files.iter().any(|file| is_meant(&file)) {
            asset.digest = Some(forge.digest(asset).await?);
        }
    }
    Ok(Some(release))
}

/// Makes the draft. Where it is not clear whether that was done, a look tells: a second one would be left behind.
async fn create(forge: &dyn Forge, wanted: &Wanted) -> Result<Release> {
    let http = forge.http();
    let action = format!("create the draft of {}", wanted.tag);
    let mut tries = http.tries(&action);
    loop {
        let trouble = match forge.create(wanted, &action).await {
            Ok(release) => {
                if release.draft && forge.has_drafts() {
                    http.tell(Event::Created { url: release.url.clone() });
                }
                return Ok(release);
            }
            Err(Attempt::Failed(error)) => return Err(error),
            Err(Attempt::Unclear(trouble)) => trouble,
        };
        tries.again(trouble).await?;
        match forge.find(wanted).await? {
            Some(release) if release.draft => return Ok(release),
            Some(_) => {
                return Err(PublishError::Published {
                    place: http.place().to_owned(),
                    tag: wanted.tag.clone(),
                    differences: vec!["somebody else did that just now".to_owned()],
                });
            }
            None => {}
        }
    }
}

/// Sends files, several at a time. After a failure no other is begun.
async fn send_all(forge: &dyn Forge, wanted: &Wanted, release: &Release, files: &[&LocalFile]) -> Result<Vec<Asset>> {
    let failed = Arc::new(AtomicBool::new(false));
    let sending = files.iter().map(|file| {
        let failed = Arc::clone(&failed);
        async move {
            // What was begun is finished, so that the next run has less to do.
            if failed.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let sent = send(forge, wanted, release, file).await;
            failed.fetch_or(sent.is_err(), Ordering::Relaxed);
            sent.map(Some)
        }
    });
    let results: Vec<Result<Option<Asset>>> = stream::iter(sending).buffer_unordered(forge.at_once()).collect().await;
    Ok(results.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Sends a file. After trouble a look tells what of it was received; a part of it is removed and all of it sent again.
async fn send(forge: &dyn Forge, wanted: &Wanted, release: &Release, file: &LocalFile) -> Result<Asset> {
    let http = forge.http();
    let name = forge.asset_name(&file.name);
    let action = format!("upload {name}");
    let mut tries = http.tries(&action);
    http.tell(Event::Sending { name: name.clone(), sent: 0, size: file.size });
    loop {
        let trouble = match forge.upload(release, wanted, file, &action).await {
            Ok(asset) if asset.complete && asset.size == file.size => {
                http.tell(Event::Sent { name, size: file.size });
                // It was summed while it was sent.
                return Ok(Asset { digest: asset.digest.or(Some(file.sha256)), ..asset });
            }
            Ok(asset) => crate::http::Trouble::Broken(format!("{} of {} bytes were received", asset.size, file.size)),
            Err(Attempt::Failed(error)) => return Err(error),
            Err(Attempt::Unclear(trouble)) => trouble,
        };
        tries.again(trouble).await?;
        let mut received = None;
        for mut asset in forge.assets(release, wanted).await?.into_iter().filter(|asset| asset.name == name) {
            if asset.complete && asset.size == file.size && asset.digest.is_none() {
                asset.digest = Some(forge.digest(&asset).await?);
            }
            match difference(&asset, file) {
                None if received.is_none() => received = Some(asset),
                difference => {
                    let why = difference.unwrap_or("is there twice");
                    forge.remove(release, &asset.id, &asset.name).await?;
                    http.tell(Event::Removed { name: name.clone(), why });
                }
            }
        }
        if let Some(asset) = received {
            http.tell(Event::Sent { name, size: file.size });
            return Ok(asset);
        }
    }
}

/// Looks whether the forge has all files. What it does not tell of those that were just sent is known from sending.
async fn check(forge: &dyn Forge, wanted: &Wanted, release: &Release, sent: &[Asset]) -> Result<Release> {
    let mut assets = forge.assets(release, wanted).await?;
    for asset in &mut assets {
        let before = sent.iter().chain(&release.assets).find(|known| known.id == asset.id);
        asset.digest = asset.digest.or(before.and_then(|known| known.digest));
        // A page shows them from the moment on from which there is one.
        asset.shown |= release.draft || wanted.replace;
    }
    let differences = differences(wanted, &assets, |name| forge.asset_name(name));
    if differences.is_empty() {
        return Ok(Release { assets, ..release.clone() });
    }
    let place = forge.http().place().to_owned();
    Err(PublishError::Incomplete { place, tag: wanted.tag.clone(), differences })
}
