//! The few Docker Engine API calls that the testbed makes itself.
//!
//! HTTP/1.0 over the unix socket: the engine then answers without chunks and closes the connection at the end, so a
//! reply is simply read to its end. <https://docs.docker.com/reference/api/engine/>

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// The API of one engine.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    socket: PathBuf,
}

impl Api {
    pub(crate) fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    fn request(&self, method: &str, path: &str, body: Option<&Value>, limit: Duration) -> Result<(u16, String)> {
        let attempt = || -> std::io::Result<Vec<u8>> {
            let mut stream = UnixStream::connect(&self.socket)?;
            stream.set_read_timeout(Some(limit))?;
            let body = body.map(Value::to_string).unwrap_or_default();
            write!(
                stream,
                "{method} {path} HTTP/1.0\r\nHost: engine\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )?;
            let mut reply = Vec::new();
            stream.read_to_end(&mut reply)?;
            Ok(reply)
        };
        let reply = attempt().with_context(|| format!("no answer from the engine at {}", self.socket.display()))?;
        let reply = String::from_utf8_lossy(&reply);
        let (head, body) = reply.split_once("\r\n\r\n").context("the engine's answer is no HTTP")?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("the answer has no status")?;
        Ok((status, body.to_owned()))
    }

    fn call(&self, method: &str, path: &str, body: Option<&Value>, limit: Duration) -> Result<String> {
        let (status, text) = self.request(method, path, body, limit)?;
        if status >= 400 {
            let message = serde_json::from_str::<Value>(&text).ok();
            let message = message.as_ref().and_then(|value| value["message"].as_str()).unwrap_or(&text);
            bail!("the engine refused {method} {path}: {message}");
        }
        Ok(text)
    }

    /// Whether the engine answers.
    pub(crate) fn ping(&self) -> bool {
        self.request("GET", "/_ping", None, Duration::from_secs(2)).is_ok_and(|(status, _)| status == 200)
    }

    /// The engine's version and its newest API version.
    pub(crate) fn version(&self) -> Result<(String, String)> {
        let text = self.call("GET", "/version", None, Duration::from_secs(5))?;
        let value: Value = serde_json::from_str(&text)?;
        let field = |name: &str| value[name].as_str().unwrap_or("unknown").to_owned();
        Ok((field("Version"), field("ApiVersion")))
    }

    /// Pulls an image for a platform such as `linux/arm64`.
    pub(crate) fn pull(&self, name: &str, tag: &str, platform: &str) -> Result<()> {
        let path = format!("/images/create?fromImage={name}&tag={tag}&platform={}", platform.replace('/', "%2F"));
        let report = self.call("POST", &path, None, Duration::from_mins(10))?;
        // The status is 200 even if the pull fails later on; the report's last line then says so.
        for line in report.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            if let Some(error) = line["error"].as_str() {
                bail!("cannot pull {name}:{tag} for {platform}: {error}");
            }
        }
        Ok(())
    }

    /// Runs a shell command in a container of the image and returns whether it succeeded. Nothing is left of it.
    pub(crate) fn try_in_container(&self, image: &str, network: &str, env: &[String], script: &str) -> Result<bool> {
        let second = Duration::from_secs(1);
        let body = json!({
            "Image": image,
            "Cmd": ["sh", "-c", script],
            "Env": env,
            "Labels": {"kiln.testbed": "probe"},
            "HostConfig": {"NetworkMode": network},
        });
        let created = self.call("POST", "/containers/create", Some(&body), 30 * second)?;
        let created: Value = serde_json::from_str(&created)?;
        let id = created["Id"].as_str().context("the engine gave the container no id")?;
        let run = || -> Result<bool> {
            self.call("POST", &format!("/containers/{id}/start"), None, 30 * second)?;
            let status = self.call("POST", &format!("/containers/{id}/wait"), None, 60 * second)?;
            Ok(serde_json::from_str::<Value>(&status)?["StatusCode"] == 0)
        };
        let result = run();
        self.call("DELETE", &format!("/containers/{id}?force=true"), None, 30 * second)?;
        result
    }
}
