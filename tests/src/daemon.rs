//! A look at the daemon, past kiln.

use std::time::{Duration, Instant};

use futures::StreamExt;
use kiln_docker::driver::{BollardEngine, ConnectOptions};
use kiln_docker::{ContainerId, ContainerSpec, Engine, Image, ImageId, PullPolicy, Volume, labels};
use kiln_graph::{ImageConfig, Platform};
use tokio::runtime::Runtime;

/// A connection of the tests' own.
pub struct Daemon {
    runtime: Runtime,
    engine: BollardEngine,
}

impl Daemon {
    /// Connects to the daemon at an address.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn connect(host: &str) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let options = ConnectOptions { host: Some(host.to_owned()), ..ConnectOptions::default() };
        let engine = runtime.block_on(BollardEngine::connect(&options)).expect("the daemon under test answers");
        Self { runtime, engine }
    }

    /// Names of the containers that a process of kiln made and that are still there.
    pub fn left_by(&self, pid: u32) -> Vec<String> {
        let all = self.runtime.block_on(self.engine.containers_with_label(labels::OWNER)).expect("a listing");
        let owner = format!("/{pid}/");
        let ours = all.into_iter().filter(|c| c.labels.get(labels::OWNER).is_some_and(|o| o.contains(&owner)));
        ours.map(|container| container.name).collect()
    }

    pub(crate) fn left_of(&self, scope: &str) -> Vec<String> {
        let label = format!("{}={scope}", labels::SCOPE);
        self.runtime.block_on(async {
            let containers = self.engine.containers_with_label(&label).await.expect("a listing");
            let volumes = self.engine.volumes_with_label(&label, false).await.expect("a listing");
            let images = self.engine.images_with_label(&label).await.expect("a listing");
            let kept =
                |volume: &&Volume| [labels::CACHE, labels::TWIN].iter().any(|name| volume.labels.contains_key(*name));
            let volumes = volumes.iter().filter(|volume| !kept(volume)).map(|volume| format!("volume {}", volume.name));
            let images = images.iter().filter(|image| image.labels.get(labels::KEY).is_none_or(String::is_empty));
            let images = images.map(|image| format!("image {}", image.id));
            let containers = containers.iter().map(|container| format!("container {}", container.name));
            containers.chain(volumes).chain(images).collect()
        })
    }

    pub(crate) fn checkpoints_of(&self, scope: &str) -> Vec<String> {
        let label = format!("{}={scope}", labels::SCOPE);
        let images = self.runtime.block_on(self.engine.images_with_label(&label)).expect("a listing").into_iter();
        let mut ids: Vec<String> =
            images.filter(|image| image.labels.contains_key(labels::KEY)).map(|image| image.id.0).collect();
        ids.sort();
        ids
    }

    /// Fails if a process of kiln left a container behind.
    pub fn assert_nothing_left(&self, pid: u32) {
        assert_eq!(self.left_by(pid), [""; 0], "containers were left behind");
    }

    /// Waits until a process of kiln has a running container.
    pub fn wait_for_container(&self, pid: u32) {
        let start = Instant::now();
        while self.left_by(pid).is_empty() {
            assert!(start.elapsed() < Duration::from_mins(1), "no container of {pid} came up");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// An image on the daemon.
    pub fn image(&self, name: &str) -> Option<Image> {
        self.runtime.block_on(self.engine.inspect_image(name)).expect("an answer")
    }

    /// Pulls an image; its id. Of another platform than the daemon's, kiln's own name alone stays.
    pub fn pull(&self, name: &str, platform: Platform) -> ImageId {
        let pulling = self.engine.resolve_image(name, platform, PullPolicy::Always, &|_| {});
        self.runtime.block_on(pulling).expect("the image can be pulled").id
    }

    /// The files of a container of an image, as an archive.
    pub fn files(&self, image: &str, platform: Platform) -> Vec<u8> {
        let id = self.image(image).expect("the image is there").id;
        self.runtime.block_on(async {
            let spec = container(id, platform, vec!["/none".to_owned()]);
            let id = self.engine.create_container(&spec).await.expect("a container");
            let mut stream = self.engine.export(&id).await.expect("an archive");
            let mut bytes = Vec::new();
            while let Some(chunk) = stream.next().await {
                bytes.extend_from_slice(&chunk.expect("whole"));
            }
            self.engine.remove_container(&id).await.expect("removal");
            bytes
        })
    }

    /// Removes an image with all its names.
    pub fn remove_whole_image(&self, id: &ImageId) {
        for name in self.image(&id.0).into_iter().flat_map(|image| image.tags) {
            self.remove_image(&name);
        }
    }

    /// What an image's history says, oldest first.
    pub fn history(&self, image: &ImageId) -> Vec<String> {
        let history = self.runtime.block_on(self.engine.image_history(image)).expect("a history");
        history.into_iter().map(|step| step.created_by).collect()
    }

    /// Removes a name of an image.
    pub fn remove_image(&self, name: &str) {
        self.runtime.block_on(self.engine.remove_image(name)).expect("it goes");
    }

    /// Runs an image of a platform, pulled anew, as its configuration says, with more arguments; its exit code and what it
    /// wrote.
    ///
    /// # Panics
    /// If that fails.
    pub fn run_image(&self, name: &str, platform: Platform, pull: PullPolicy, arguments: &[&str]) -> (i64, String) {
        let image = self.runtime.block_on(self.engine.resolve_image(name, platform, pull, &|_| {}));
        let image = image.expect("the image of the platform");
        let argv = image.config.entrypoint.iter().flatten().map(String::as_str).chain(arguments.iter().copied());
        let argv = argv.map(str::to_owned).collect();
        let ImageConfig { user, working_dir: cwd, env, .. } = image.config;
        let env = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let spec = ContainerSpec { user, cwd, env, ..container(image.id, platform, argv) };
        self.runtime.block_on(async {
            let id = self.engine.create_container(&spec).await.expect("a container");
            self.finished(&id).await
        })
    }

    /// Runs a container to its end and removes it.
    async fn finished(&self, id: &ContainerId) -> (i64, String) {
        let mut log = self.engine.attach(id).await.expect("its output");
        self.engine.start_container(id).await.expect("a start");
        let mut text = Vec::new();
        while let Some(Ok(chunk)) = log.next().await {
            text.extend_from_slice(&chunk.bytes);
        }
        let status = self.engine.wait_container(id).await.expect("its end");
        self.engine.remove_container(id).await.expect("removal");
        (status.code, String::from_utf8_lossy(&text).into_owned())
    }

    /// Runs a program of this machine in a clean container of the image; its exit code and what it wrote.
    pub fn run(&self, image: &str, platform: Platform, program: &std::path::Path, arguments: &[&str]) -> (i64, String) {
        let content = std::fs::read(program).expect("the program");
        self.runtime.block_on(async {
            let image = self
                .engine
                .resolve_image(image, platform, PullPolicy::Missing, &|_| {})
                .await
                .expect("the image of the platform");
            let argv = std::iter::once("/program").chain(arguments.iter().copied());
            let spec = container(image.id, platform, argv.map(str::to_owned).collect());
            let id = self.engine.create_container(&spec).await.expect("a container");
            let archive = archive_of(&content);
            self.engine.upload(&id, "/", archive).await.expect("an upload");
            self.finished(&id).await
        })
    }
}

/// A container of the tests' own.
fn container(image: ImageId, platform: Platform, argv: Vec<String>) -> ContainerSpec {
    let labels = [("kiln.test".to_owned(), "1".to_owned())].into();
    ContainerSpec { argv, cwd: "/".to_owned(), ..ContainerSpec::idle(image, platform, labels) }
}

/// An archive with the program in it.
fn archive_of(content: &[u8]) -> kiln_docker::ByteStream {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o755);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header, "program", content).expect("in memory");
    let bytes = builder.into_inner().expect("in memory");
    futures::stream::iter([Ok(bytes.into())]).boxed()
}
