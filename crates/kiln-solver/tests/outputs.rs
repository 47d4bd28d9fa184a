//! What is made of all targets together: images on the daemon, archives, layouts.

mod common;

use std::collections::BTreeMap;
use std::io::Read;

use common::{AMD64, ARM64, Bed, Built, Graph};
use kiln_docker::EngineError;
use kiln_docker::registry::ImageName;
use kiln_graph::{HistoryEntry, VertexId};
use kiln_solver::image::{Export, Exports, ImageArchive, ImageForm, Published};
use kiln_solver::{BuildEvent, Cancel, Group, Output, SolveError};
use kiln_testkit::Files;
use serde_json::{Value, json};

/// Two layers on a base, for both platforms.
fn graph(bed: &Bed) -> Graph {
    let mut graph = Graph::default();
    for platform in [AMD64, ARM64] {
        let mut files = Files::new();
        files.write("/etc/os", "linux");
        let base = bed.image(&mut graph, "base", platform, files);
        let run = graph.run(base, platform, "write /one 1");
        let root = graph.run(run, platform, "write /two 2");
        graph.target("app", platform, root);
        let note = |text: &str, vertex| HistoryEntry { created_by: text.to_owned(), vertex };
        let config = &mut graph.graph.targets.last_mut().expect("a target").config;
        config.labels.insert("mine".to_owned(), "yes".to_owned());
        config.history =
            vec![note("ENV", None), note("RUN 1", Some(run)), note("RUN 2", Some(root)), note("CMD", None)];
    }
    graph
}

fn names() -> Vec<ImageName> {
    ["app:1", "r.example/app:2"].map(|name| ImageName::parse(name).expect("valid")).into()
}

async fn build(bed: &Bed, graph: &Graph, list: Vec<Export>) -> Built {
    let outputs = graph.graph.targets.iter().map(|_| Output::Nothing).collect();
    let mut request = bed.request(graph, outputs);
    request.groups[0].exports = Exports { list, epoch: Some(1_000_000_000), ..Exports::default() };
    bed.build_as(request, Cancel::new()).await
}

/// What became of the one group.
fn asked(built: &mut Built) -> Result<Published, SolveError> {
    built.outcome.published.remove(0).expect("asked for")
}

