//! Servers that caches are kept on: S3 by moto, Azure's blobs by Azurite, Google's storage by an emulator, a web server with and
//! without WebDAV by nginx, and redis for ccache.
//!
//! Nothing else depends on them. Where one cannot be had, the tests that need it say so.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::layout::{Layout, State};
use super::{packages, say};
use crate::process::{Service, write_file};

/// What moto's server for S3 is made of; the rest of `moto[server]` is for other services and takes minutes.
const MOTO: [&str; 3] = ["moto[s3]==5.2.1", "flask==3.1.3", "flask-cors==6.0.2"];
/// Microsoft's own stand-in for its storage.
const AZURITE: &str = "azurite@3.35.0";
/// A stand-in for Google's storage; Google has none.
const GCS: [&str; 1] = ["gcp-storage-emulator==2026.7.19"];
/// The module that adds PROPFIND to what nginx knows of WebDAV.
const DAV_MODULE: &str = "/usr/lib/nginx/modules/ngx_http_dav_ext_module.so";
/// The folders that they are installed in, and their programs there.
const MOTO_SERVER: (&str, &str) = ("moto", "bin/moto_server");
const AZURITE_SERVER: (&str, &str) = ("azurite", "node_modules/azurite/dist/src/blob/main.js");
const GCS_SERVER: (&str, &str) = ("gcs-emulator", "bin/gcp-storage-emulator");

const FIRST_PORT: u16 = 5357;

/// A server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Server {
    S3,
    Azblob,
    Gcs,
    Web,
    Redis,
}

const SERVERS: [Server; 5] = [Server::S3, Server::Azblob, Server::Gcs, Server::Web, Server::Redis];

impl Server {
    fn name(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Azblob => "azblob",
            Self::Gcs => "gcs",
            Self::Web => "web",
            Self::Redis => "redis",
        }
    }

    /// The variable that names its address.
    fn variable(self) -> String {
        format!("KILN_TESTBED_{}", self.name().to_uppercase())
    }

    fn service(self, layout: &Layout) -> Service {
        let installed = |(folder, program): (&str, &str)| layout.cache().join(folder).join(program);
        let token = match self {
            Self::S3 => installed(MOTO_SERVER),
            Self::Azblob => installed(AZURITE_SERVER),
            Self::Gcs => installed(GCS_SERVER),
            Self::Web => nginx_config(layout),
            Self::Redis => redis_config(layout),
        };
        Service {
            name: self.name().to_owned(),
            pidfile: layout.run().join(self.name()).with_extension("pid"),
            token: token.display().to_string(),
            log: layout.log(self.name()),
        }
    }

    fn url(self, port: u16) -> String {
        let scheme = if self == Self::Redis { "redis" } else { "http" };
        format!("{scheme}://127.0.0.1:{port}")
    }

    /// Whether something there speaks its protocol.
    fn answers(self, port: u16) -> bool {
        if self == Self::Redis {
            return pong(port).is_ok_and(|answer| answer.starts_with(b"+PONG"));
        }
        let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
        let agent: ureq::Agent = config.timeout_global(Some(Duration::from_secs(5))).build().into();
        agent.get(self.url(port)).call().is_ok()
    }
}

/// What a redis server says to a PING.
fn pong(port: u16) -> std::io::Result<[u8; 5]> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// Starts the servers unless they run.
pub(super) fn up(layout: &Layout, state: &mut State) {
    for server in SERVERS {
        if let Err(error) = start(layout, state, server) {
            say(format!("no {} server for caches: {error:#}", server.name()));
        }
    }
}

/// Where they are, as far as they answer.
pub(super) fn variables(state: &State) -> Vec<(String, String)> {
    let known = SERVERS.iter().filter_map(|server| Some((server, *state.store_ports.get(server.name())?)));
    known
        .filter(|(server, port)| server.answers(*port))
        .map(|(server, port)| (server.variable(), server.url(port)))
        .collect()
}

/// Stops them.
pub(super) fn down(layout: &Layout) -> Result<()> {
    for server in SERVERS {
        if server.service(layout).stop(Duration::from_secs(5))? {
            say(format!("stopped the {} server", server.name()));
        }
    }
    Ok(())
}

