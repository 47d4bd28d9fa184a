//! What is to be done, as data: the difference between what is wanted and what the forge has.

use crate::error::{PublishError, Result};
use crate::model::{Asset, LocalFile, Release, Wanted};

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make a draft, which nobody sees.
    Create,
    /// A file is there already.
    Keep {
        /// Its name.
        name: String,
    },
    /// Remove a file from the forge, because another one is to be there, or only a part of it was received.
    Remove {
        /// How the forge calls it.
        id: String,
        /// Its name.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// Send a file.
    Upload {
        /// Which of the files that are wanted.
        file: usize,
    },
    /// Look whether the forge has all files, whole.
    Check,
    /// Bring title and notes of the draft up to date.
    Update,
    /// Let people see it.
    Publish,
}

/// What is to be done, in order. Uploads that follow each other may be done at the same time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps; none if all is as it should be.
    pub steps: Vec<Step>,
    /// Files in the draft that are none of this release.
    pub strangers: Vec<String>,
}

/// How a file on the forge compares with the one that is to be there; nothing if it is the same.
pub(crate) fn difference(asset: &Asset, file: &LocalFile) -> Option<&'static str> {
    match asset.digest {
        _ if !asset.complete => Some("is there in part"),
        _ if asset.size != file.size => Some("has another size"),
        Some(digest) if digest != file.sha256 => Some("has other contents"),
        Some(_) => None,
        None => Some("is not known"),
    }
}

/// What the forge lacks of the files, as a few words for each.
pub(crate) fn differences(wanted: &Wanted, assets: &[Asset], name: impl Fn(&str) -> String) -> Vec<String> {
    let of_file = |file: &LocalFile| {
        let name = name(&file.name);
        let mut same: Vec<&Asset> = assets.iter().filter(|asset| asset.name == name).collect();
        same.sort_by_key(|asset| difference(asset, file).is_some());
        match same.first() {
            None => Some(format!("{name} is missing")),
            Some(asset) => match difference(asset, file) {
                Some(difference) => Some(format!("{name} {difference}")),
                None => (!asset.shown).then(|| format!("{name} is not on its page")),
            },
        }
    };
    wanted.files.iter().filter_map(of_file).collect()
}

