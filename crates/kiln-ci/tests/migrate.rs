//! Workflows of the guide and in the style of public ones, migrated and compared with what they were.

use std::fmt::Write as _;
use std::path::Path;

use kiln_ci::{Comparison, Migration, Source, compare, migrate};
use kiln_config::{Config, Layer, ProjectFacts};

const WORKFLOWS: &str = ".github/workflows";

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    std::fs::read_to_string(path).expect("a fixture")
}

fn source(name: &str) -> Source {
    let file = if name == "build-all.sh" { name.to_owned() } else { format!("{WORKFLOWS}/{name}") };
    Source { file, text: fixture(name) }
}

/// The project's own files.
fn file(path: &str) -> Option<String> {
    (path == "Dockerfile.build").then(|| fixture(path))
}

fn config(migration: &Migration) -> (Config, String) {
    let text = migration.settings.clone().unwrap_or_default();
    let facts = ProjectFacts { folder_name: "project".to_owned(), ..ProjectFacts::default() };
    let loaded =
        Config::load([Layer::file("kiln.toml", text.clone())], &facts).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(loaded.warnings, [], "{text}");
    (loaded.config, text)
}

/// What is written for a file, as one text.
fn migrated(name: &str) -> (String, Comparison) {
    let source = source(name);
    let migration = migrate(std::slice::from_ref(&source), &file).unwrap_or_else(|e| panic!("{name}: {e}"));
    let (config, settings) = config(&migration);
    let (_, new, text) = &migration.files[0];
    let new = Source { file: new.clone(), text: text.clone() };
    let comparison = compare(&source, &new, (&config, &settings), &file).expect("both can be read");
    // Migrating what was migrated finds no more of docker's.
    let mut said = format!("=== kiln.toml\n{settings}\n=== {}\n{text}\n=== notes\n", new.file);
    for note in &migration.notes {
        let _ = writeln!(said, "{note}");
    }
    said.push_str("=== compared\n");
    for row in &comparison.rows {
        let verdict = match (row.is_same(), &row.declared) {
            (true, _) => "same".to_owned(),
            (false, Some(why)) => format!("-> {} (declared: {why})", row.new),
            (false, None) => format!("-> {} DIFFERS", row.new),
        };
        let _ = writeln!(said, "[{}] {}: {} {verdict}", row.runs.join(", "), row.what, row.old);
    }
    (said, comparison)
}

fn value<'a>(comparison: &'a Comparison, what: &str, run: &str) -> &'a str {
    let is = |row: &&kiln_ci::Row| row.what == what && row.runs.iter().any(|name| name == run);
    let row = comparison.rows.iter().find(is).unwrap_or_else(|| panic!("no {what} in {run}: {:#?}", comparison.rows));
    assert!(row.is_same(), "{row:?}");
    &row.new
}

#[test]
fn the_build_workflow_of_the_guide_gives_the_same() {
    let (said, comparison) = migrated("guide-build.yml");
    assert!(!comparison.differs(), "{said}");
    for run in ["push main", "tag v1.0.0", "pull request"] {
        assert_eq!(value(&comparison, "platforms of build", run), "linux/386 linux/amd64 linux/arm64");
        for (platform, arch, lto) in
            [("linux/amd64", "x86_64", "yes"), ("linux/386", "i686", "yes"), ("linux/arm64", "arm64", "no")]
        {
            let artifact = value(&comparison, &format!("artifact of build, {platform}"), run);
            assert_eq!(artifact, format!("chatrixcd-linux-{arch}"));
            let flags = value(&comparison, &format!("flags of build, {platform}"), run);
            assert_eq!(
                flags,
                format!(
                    "--enable-plugin=anti-bloat --entry=chatrixcd/main.py --include-data=assets=assets --jobs=4 \
                     --linux-icon=assets/icon.png --lto={lto} --mode=onefile --static-libpython=yes"
                )
            );
        }
    }
    insta::assert_snapshot!("guide-build", said);
}

#[test]
fn the_reduced_matrix_of_the_guide_becomes_a_rule() {
    let (said, comparison) = migrated("guide-build-dynamic.yml");
    assert!(!comparison.differs(), "{said}");
    assert_eq!(value(&comparison, "platforms of build", "pull request"), "linux/amd64");
    assert_eq!(value(&comparison, "platforms of build", "push main"), "linux/386 linux/amd64 linux/arm64");
    assert_eq!(value(&comparison, "runner of build, linux/arm64", "push main"), "ubuntu-24.04-arm");
    insta::assert_snapshot!("guide-build-dynamic", said);
}

#[test]
fn the_containers_of_the_guide_become_the_recipe() {
    let (said, comparison) = migrated("guide-docker-run.yml");
    assert!(!comparison.differs(), "{said}");
    for (platform, arch, lto) in
        [("linux/amd64", "x86_64", "yes"), ("linux/386", "i686", "yes"), ("linux/arm64", "arm64", "no")]
    {
        let artifact = value(&comparison, &format!("artifact of build, {platform}"), "push main");
        assert_eq!(artifact, format!("chatrixcd-linux-{arch}"));
        let flags = value(&comparison, &format!("flags of build, {platform}"), "push main");
        assert!(
            flags.contains(&format!("--lto={lto} --mode=onefile --static-libpython=yes musl alpine:3.20")),
            "{flags}"
        );
    }
    insta::assert_snapshot!("guide-docker-run", said);
}