fn unpacked(path: &std::path::Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(std::fs::File::open(path).expect("there")).entries().expect("entries") {
        let mut entry = entry.expect("entry");
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("read");
        files.insert(entry.path().expect("path").display().to_string(), bytes);
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loaded_image_has_a_configuration_of_its_own_and_is_not_loaded_twice() {
    let bed = Bed::new();
    let mut graph = graph(&bed);
    graph.graph.targets.truncate(1);
    let mut built = build(&bed, &graph, vec![Export::Load { names: names(), rewritten: false }]).await;
    let published = asked(&mut built).expect("made");
    let image = published.image.expect("an image");
    let [config] = &bed.engine.loaded_configs()[..] else { panic!("one image was loaded") };
    let config: Value = serde_json::from_slice(config).expect("JSON");
    assert_eq!(config["config"]["Labels"], json!({ "mine": "yes" }), "none of kiln's");
    let history = config["history"].as_array().expect("a list");
    let said: Vec<_> = history.iter().map(|e| (e["created_by"].as_str(), e["empty_layer"].as_bool())).collect();
    let expected = [("layer 0", None), ("ENV", Some(true)), ("RUN 1", None), ("RUN 2", None), ("CMD", Some(true))];
    assert_eq!(said, expected.map(|(text, empty)| (Some(text), empty)));
    assert_eq!(config["rootfs"]["diff_ids"].as_array().map(Vec::len), Some(3));
    assert_eq!(config["created"], "2001-01-01T00:00:00Z");
    assert_eq!(history[0]["created"], "2001-01-01T00:00:00.5Z", "the base's is left as it is");
    let names: Vec<_> = published.exported.iter().map(|exported| exported.name.as_str()).collect();
    assert_eq!(names, ["app:1", "r.example/app:2"]);
    assert!(published.exported.iter().all(|exported| exported.digest.as_deref() == image.id()));
    let events = built.events.iter().filter(|event| matches!(event, BuildEvent::Exported { .. })).count();
    assert_eq!(events, 2);
    // The steps are cached, the daemon has the image, and the base is known.
    bed.engine.clear_calls();
    build(&bed, &graph, vec![Export::Load { names: self::names(), rewritten: false }]).await;
    assert_eq!((bed.engine.count("load"), bed.engine.count("save"), bed.engine.count("create")), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_platforms_make_an_index_and_a_tar_with_folders() {
    let bed = Bed::new();
    let graph = graph(&bed);
    let archive = |dest: &str, folder| {
        let (dest, names) = (bed.path(dest), names());
        Export::Archive(ImageArchive { dest, folder, docker: false, names, form: ImageForm::default() })
    };
    let tar = Export::Tar { dest: bed.path("out/files.tar") };
    let mut built = build(&bed, &graph, vec![archive("out/image.tar", false), archive("out/layout", true), tar]).await;
    let published = asked(&mut built).expect("made");
    let image = unpacked(&bed.path("out/image.tar"));
    let blob = |digest: &Value| {
        let digest = digest.as_str().expect("a digest").trim_start_matches("sha256:");
        image.get(&format!("blobs/sha256/{digest}")).expect("it is in the archive")
    };
    let list: Value = serde_json::from_slice(&image["index.json"]).expect("JSON");
    let root = &list["manifests"][0]["digest"];
    assert_eq!(root.as_str(), published.image.expect("an image").digest());
    let index: Value = serde_json::from_slice(blob(root)).expect("JSON");
    let mut architectures = Vec::new();
    for listed in index["manifests"].as_array().expect("a list") {
        architectures.push(listed["platform"]["architecture"].as_str().expect("named").to_owned());
        let manifest: Value = serde_json::from_slice(blob(&listed["digest"])).expect("JSON");
        let config: Value = serde_json::from_slice(blob(&manifest["config"]["digest"])).expect("JSON");
        let layers = manifest["layers"].as_array().expect("a list");
        assert_eq!(layers.len(), config["rootfs"]["diff_ids"].as_array().map_or(0, Vec::len));
        for layer in layers {
            assert_eq!(blob(&layer["digest"]).len() as u64, layer["size"].as_u64().expect("a size"));
        }
    }
    assert_eq!(architectures, ["amd64", "arm64"]);
    assert!(bed.path("out/layout/index.json").exists());
    let files = unpacked(&bed.path("out/files.tar"));
    for platform in ["linux_amd64", "linux_arm64"] {
        assert_eq!(files[&format!("{platform}/two")], b"2");
    }
    let mut left: Vec<_> =
        std::fs::read_dir(bed.path("out")).expect("listing").flatten().map(|e| e.file_name()).collect();
    left.sort();
    assert_eq!(left, ["files.tar", "image.tar", "layout"], "nothing half-written is left");
    assert!(!bed.path("state/exports/test").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_new_layers_are_no_newer_than_the_epoch_if_that_is_wanted() {
    let bed = Bed::new();
    let graph = graph(&bed);
    let archive = |dest: &str, rewritten| {
        let form = ImageForm { rewritten, ..ImageForm::default() };
        Export::Archive(ImageArchive { dest: bed.path(dest), folder: false, docker: false, names: names(), form })
    };
    let list = vec![archive("new", true), archive("old", false), archive("again", true)];
    asked(&mut build(&bed, &graph, list).await).expect("made");
    let times = |dest: &str| {
        let files = unpacked(&bed.path(dest));
        let mut times: Vec<Option<u64>> = Vec::new();
        for bytes in files.values().filter(|bytes| bytes.starts_with(&[0x1f, 0x8b])) {
            let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice()));
            let entry = archive.entries().expect("entries").next().expect("a file").expect("an entry");
            times.push(entry.header().mtime().ok());
        }
        times.sort_unstable();
        times
    };
    let (now, epoch) = (Some(2_000_000_000), Some(1_000_000_000));
    // Two platforms, of each one layer of the base and two of the build.
    assert_eq!(times("old"), [now; 6]);
    assert_eq!(times("new"), [epoch, epoch, epoch, epoch, now, now]);
    let bytes = |dest: &str| std::fs::read(bed.path(dest)).expect("written");
    assert_eq!(bytes("new"), bytes("again"));
    assert_ne!(bytes("new"), bytes("old"));
    let mut alone = self::graph(&bed);
    alone.graph.targets.truncate(1);
    let load = |rewritten| vec![Export::Load { names: names(), rewritten }];
    bed.engine.clear_calls();
    let plain = asked(&mut build(&bed, &alone, load(false)).await).expect("made").image.expect("an image");
    let rewritten = asked(&mut build(&bed, &alone, load(true)).await).expect("made").image.expect("an image");
    assert_ne!(plain.id(), rewritten.id());
    assert_eq!(bed.engine.count("load"), 2, "the layers of the base need not be sent");
    let layers = |config: &Vec<u8>| {
        let config: Value = serde_json::from_slice(config).expect("JSON");
        config["rootfs"]["diff_ids"].as_array().cloned().expect("a list")
    };
    let [.., before, after] = &bed.engine.loaded_configs()[..] else { panic!("two images were loaded") };
    let (before, after) = (layers(before), layers(after));
    assert_eq!(after[0], before[0], "the base's stays");
    assert!(after[1] != before[1] && after[2] != before[2], "{after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_made_leaves_nothing_and_says_what() {
    let bed = Bed::new();
    let mut graph = graph(&bed);
    graph.graph.targets.truncate(1);
    std::fs::create_dir_all(bed.path("folder")).expect("folder");
    let mut built = build(&bed, &graph, vec![Export::Tar { dest: bed.path("folder") }]).await;
    let error = asked(&mut built).expect_err("a folder is in the way");
    assert!(matches!(&error, SolveError::Io { path, .. } if path.ends_with("folder")), "{error:?}");
    // The daemon breaks off while it saves the image.
    let dest = bed.path("image.tar");
    let archive =
        ImageArchive { dest: dest.clone(), folder: false, docker: true, names: names(), form: ImageForm::default() };
    bed.engine.fail_next("save", || EngineError::NotFound { what: "image".to_owned() });
    let mut built = build(&bed, &graph, vec![Export::Archive(archive)]).await;
    assert!(asked(&mut built).is_err());
    assert!(!dest.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_made_of_half_the_targets() {
    let bed = Bed::new();
    let mut graph = graph(&bed);
    let base: VertexId = graph.graph.targets[1].root;
    let fails = graph.run(base, ARM64, "fail 3");
    graph.graph.targets[1].root = fails;
    let dest = bed.path("files.tar");
    let built = build(&bed, &graph, vec![Export::Tar { dest: dest.clone() }]).await;
    assert!(built.outcome.targets[0].is_ok() && built.outcome.targets[1].is_err());
    assert!(built.outcome.published[0].is_none());
    assert!(!dest.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_group_is_made_on_its_own() {
    let bed = Bed::new();
    let mut graph = graph(&bed);
    let base: VertexId = graph.graph.targets[1].root;
    graph.graph.targets[1].root = graph.run(base, ARM64, "fail 3");
    let group = |index: usize| {
        let list = vec![Export::Tar { dest: bed.path(&format!("{index}.tar")) }];
        Group { targets: index..index + 1, exports: Exports { list, ..Exports::default() }, ..Group::default() }
    };
    let mut request = bed.request(&graph, vec![Output::Nothing; 2]);
    request.groups = vec![group(0), group(1)];
    let built = bed.build_as(request, Cancel::new()).await;
    assert!(matches!(built.outcome.published.as_slice(), [Some(Ok(_)), None]), "{:?}", built.outcome.published);
    // One platform of its group: no folder of its own.
    assert!(unpacked(&bed.path("0.tar")).contains_key("two"));
    assert!(!bed.path("1.tar").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn mount_points_are_removed_once_and_replaced_checkpoints_are_named() {
    let bed = Bed::new();
    let graph = |always: bool| {
        let mut graph = Graph::default();
        let base = bed.image(&mut graph, "base", AMD64, Files::new());
        let mounts = vec![common::cache("/made/cache", "c", kiln_graph::Sharing::Shared)];
        let exec = kiln_graph::Exec { mounts, ..common::exec(AMD64, "write /one 1") };
        let op = kiln_graph::Op::Exec(Box::new(exec));
        let top = graph.graph.insert(op, vec![base], kiln_graph::Origin::default(), always);
        graph.target("app", AMD64, top);
        graph
    };
    let load = || vec![Export::Load { names: names(), rewritten: false }];
    let tidied = || bed.engine.calls().iter().filter(|call| call.contains("tidy /made/cache /made")).count();
    build(&bed, &graph(false), load()).await;
    assert_eq!((tidied(), bed.engine.count("commit")), (1, 2));
    let stubs = |labels: &BTreeMap<String, String>| labels.get("kiln.stubs").cloned().unwrap_or_default();
    let checkpoints = || async { bed.engine().images_with_label("kiln.key").await.expect("a listing") };
    let mut labels: Vec<String> = checkpoints().await.iter().map(|image| stubs(&image.labels)).collect();
    labels.sort();
    assert_eq!(labels, ["", "made\nmade/cache"]);
    // The one without them is preferred: there is nothing more to do.
    bed.engine.clear_calls();
    build(&bed, &graph(false), load()).await;
    assert_eq!((tidied(), bed.engine.count("commit"), bed.engine.count("start")), (0, 0, 0));
    let older: Vec<String> = checkpoints().await.into_iter().map(|image| image.id.0).collect();
    let built = build(&bed, &graph(true), load()).await;
    assert_eq!((tidied(), checkpoints().await.len()), (1, 4));
    kiln_solver::remove_replaced(bed.engine().as_ref(), &built.outcome.replaced).await;
    let left: Vec<String> = checkpoints().await.into_iter().map(|image| image.id.0).collect();
    assert!(left.len() == 2 && left.iter().all(|id| !older.contains(id)), "{older:?} {left:?}");
}