/// What is to be done where the forge has `found`. `name` is what the forge makes of a file's name; `drafts` says whether
/// it has drafts.
///
/// # Errors
/// [`PublishError::Published`] if what was published would have to change, and nobody said that it may.
pub(crate) fn plan(
    place: &str,
    wanted: &Wanted,
    found: Option<&Release>,
    drafts: bool,
    name: impl Fn(&str) -> String,
) -> Result<Plan> {
    let mut plan = Plan::default();
    let nothing = Vec::new();
    let assets = found.map_or(&nothing, |release| &release.assets);
    let is_public = found.is_some_and(|release| !release.draft);
    if is_public {
        let differences = differences(wanted, assets, &name);
        if differences.is_empty() {
            return Ok(plan);
        }
        if !wanted.replace {
            return Err(PublishError::Published { place: place.to_owned(), tag: wanted.tag.clone(), differences });
        }
    }
    if found.is_none() && drafts {
        plan.steps.push(Step::Create);
    }
    let mut uploads = Vec::new();
    for (index, file) in wanted.files.iter().enumerate() {
        let name = name(&file.name);
        let mut kept = false;
        for asset in assets.iter().filter(|asset| asset.name == name) {
            match difference(asset, file) {
                None if !kept => {
                    kept = true;
                    plan.steps.push(Step::Keep { name: name.clone() });
                }
                difference => plan.steps.push(Step::Remove {
                    id: asset.id.clone(),
                    name: name.clone(),
                    why: difference.unwrap_or("is there twice"),
                }),
            }
        }
        if !kept {
            uploads.push(Step::Upload { file: index });
        }
    }
    plan.steps.extend(uploads);
    plan.steps.push(Step::Check);
    if !wanted.draft || is_public {
        plan.steps.push(Step::Publish);
    } else if found.is_some_and(|release| !release.text_is_same) {
        plan.steps.push(Step::Update);
    }
    let is_wanted = |asset: &&Asset| wanted.files.iter().any(|file| name(&file.name) == asset.name);
    if !is_public {
        plan.strangers = assets.iter().filter(|asset| !is_wanted(asset)).map(|asset| asset.name.clone()).collect();
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use kiln_artifact::checksum::Sha256;

    use super::*;

    fn wanted(names: &[&str]) -> Wanted {
        let file = |name: &&str| LocalFile {
            name: (*name).to_owned(),
            path: (*name).into(),
            size: name.len() as u64,
            sha256: Sha256::of(name),
        };
        Wanted {
            tag: "v1".to_owned(),
            commit: "c".to_owned(),
            tag_is_made: false,
            title: "v1".to_owned(),
            notes: String::new(),
            prerelease: false,
            package: "p".to_owned(),
            version: "1".to_owned(),
            files: names.iter().map(file).collect(),
            draft: false,
            replace: false,
        }
    }

    fn asset(id: &str, name: &str) -> Asset {
        Asset {
            id: id.to_owned(),
            name: name.to_owned(),
            size: name.len() as u64,
            complete: true,
            digest: Some(Sha256::of(name)),
            url: String::new(),
            shown: true,
        }
    }

    fn release(draft: bool, assets: Vec<Asset>) -> Release {
        Release { id: "1".to_owned(), url: String::new(), upload: String::new(), draft, text_is_same: true, assets }
    }

    fn of(wanted: &Wanted, found: Option<&Release>) -> Plan {
        plan("there", wanted, found, true, str::to_owned).expect("a plan")
    }

    #[test]
    fn a_first_run_makes_a_draft_and_publishes_last() {
        let uploads = [Step::Upload { file: 0 }, Step::Upload { file: 1 }];
        let [first, second] = uploads;
        assert_eq!(
            of(&wanted(&["a", "bb"]), None).steps,
            [Step::Create, first.clone(), second.clone(), Step::Check, Step::Publish]
        );
        let draft = Wanted { draft: true, ..wanted(&["a", "bb"]) };
        assert_eq!(of(&draft, None).steps, [Step::Create, first, second, Step::Check]);
    }

    #[test]
    fn a_draft_is_completed() {
        let partial = Asset { complete: false, ..asset("2", "bb") };
        let other = Asset { digest: Some(Sha256::of("x")), ..asset("3", "ccc") };
        let found = release(true, vec![asset("1", "a"), asset("4", "a"), partial, other, asset("5", "old")]);
        let plan = of(&wanted(&["a", "bb", "ccc"]), Some(&found));
        let removed = |id: &str, name: &str, why| Step::Remove { id: id.to_owned(), name: name.to_owned(), why };
        assert_eq!(
            plan.steps,
            [
                Step::Keep { name: "a".to_owned() },
                removed("4", "a", "is there twice"),
                removed("2", "bb", "is there in part"),
                removed("3", "ccc", "has other contents"),
                Step::Upload { file: 1 },
                Step::Upload { file: 2 },
                Step::Check,
                Step::Publish,
            ]
        );
        assert_eq!(plan.strangers, ["old"]);
        let text = Release { text_is_same: false, ..release(true, vec![asset("1", "a")]) };
        let draft = Wanted { draft: true, ..wanted(&["a"]) };
        assert_eq!(of(&draft, Some(&text)).steps, [Step::Keep { name: "a".to_owned() }, Step::Check, Step::Update]);
    }

    #[test]
    fn what_is_published_is_left_alone() {
        let found = release(false, vec![asset("1", "a"), asset("2", "of somebody else")]);
        assert_eq!(of(&wanted(&["a"]), Some(&found)), Plan::default());
        let error = plan("there", &wanted(&["a", "bb"]), Some(&found), true, str::to_owned).expect_err("a change");
        assert_eq!(error.to_string(), "release v1 of there is published, and bb is missing");
        let replace = Wanted { replace: true, ..wanted(&["a", "bb"]) };
        let steps = of(&replace, Some(&found)).steps;
        assert_eq!(steps, [Step::Keep { name: "a".to_owned() }, Step::Upload { file: 1 }, Step::Check, Step::Publish]);
    }
}
