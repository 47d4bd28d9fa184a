//! A registry of our own: the engines' mirror of Docker Hub, filled over its HTTP API without any engine.
//!
//! Protocol: <https://distribution.github.io/distribution/spec/api/>.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::layout::{Layout, State};
use super::{hex, say};
use crate::process::{Service, write_file};

const FIRST_PORT: u16 = 5057;
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The running registry.
#[derive(Debug, Clone)]
pub(crate) struct Registry {
    port: u16,
    agent: ureq::Agent,
}

/// A blob's digest (`sha256:...`) and size in bytes.
#[derive(Debug, Clone)]
pub(crate) struct Blob {
    pub(crate) digest: String,
    pub(crate) size: u64,
}

impl Blob {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self { digest: format!("sha256:{}", hex(&Sha256::digest(bytes))), size: bytes.len() as u64 }
    }

    /// Reads the file once.
    pub(crate) fn of_file(path: &Path) -> Result<Self> {
        let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut hash = Hashing(Sha256::new());
        let size = std::io::copy(&mut file, &mut hash).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { digest: format!("sha256:{}", hex(&hash.0.finalize())), size })
    }
}

/// A writer that only hashes.
pub(crate) struct Hashing(pub(crate) Sha256);

impl std::io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn config(layout: &Layout) -> PathBuf {
    layout.run().join("registry.yml")
}

/// The registry as a process.
pub(crate) fn service(layout: &Layout) -> Service {
    Service {
        name: "registry".to_owned(),
        pidfile: layout.run().join("registry.pid"),
        token: config(layout).display().to_string(),
        log: layout.log("registry"),
    }
}

/// Starts the registry unless it runs.
pub(crate) fn up(layout: &Layout, state: &mut State) -> Result<Registry> {
    let service = service(layout);
    if let (Some(port), Some(_)) = (state.registry_port, service.pid()) {
        let registry = Registry::at(port);
        if registry.answers() {
            return Ok(registry);
        }
        service.stop(Duration::from_secs(5))?;
    }
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let kept = state.registry_port.filter(|port| free(*port));
    let port = kept.or_else(|| (FIRST_PORT..FIRST_PORT + 200).find(|port| free(*port)));
    let port = port.context("no free port for the registry")?;
    if kept.is_none() {
        state.registry_port = Some(port);
    }
    // Uploads are only ever ours and the log is only read by people, so neither needs more than this.
    let text = format!(
        "version: 0.1\nlog: {{level: warn, accesslog: {{disabled: true}}}}\n\
         storage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\n\
         http: {{addr: \"127.0.0.1:{port}\"}}\n",
        layout.root.join("registry").display()
    );
    write_file(&config(layout), text)?;
    service.start(Command::new("docker-registry").arg("serve").arg(config(layout)))?;
    let registry = Registry::at(port);
    service.wait_until(Duration::from_secs(20), || registry.answers())?;
    say(format!("registry on 127.0.0.1:{port}"));
    Ok(registry)
}

impl Registry {
    pub(crate) fn at(port: u16) -> Self {
        // Proxies of the environment are for the outside, not for our own loopback address.
        let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build();
        Self { port, agent: config.into() }
    }

    /// `host:port`, as it stands in an image reference.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/v2/{path}", self.address())
    }

    pub(crate) fn answers(&self) -> bool {
        self.agent.get(self.url("")).call().is_ok_and(|reply| reply.status() == 200)
    }

    /// The index under a tag, if there is one.
    pub(crate) fn index(&self, name: &str, tag: &str) -> Option<Value> {
        let url = self.url(&format!("{name}/manifests/{tag}"));
        let mut reply = self.agent.get(url).header("Accept", INDEX).call().ok()?;
        if reply.status() != 200 {
            return None;
        }
        serde_json::from_str(&reply.body_mut().read_to_string().ok()?).ok()
    }

    /// Uploads a blob of memory unless the registry has it.
    pub(crate) fn push_bytes(&self, name: &str, bytes: &[u8]) -> Result<Blob> {
        let blob = Blob::of(bytes);
        self.push_blob(name, &blob, || Ok(ureq::SendBody::from_owned_reader(std::io::Cursor::new(bytes.to_vec()))))?;
        Ok(blob)
    }

    /// Uploads a file unless the registry has it.
    pub(crate) fn push_file(&self, name: &str, blob: &Blob, path: &Path) -> Result<()> {
        self.push_blob(name, blob, || {
            let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            Ok(ureq::SendBody::from_owned_reader(file))
        })
    }

    fn push_blob<'a>(&self, name: &str, blob: &Blob, body: impl FnOnce() -> Result<ureq::SendBody<'a>>) -> Result<()> {
        let digest = &blob.digest;
        let present = self.agent.head(self.url(&format!("{name}/blobs/{digest}"))).call()?;
        if present.status() == 200 {
            return Ok(());
        }
        let start = self.agent.post(self.url(&format!("{name}/blobs/uploads/"))).send_empty()?;
        let location = start.headers().get("location").and_then(|value| value.to_str().ok());
        let location = location.with_context(|| format!("the registry takes no upload for {name}"))?;
        let separator = if location.contains('?') { '&' } else { '?' };
        let reply = self
            .agent
            .put(format!("{location}{separator}digest={digest}"))
            .header("Content-Type", "application/octet-stream")
            .header("Content-Length", blob.size.to_string())
            .send(body()?)?;
        accepted(reply, &format!("blob {digest} of {name}"))
    }

    /// Stores a manifest under its digest.
    pub(crate) fn push_manifest(&self, name: &str, manifest: &Value) -> Result<Blob> {
        let bytes = serde_json::to_vec(manifest)?;
        let blob = Blob::of(&bytes);
        self.put_manifest(name, &blob.digest, MANIFEST, &bytes)?;
        Ok(blob)
    }

    /// Stores an index under a tag.
    pub(crate) fn push_index(&self, name: &str, tag: &str, index: &Value) -> Result<()> {
        self.put_manifest(name, tag, INDEX, &serde_json::to_vec(index)?)
    }

    fn put_manifest(&self, name: &str, reference: &str, kind: &str, bytes: &[u8]) -> Result<()> {
        let url = self.url(&format!("{name}/manifests/{reference}"));
        let reply = self.agent.put(url).header("Content-Type", kind).send(bytes)?;
        accepted(reply, &format!("manifest {reference} of {name}"))
    }
}

fn accepted(mut reply: ureq::http::Response<ureq::Body>, what: &str) -> Result<()> {
    if reply.status() == 201 {
        return Ok(());
    }
    bail!("the registry refused {what}: {} {}", reply.status(), reply.body_mut().read_to_string().unwrap_or_default())
}