fn start(layout: &Layout, state: &mut State, server: Server) -> Result<()> {
    let service = server.service(layout);
    let kept = state.store_ports.get(server.name()).copied();
    if service.pid().is_some() {
        if kept.is_some_and(|port| server.answers(port)) {
            return Ok(());
        }
        service.stop(Duration::from_secs(5))?;
    }
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let taken: Vec<u16> = state.store_ports.values().copied().collect();
    let port = kept.filter(|port| free(*port));
    let port = port.or_else(|| (FIRST_PORT..FIRST_PORT + 200).find(|port| !taken.contains(port) && free(*port)));
    let port = port.context("no free port")?;
    let command = match server {
        Server::S3 => s3(layout, port)?,
        Server::Azblob => azblob(layout, port)?,
        Server::Gcs => gcs(layout, port)?,
        Server::Web => web(layout, port)?,
        Server::Redis => redis(layout, port)?,
    };
    service.start(&command)?;
    service.wait_until(Duration::from_mins(1), || server.answers(port))?;
    state.store_ports.insert(server.name().to_owned(), port);
    say(format!("{} server on 127.0.0.1:{port}", server.name()));
    Ok(())
}

/// moto's server, in an environment of its own. What is put there is gone when it ends, as with the next two.
fn s3(layout: &Layout, port: u16) -> Result<Command> {
    let folder = packages::kept_environment(layout, MOTO_SERVER.0, &MOTO)?;
    let mut command = Command::new(folder.join("bin/python"));
    command.arg(folder.join(MOTO_SERVER.1)).args(["-H", "127.0.0.1", "-p", &port.to_string()]);
    // Settings of the user's own are not meant for it.
    command.env_remove("AWS_PROFILE").env_remove("AWS_ENDPOINT_URL");
    Ok(command)
}

fn azblob(layout: &Layout, port: u16) -> Result<Command> {
    let folder = packages::kept_node(layout, AZURITE_SERVER.0, AZURITE)?;
    let mut command = Command::new("node");
    command.arg(folder.join(AZURITE_SERVER.1)).args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()]);
    command.args(["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"]);
    Ok(command)
}

fn gcs(layout: &Layout, port: u16) -> Result<Command> {
    let folder = packages::kept_environment(layout, GCS_SERVER.0, &GCS)?;
    let mut command = Command::new(folder.join("bin/python"));
    command.arg(folder.join(GCS_SERVER.1)).args([
        "start",
        "-H",
        "127.0.0.1",
        "--port",
        &port.to_string(),
        "--in-memory",
    ]);
    Ok(command)
}

fn nginx_config(layout: &Layout) -> PathBuf {
    layout.run().join("nginx.conf")
}

/// nginx as one process, so that nothing is left of it when it is killed.
fn web(layout: &Layout, port: u16) -> Result<Command> {
    // The module's package is looked for by the module itself.
    packages::install(&[("nginx", "nginx"), (DAV_MODULE, "libnginx-mod-http-dav-ext")])?;
    let folder = layout.root.join("web");
    // Caches of earlier tests are of no use to later ones.
    let _ = fs::remove_dir_all(&folder);
    for name in ["dav", "plain", "locked", "readonly"] {
        let path = folder.join("files").join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    }
    let users = layout.run().join("nginx.users");
    write_file(&users, "kiln:{PLAIN}let-me-in\n")?;
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {}/tmp-{kind};\n", folder.display()))
        .concat();
    let dav = "dav_methods PUT DELETE MKCOL COPY MOVE; dav_ext_methods PROPFIND OPTIONS;";
    let text = format!(
        "daemon off;\nmaster_process off;\nuser root;\npid {run}/nginx.pid;\nerror_log stderr;\n\
         load_module {DAV_MODULE};\nevents {{}}\nhttp {{\n  access_log off;\n  client_max_body_size 0;\n{temporary}\
         \x20 server {{\n    listen 127.0.0.1:{port};\n    root {files};\n\
         \x20   location /dav/ {{ {dav} }}\n\
         \x20   location /plain/ {{ dav_methods PUT DELETE; create_full_put_path on; }}\n\
         \x20   location /locked/ {{\n      auth_basic kiln;\n      auth_basic_user_file {users};\n      {dav}\n\
         \x20     create_full_put_path on;\n    }}\n  }}\n}}\n",
        run = layout.run().display(),
        files = folder.join("files").display(),
        users = users.display(),
    );
    write_file(&nginx_config(layout), text)?;
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-c").arg(nginx_config(layout));
    Ok(command)
}

fn redis_config(layout: &Layout) -> PathBuf {
    layout.run().join("redis.conf")
}

/// A redis server that keeps nothing on the disk.
fn redis(layout: &Layout, port: u16) -> Result<Command> {
    packages::install(&[("redis-server", "redis-server")])?;
    let config = redis_config(layout);
    // It writes a title of its own over its arguments, by which it could not be told from another one.
    let text = format!(
        "bind 127.0.0.1\nport {port}\ndaemonize no\nsave \"\"\nappendonly no\ndir {run}\n\
         proc-title-template \"{{title}} {{config-file}}\"\n",
        run = layout.run().display(),
    );
    write_file(&config, text)?;
    let mut command = Command::new("redis-server");
    command.arg(config);
    Ok(command)
}
