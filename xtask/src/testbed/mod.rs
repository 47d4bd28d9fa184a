//! A Docker engine, a registry and base images of kiln's own, on any Debian machine and beside any other engine.
//!
//! [`up`] installs what is missing, starts a registry that serves as the engines' mirror of Docker Hub, fills it with
//! multi-platform base images, starts the engine and finds out how containers reach the outside; for caches that travel
//! there are object stores and a web server ([`stores`]), without which the rest works. Each step first looks
//! whether it is done, so `up` is also the repair after a crash and costs little when all is well. Where Docker Hub can
//! be reached its real images are used instead. What the testbed needs lies below one folder ([`layout`]); it ends only
//! processes that it started, and changes packet filter, interfaces and emulators only by adding its own.

pub(crate) mod cli;
mod daemon;
mod emulation;
mod engine;
mod images;
mod layout;
mod musl;
mod network;
mod newest;
pub(crate) mod packages;
mod registry;
mod rootfs;
mod stores;

use std::fmt::{Display, Write};
use std::fs;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::process::hinted;

use daemon::Engine;
pub(crate) use daemon::Flavour;
use images::AMD64;
pub(crate) use layout::Layout;
use layout::{State, unmount_below};
use network::HostNetwork;
use registry::Registry;

/// What [`up`] shall bring up.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) engine: Flavour,
    /// Make the musl builder images as well.
    pub(crate) musl: bool,
}

/// A testbed that is up.
#[derive(Debug, Clone)]
pub(crate) struct Testbed {
    /// The engine's address, for `DOCKER_HOST`.
    pub(crate) docker_host: String,
    /// The variables with which `kiln` and `docker` use it.
    pub(crate) env: Vec<(String, String)>,
}

/// Brings the testbed up, as far as it is not.
pub(crate) fn up(options: &Options) -> Result<Testbed> {
    let layout = Layout::from_environment()?;
    let engine = Engine::new(&layout, options.engine);
    if packages::require_root().is_err()
        && let state = State::load(&layout)
        && let Some(port) = state.registry_port
        && engine.api().ping()
    {
        return Ok(testbed(&engine, &state, &Registry::at(port), &HostNetwork::detect()));
    }
    packages::require_root_on_debian()?;
    let lock = layout.lock("testbed")?;
    let mut state = State::load(&layout);
    emulation::Emulation::sweep(&layout);
    let mut programs = vec![("docker-registry", "docker-registry"), ("iptables", "iptables"), ("ip", "iproute2")];
    if options.engine == Flavour::Stable {
        programs.extend([("dockerd", "docker.io"), ("containerd", "containerd")]);
    }
    if !state.real_images {
        programs.push(("mmdebstrap", "mmdebstrap"));
    }
    packages::install(&programs)?;
    if options.engine != Flavour::Stable {
        newest::up(&layout)?;
    }
    let registry = registry::up(&layout, &mut state)?;
    // Packages are in place before an engine is, and these two install some.
    stores::up(&layout, &mut state);
    let bridge = network::bridge_up(&layout, &mut state, options.engine.name())?;
    state.save(&layout)?;
    engine.up(&bridge, &registry)?;
    base_images(&layout, &mut state, &engine, &registry)?;
    let host = HostNetwork::detect();
    if !network::reach_is_known(&state, options.engine.name(), &host) {
        engine.api().pull("alpine", "3.20", &format!("linux/{}", AMD64.docker))?;
        network::detect_reach(&mut state, options.engine.name(), &engine.api(), "alpine:3.20", &host)?;
    }
    state.save(&layout)?;
    drop(lock);
    if options.musl {
        // Minutes of work that nothing else depends on: it has a lock of its own.
        let _lock = layout.lock("musl")?;
        musl::up(&layout, &registry, &testdata())?;
    }
    Ok(testbed(&engine, &state, &registry, &host))
}

/// Fills the registry, unless Docker Hub can be reached and has the real images.
fn base_images(layout: &Layout, state: &mut State, engine: &Engine, registry: &Registry) -> Result<()> {
    let testdata = testdata();
    let hub = || docker_hub_answers() && pull_real_images(engine).is_ok();
    if state.real_images || images::are_current(registry) {
        return Ok(());
    }
    if hub() {
        say("Docker Hub can be reached: its images are used");
        state.real_images = true;
        return Ok(());
    }
    if !images::has_minirootfs(&testdata) {
        return Err(hinted(
            format!("alpine:3.20 is to be had neither from Docker Hub nor from {}", testdata.display()),
            "put the official minirootfs tarballs and their checksums.sha512 there",
        ));
    }
    images::ensure_base_images(layout, registry, &testdata)
}

/// Where the official minirootfs tarballs of Alpine lie: beside the checkout.
fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/testdata/alpine")
}

fn pull_real_images(engine: &Engine) -> Result<()> {
    for architecture in images::ARCHITECTURES {
        let platform = format!("linux/{}", architecture.docker);
        engine.api().pull("alpine", "3.20", &platform)?;
        engine.api().pull("debian", "bookworm", &platform)?;
    }
    Ok(())
}

