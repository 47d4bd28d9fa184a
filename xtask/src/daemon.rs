//! The few calls of the Docker Engine API that tasks make themselves.
//!
//! HTTP/1.0: the daemon then answers without chunks and closes the connection at the end, so a reply is simply read to
//! its end. <https://docs.docker.com/reference/api/engine/>

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// No call takes longer than this.
const LIMIT: Duration = Duration::from_mins(10);

/// A daemon that listens at a unix socket or at a TCP port without TLS.
#[derive(Debug, Clone)]
pub(crate) struct Daemon {
    address: String,
}

/// An image in a listing.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) id: String,
    pub(crate) tags: Vec<String>,
    /// Seconds since 1970.
    pub(crate) created: i64,
}

/// How a program in a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) code: i64,
    /// What it wrote, on both streams.
    pub(crate) output: String,
}

trait Connection: Read + Write {}
impl<T: Read + Write> Connection for T {}

impl Daemon {
    pub(crate) fn at(address: &str) -> Self {
        Self { address: address.to_owned() }
    }

    fn connect(&self) -> Result<Box<dyn Connection>> {
        let connect = || -> Result<Box<dyn Connection>> {
            if let Some(path) = self.address.strip_prefix("unix://") {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(LIMIT))?;
                return Ok(Box::new(stream));
            }
            let Some(address) = self.address.strip_prefix("tcp://") else { bail!("it is neither unix:// nor tcp://") };
            let stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(LIMIT))?;
            Ok(Box::new(stream))
        };
        connect().with_context(|| format!("cannot reach the daemon at {}", self.address))
    }

    fn call(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> Result<Vec<u8>> {
        let mut stream = self.connect()?;
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: engine\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).with_context(|| format!("no answer to {method} {path}"))?;
        let end = reply.windows(4).position(|bytes| bytes == b"\r\n\r\n").context("the answer is no HTTP")?;
        let head = String::from_utf8_lossy(&reply[..end]).into_owned();
        let status: u16 = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("the answer is no HTTP")?;
        let body = reply.split_off(end + 4);
        if status >= 400 {
            let message = serde_json::from_slice::<Value>(&body).ok();
            let text = message.as_ref().and_then(|value| value["message"].as_str()).unwrap_or_default();
            bail!("the daemon refused {method} {path}: {status} {text}");
        }
        Ok(body)
    }

    /// A reply as JSON.
    pub(crate) fn get(&self, path: &str) -> Result<Value> {
        Ok(serde_json::from_slice(&self.call("GET", path, "text/plain", &[])?)?)
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value> {
        // A body that the daemon does not read would make it reset the connection, the answer still under way.
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let reply = self.call("POST", path, "application/json", body.as_bytes())?;
        Ok(serde_json::from_slice(&reply).unwrap_or(Value::Null))
    }

    fn delete(&self, path: &str) -> Result<()> {
        self.call("DELETE", path, "text/plain", &[]).map(drop)
    }

    /// Version of the engine, with its image store.
    pub(crate) fn flavour(&self) -> Result<String> {
        let info = self.get("/info")?;
        let text = |name: &str| info[name].as_str().unwrap_or("unknown").to_owned();
        Ok(format!("Docker {}, {}", text("ServerVersion"), text("Driver")))
    }

    /// Images with a label, as `NAME=VALUE`.
    pub(crate) fn images(&self, label: &str) -> Result<Vec<Image>> {
        self.images_by("label", label)
    }

    /// The command of an image, its words joined by spaces; empty if it has none.
    pub(crate) fn command(&self, image: &str) -> String {
        let words = self.get(&format!("/images/{image}/json")).unwrap_or_default()["Config"]["Cmd"].take();
        let words = words.as_array().into_iter().flatten().filter_map(Value::as_str);
        words.collect::<Vec<_>>().join(" ")
    }

    fn images_by(&self, filter: &str, value: &str) -> Result<Vec<Image>> {
        let filters = json!({ filter: [value] });
        let list = self.get(&format!("/images/json?filters={}", escaped(&filters.to_string())))?;
        let images = list.as_array().into_iter().flatten().map(|image| Image {
            id: image["Id"].as_str().unwrap_or_default().to_owned(),
            tags: image["RepoTags"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|t| Some(t.as_str()?.to_owned()))
                .collect(),
            created: image["Created"].as_i64().unwrap_or_default(),
        });
        Ok(images.collect())
    }

    /// Removes the volumes and the images that carry a label, and nothing else; how many.
    pub(crate) fn remove_labelled(&self, label: &str) -> Result<usize> {
        let filters = escaped(&json!({ "label": [label] }).to_string());
        let volumes = self.get(&format!("/volumes?filters={filters}"))?;
        let mut removed = 0;
        for volume in volumes["Volumes"].as_array().into_iter().flatten() {
            self.delete(&format!("/volumes/{}", volume["Name"].as_str().unwrap_or_default()))?;
            removed += 1;
        }
        // Newer images stand on older ones, and a parent stays as long as it has children.
        let mut images = self.images(label)?;
        images.sort_by_key(|image| std::cmp::Reverse(image.created));
        for image in &images {
            // An image that stands on a checkpoint of ours keeps it alive: it costs no room of its own.
            if self.delete(&format!("/images/{}", image.id)).is_ok() {
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Runs a program of this machine in a new container of a clean Debian of the platform; nothing is left of it.
    pub(crate) fn run_on_debian(&self, platform: &str, program: &[u8], arguments: &[&str]) -> Result<Ran> {
        // The kernel of a 64-bit machine says so to 32-bit programs too, unless told otherwise.
        let personality = (platform == "linux/386").then_some("linux32");
        let argv: Vec<_> = personality.into_iter().chain(["/program"]).chain(arguments.iter().copied()).collect();
        let id = self.debian_container(platform, &argv)?;
        let run = || -> Result<Ran> {
            let archive = archive("program", program);
            self.call("PUT", &format!("/containers/{id}/archive?path=%2F"), "application/x-tar", &archive)?;
            self.post(&format!("/containers/{id}/start"), &Value::Null)?;
            let status = self.post(&format!("/containers/{id}/wait"), &Value::Null)?;
            let logs = self.call("GET", &format!("/containers/{id}/logs?stdout=1&stderr=1"), "text/plain", &[])?;
            Ok(Ran { code: status["StatusCode"].as_i64().unwrap_or(-1), output: frames(&logs) })
        };
        let ran = run();
        self.delete(&format!("/containers/{id}?force=true"))?;
        ran
    }

    fn debian_container(&self, platform: &str, argv: &[&str]) -> Result<String> {
        let create = |image: &str| -> Result<String> {
            let body = json!({"Image": image, "Cmd": argv, "Labels": {"kiln.demo": "1"}});
            let made = self.post(&format!("/containers/create?platform={}", escaped(platform)), &body)?;
            made["Id"].as_str().map(str::to_owned).context("the daemon gave the container no id")
        };
        // The classic store has one platform under a name; kiln keeps the others under names of its own.
        let reference = format!("kiln.local/base/debian-*:{}", platform.replace('/', "-"));
        let kept = self.images_by("reference", &reference)?;
        let names =
            kept.into_iter().flat_map(|image| image.tags).filter(|tag| tag.starts_with("kiln.local/base/debian-"));
        let mut result = create("debian:bookworm");
        for name in names {
            if result.is_err() {
                result = create(&name);
            }
        }
        result.with_context(|| format!("cannot make a container of debian:bookworm for {platform}"))
    }
}

/// Text for a URL's query.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// The output of a container without a terminal: frames of a stream number, three zeroes, the length in four bytes, and
/// as many bytes. <https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerAttach>
fn frames(mut bytes: &[u8]) -> String {
    let mut text = Vec::new();
    while let [_, 0, 0, 0, a, b, c, d, rest @ ..] = bytes {
        let length = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).unwrap_or(usize::MAX).min(rest.len());
        text.extend_from_slice(&rest[..length]);
        bytes = &rest[length..];
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// A tar archive with one executable in it, in the format of POSIX.1-1988 (`ustar`).
fn archive(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000755");
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{:011o}", content.len()));
    put(136, "00000000000");
    // The checksum counts its own field as spaces.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar");
    put(263, "00");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut archive = header.to_vec();
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(512) + 1024, 0);
    archive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_joined() {
        let bytes = [
            &[1, 0, 0, 0, 0, 0, 0, 3][..],
            b"one",
            &[2, 0, 0, 0, 0, 0, 0, 4],
            b" two",
            &[1, 0, 0, 0, 0, 0, 0, 9],
            b"cut",
        ];
        assert_eq!(frames(&bytes.concat()), "one twocut");
    }

    #[test]
    fn an_archive_is_read_by_tar() {
        let folder = std::env::temp_dir().join(format!("kiln-xtask-tar-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("a.tar");
        std::fs::write(&path, archive("program", &[7; 1000])).unwrap();
        let listing = std::process::Command::new("tar").arg("-tvf").arg(&path).output().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        let text = String::from_utf8_lossy(&listing.stdout).into_owned();
        assert!(
            text.starts_with("-rwxr-xr-x") && text.contains(" 1000 ") && text.trim().ends_with("program"),
            "{text}"
        );
    }
}