#[test]
fn the_test_workflow_of_the_guide_gives_the_same() {
    let (said, comparison) = migrated("guide-test.yml");
    assert!(!comparison.differs(), "{said}");
    assert_eq!(value(&comparison, "python of test", "pull request"), "3.12");
    assert_eq!(value(&comparison, "python of test", "push main"), "3.11 3.12 3.13");
    insta::assert_snapshot!("guide-test", said);
}

#[test]
fn public_workflows_migrate_or_say_what_is_missing() {
    for name in ["image-push", "release-include", "bake", "reusable", "self-hosted", "secrets", "test-containers"] {
        let (said, comparison) = migrated(&format!("{name}.yml"));
        assert!(!comparison.differs(), "{name}: {said}");
        insta::assert_snapshot!(name, said);
    }
    for name in ["wheels", "distribute"] {
        let error = migrate(&[source(&format!("{name}.yml"))], &file).unwrap_err();
        insta::assert_snapshot!(name, format!("{error}\n{}", error.hint()));
    }
}

#[test]
fn a_script_becomes_a_script() {
    let (said, comparison) = migrated("build-all.sh");
    assert!(!comparison.differs(), "{said}");
    insta::assert_snapshot!("build-all", said);
}

#[test]
fn workflows_that_call_each_other_still_do() {
    let migration = migrate(&[source("image-push.yml"), source("reusable.yml")], &file).expect("migrated");
    let reusable = &migration.files[1].2;
    assert!(reusable.contains("uses: ./.github/workflows/kiln-image-push.yml\n"), "{reusable}");
}

#[test]
fn workflows_of_one_project_share_its_rules() {
    let names =
        ["guide-build", "guide-build-dynamic", "guide-test", "image-push", "release-include", "reusable", "secrets"];
    let sources: Vec<Source> = names.iter().map(|name| source(&format!("{name}.yml"))).collect();
    let migration = migrate(&sources, &file).expect("migrated");
    let (config, settings) = config(&migration);
    for (old, (_, new, text)) in sources.iter().zip(&migration.files) {
        let new = Source { file: new.clone(), text: text.clone() };
        let comparison = compare(old, &new, (&config, &settings), &file).expect("both can be read");
        let wrong: Vec<_> = comparison.rows.iter().filter(|row| !row.is_same() && row.declared.is_none()).collect();
        assert!(wrong.is_empty(), "{}: {wrong:#?}\n{settings}", old.file);
    }
    insta::assert_snapshot!("together", settings);
}

#[test]
fn what_was_migrated_has_nothing_left_of_dockers() {
    for name in ["guide-build.yml", "image-push.yml", "guide-test.yml"] {
        let migration = migrate(&[source(name)], &file).expect("migrated");
        let (_, file_name, text) = migration.files[0].clone();
        let again = migrate(&[Source { file: file_name, text }], &file);
        assert!(again.is_err(), "{name}: {again:?}");
    }
}

#[test]
fn a_changed_setting_is_a_difference_until_a_comment_declares_it() {
    let source = source("guide-build.yml");
    let migration = migrate(std::slice::from_ref(&source), &file).expect("migrated");
    let text = migration.settings.clone().expect("settings").replace("\"linux/386\", ", "");
    let new = Source { file: "new.yml".to_owned(), text: migration.files[0].2.clone() };
    let compared = |text: &str| {
        let loaded = Config::load([Layer::file("kiln.toml", text)], &ProjectFacts::default()).expect("valid");
        compare(&source, &new, (&loaded.config, text), &file).expect("read")
    };
    assert!(compared(&text).differs());
    let declared: Vec<String> = ["platforms", "artifact", "flags", "runner", "dockerfile", "args", "outputs"]
        .iter()
        .map(|topic| format!("# kiln: differs: {topic}: nobody has such a machine\n"))
        .collect();
    assert!(!compared(&format!("{}{text}", declared.concat())).differs());
}

#[test]
fn what_cannot_be_read_is_one_clear_error() {
    let wrong = |name: &str, text: &str| {
        let source = Source { file: name.to_owned(), text: text.to_owned() };
        let error = migrate(&[source], &|_| None).unwrap_err();
        (error.to_string(), error.hint())
    };
    let (error, _) = wrong("w.yml", "jobs:\n  a:\n    steps: [\n  b: 1\n");
    assert!(error.starts_with("w.yml:3:12: ") && error.contains("invalid YAML: "), "{error}");
    let (error, hint) = wrong("compose.yml", "services: {}\n");
    assert_eq!(error, "compose.yml: no workflow: it has neither `jobs:` nor the `runs: steps:` of an action");
    assert!(hint.starts_with("name a workflow"), "{hint}");
    let (error, hint) = wrong("lint.yml", "on: push\njobs:\n  lint:\n    steps:\n    - run: ruff check\n");
    assert_eq!(error, "lint.yml: nothing to migrate");
    assert!(hint.starts_with("it looks for docker/build-push-action"), "{hint}");
    assert_eq!(wrong("x.sh", "#!/bin/sh\nls\n").0, "x.sh: nothing to migrate");
}