/// Whether something listens where Docker Hub should be; a host without a way out may take long to say no.
fn docker_hub_answers() -> bool {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let address = "registry-1.docker.io:443".to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
        let answers =
            address.is_some_and(|address| TcpStream::connect_timeout(&address, Duration::from_secs(3)).is_ok());
        let _ = sender.send(answers);
    });
    receiver.recv_timeout(Duration::from_secs(5)).unwrap_or(false)
}

fn testbed(engine: &Engine, state: &State, registry: &Registry, host: &HostNetwork) -> Testbed {
    let docker_host = format!("unix://{}", engine.socket().display());
    let mut env =
        vec![("DOCKER_HOST".to_owned(), docker_host.clone()), ("KILN_TESTBED_REGISTRY".to_owned(), registry.address())];
    let (name, tag) = musl::IMAGE;
    if images::is_current(registry, name, tag, musl::RECIPE) {
        env.push(("KILN_TESTBED_MUSL_IMAGE".to_owned(), format!("{name}:{tag}")));
    }
    env.extend(stores::variables(state));
    let network = state.reach.get(engine.flavour.name()).and_then(|reach| reach.network.as_deref());
    env.extend(host.variables(network));
    Testbed { docker_host, env }
}

/// Stops everything that the testbed started; `purge` deletes its folder as well.
pub(crate) fn down(purge: bool) -> Result<()> {
    let layout = Layout::from_environment()?;
    if !layout.root.exists() {
        say("there is no testbed");
        return Ok(());
    }
    packages::require_root()?;
    let lock = layout.lock("testbed")?;
    let mut state = State::load(&layout);
    emulation::Emulation::sweep(&layout);
    for flavour in FLAVOURS {
        if Engine::new(&layout, flavour).down()? {
            say(format!("stopped engine {}", flavour.name()));
        }
    }
    if registry::service(&layout).stop(Duration::from_secs(10))? {
        say("stopped registry");
    }
    stores::down(&layout)?;
    for bridge in state.bridges.values() {
        network::bridge_down(&layout, bridge);
    }
    unmount_below(&layout.root)?;
    if purge {
        fs::remove_dir_all(&layout.root).with_context(|| format!("cannot delete {}", layout.root.display()))?;
        say(format!("deleted {}", layout.root.display()));
    } else {
        state.save(&layout)?;
    }
    drop(lock);
    Ok(())
}

const FLAVOURS: [Flavour; 3] = [Flavour::Stable, Flavour::Newest, Flavour::NewestContainerd];

/// What runs.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    pub(crate) root: PathBuf,
    pub(crate) registry: Option<RegistryStatus>,
    /// Addresses of the servers for caches, by the variable that names them.
    pub(crate) stores: Vec<(String, String)>,
    pub(crate) images: Vec<ImageStatus>,
    pub(crate) engines: Vec<EngineStatus>,
}

#[derive(Debug, Serialize)]
pub(crate) struct RegistryStatus {
    pub(crate) address: String,
    pub(crate) pid: i32,
}

#[derive(Debug, Serialize)]
pub(crate) struct ImageStatus {
    pub(crate) name: String,
    pub(crate) platforms: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct EngineStatus {
    pub(crate) name: &'static str,
    pub(crate) docker_host: String,
    pub(crate) pid: Option<i32>,
    /// None if it does not answer.
    pub(crate) version: Option<String>,
    pub(crate) api_version: Option<String>,
    /// The network through which containers reach the outside.
    pub(crate) network: Option<String>,
}

/// Finds out what runs, changing nothing.
pub(crate) fn status() -> Result<Status> {
    let layout = Layout::from_environment()?;
    let state = State::load(&layout);
    let pid = registry::service(&layout).pid().map(|pid| pid.as_raw_nonzero().get());
    let registry = state.registry_port.map(Registry::at).filter(Registry::answers).zip(pid);
    let images = registry.iter().flat_map(|(registry, _)| images::stored(registry)).collect();
    let engines = FLAVOURS.map(|flavour| {
        let engine = Engine::new(&layout, flavour);
        let version = engine.api().version().ok();
        EngineStatus {
            name: flavour.name(),
            docker_host: format!("unix://{}", engine.socket().display()),
            pid: engine.dockerd().pid().map(|pid| pid.as_raw_nonzero().get()),
            version: version.as_ref().map(|(version, _)| version.clone()),
            api_version: version.map(|(_, api)| api),
            network: state.reach.get(flavour.name()).and_then(|reach| reach.network.clone()),
        }
    });
    Ok(Status {
        root: layout.root.clone(),
        registry: registry.map(|(registry, pid)| RegistryStatus { address: registry.address(), pid }),
        stores: stores::variables(&state),
        images,
        engines: engines.into(),
    })
}

/// Tells a person what happens; stdout is for results.
fn say(message: impl Display) {
    eprintln!("testbed: {message}");
}

/// Bytes in hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
