//! What a container sees of the daemon's machine and of the network: disk, memory, clock, names, proxies, certificates.
//!
//! One container with the network, variables and files of a step runs kiln's own program, which tells all of it at once
//! (`kiln-twin/shim/facts.rs`). What that means is for others to say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::{StreamExt, TryStreamExt};
use kiln_graph::Platform;

use crate::toolbox::{self, MOUNT_POINT, ToolFile};
use crate::{ContainerSpec, Engine, EngineError, NetworkSpec, PullPolicy, Result, emulation, probe_image};

/// What is asked, and in which surroundings.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// The network of the container.
    pub network: NetworkSpec,
    /// Its variables, as `NAME=value`. Lengths of their values are told.
    pub env: Vec<String>,
    /// Files below [`MOUNT_POINT`]. Sizes are told, and how many certificates are in each.
    pub files: Vec<ToolFile>,
    /// Where connections are tried.
    pub routes: Vec<Route>,
}

/// A connection to try.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// `HOST:PORT` that is connected to.
    pub to: String,
    /// `HOST:PORT` that a proxy there is asked for.
    pub target: Option<String>,
}

impl Route {
    fn words(&self) -> String {
        self.target.iter().fold(self.to.clone(), |to, target| format!("{to},{target}"))
    }
}

/// What became of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reached {
    /// The name has no address.
    Unresolved(String),
    /// Nobody took the connection.
    Unreachable {
        /// The last address that was tried.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// It was taken.
    Reached {
        /// The address.
        address: String,
    },
    /// The proxy answered with this code of HTTP; 0 if it does not speak it.
    Answered(u16),
    /// The proxy took the connection and gave no answer.
    Broken(String),
    /// It took longer than three seconds.
    Late,
}

/// A file system of the daemon's machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Where in the container it was asked for.
    pub path: String,
    /// Free bytes.
    pub free: u64,
    /// All bytes.
    pub total: u64,
    /// Free entries for files, and all; both 0 where there is no such limit.
    pub entries: (u64, u64),
}

/// What the container said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The file systems of volumes and of containers.
    pub disks: Vec<Disk>,
    /// How far the daemon's clock is before (positive) or behind this machine's, in milliseconds, as far as that is certain.
    pub clock: i64,
    /// Memory that is available, in bytes.
    pub available: Option<u64>,
    /// The limit of the container's memory, in bytes.
    pub limit: Option<u64>,
    /// Variables that are there, with the lengths of their values.
    pub variables: BTreeMap<String, usize>,
    /// Files that are there, by path below [`MOUNT_POINT`]: bytes, certificates.
    pub files: BTreeMap<String, (u64, usize)>,
    /// Servers that are asked for names.
    pub servers: Vec<String>,
    /// What became of the routes.
    pub reached: BTreeMap<Route, Reached>,
}

/// Asks; none where kiln has no program for the daemon's machine.
///
/// # Errors
/// If the daemon fails, or the program does not answer.
pub async fn gather(engine: &dyn Engine, question: &Question) -> Result<Option<Facts>> {
    if kiln_twin::program(engine.info().arch).is_none() {
        return Ok(None);
    }
    let (volume, image) =
        futures::try_join!(toolbox::ensure_toolbox(engine, &question.files), probe_image::ensure(engine))?;
    let mut argv = vec![kiln_twin::PROGRAM.to_owned(), "facts".to_owned()];
    argv.extend([MOUNT_POINT, "/"].map(|path| format!("disk={path}")));
    argv.extend(question.files.iter().map(|file| format!("file={MOUNT_POINT}/{}", file.path)));
    let names = question.env.iter().filter_map(|variable| variable.split_once('=')).map(|(name, _)| name);
    argv.extend(names.map(|name| format!("variable={name}")));
    let routes: BTreeSet<&Route> = question.routes.iter().collect();
    argv.extend(routes.iter().map(|route| format!("reach={}", route.words())));
    let spec = ContainerSpec {
        env: question.env.clone(),
        network: question.network.clone(),
        mounts: vec![toolbox::mount(&volume)],
        ..probe_image::container(&image, engine, "doctor", argv)
    };
    let before = now();
    let ran = emulation::run(engine, &spec).await?;
    read(&ran.output, &question.routes, (before, now())).map(Some).ok_or_else(|| EngineError::Api {
        action: "asking a container for what it sees".to_owned(),
        status: 0,
        message: format!("kiln's program ended with {}: {}", ran.exit.code, ran.output.trim()),
    })
}

/// The servers that an image gets its system packages from, as URLs; none if it is not on the daemon, and nothing is pulled.
///
/// # Errors
/// If the daemon fails.
pub async fn package_servers(engine: &dyn Engine, image: &str) -> Result<Vec<String>> {
    let own = Platform::linux(engine.info().arch);
    let Ok(image) = engine.resolve_image(image, own, PullPolicy::Never, &|_| {}).await else { return Ok(Vec::new()) };
    // It is read, and never started.
    let spec = probe_image::container(&image.id, engine, "doctor", vec!["/".to_owned()]);
    let container = engine.create_container(&spec).await?;
    let mut servers = Vec::new();
    for path in SOURCES {
        if let Ok(stream) = engine.download(&container, path).await {
            // The lines of a file stand in a tar archive as they are.
            let chunks: Vec<_> = stream.take(MOST_CHUNKS).try_collect().await.unwrap_or_default();
            servers.extend(urls(&String::from_utf8_lossy(&chunks.concat())));
        }
    }
    engine.remove_container(&container).await?;
    Ok(servers)
}

/// Where apk and apt are told their servers.
const SOURCES: [&str; 3] = ["/etc/apk/repositories", "/etc/apt/sources.list", "/etc/apt/sources.list.d"];
/// What is read of each.
const MOST_CHUNKS: usize = 64;

/// URLs in text, but for those of comments.
fn urls(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim_start).filter(|line| !line.starts_with('#'));
    let words = lines.flat_map(|line| line.split(|c: char| c.is_whitespace() || c == '\0'));
    words.filter(|word| word.starts_with("http://") || word.starts_with("https://")).map(str::to_owned).collect()
}

/// Milliseconds since 1970.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// Reads the program's lines; `asked` is this machine's time before and after. None if they do not end as they should.
fn read(output: &str, routes: &[Route], asked: (i64, i64)) -> Option<Facts> {
    let mut facts = Facts::default();
    let mut is_whole = false;
    for line in output.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
        match *fields.as_slice() {
            ["done"] => is_whole = true,
            ["time", time] => facts.clock = offset(time.parse().ok()?, asked),
            ["memory", "available", _] => facts.available = number(2),
            ["memory", "limit", _] => facts.limit = number(2),
            ["disk", path, ..] => facts.disks.push(Disk {
                path: path.to_owned(),
                free: number(2)?,
                total: number(3)?,
                entries: (number(4)?, number(5)?),
            }),
            ["file", path, bytes, count] => {
                let name = path.strip_prefix(MOUNT_POINT)?.trim_start_matches('/');
                facts.files.insert(name.to_owned(), (bytes.parse().ok()?, count.parse().ok()?));
            }
            ["variable", name, length] => drop(facts.variables.insert(name.to_owned(), length.parse().ok()?)),
            ["server", address] => facts.servers.push(address.to_owned()),
            ["reach", place, ref answer @ ..] => {
                let route = routes.iter().find(|route| route.words() == place)?;
                facts.reached.insert(route.clone(), reached(answer)?);
            }
            _ => {}
        }
    }
    is_whole.then_some(facts)
}

fn reached(fields: &[&str]) -> Option<Reached> {
    Some(match *fields {
        ["unresolved", reason] => Reached::Unresolved(reason.to_owned()),
        ["unreachable", address, reason] => {
            Reached::Unreachable { address: address.to_owned(), reason: reason.to_owned() }
        }
        ["reached", address] => Reached::Reached { address: address.to_owned() },
        ["answered", code] => Reached::Answered(code.parse().ok()?),
        ["broken", reason] => Reached::Broken(reason.to_owned()),
        ["late"] => Reached::Late,
        _ => return None,
    })
}

/// How far a time is outside of the span in which it was told.
fn offset(told: i64, (before, after): (i64, i64)) -> i64 {
    if told < before { told - before } else { (told - after).max(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_read_as_the_program_tells_them() {
        let direct = Route { to: "index.example:443".to_owned(), target: None };
        let proxied = Route { to: "proxy:3128".to_owned(), target: Some("index.example:443".to_owned()) };
        let dead = Route { to: "10.0.0.1:1".to_owned(), target: None };
        let output = "time\t5000\nmemory\tavailable\t7\nmemory\ttotal\t9\ndisk\t/dev/kiln\t10\t20\t3\t4\n\
            file\t/dev/kiln/ca.crt\t100\t2\nvariable\thttp_proxy\t12\nserver\t127.0.0.11\n\
            reach\tindex.example:443\treached\t1.2.3.4\nreach\tproxy:3128,index.example:443\tanswered\t407\n\
            reach\t10.0.0.1:1\tunreachable\t10.0.0.1\tConnection refused (os error 111)\nsomething newer\ndone\n";
        let facts = read(output, &[direct.clone(), proxied.clone(), dead.clone()], (4000, 4500)).expect("whole");
        assert_eq!((facts.clock, facts.available, facts.limit), (500, Some(7), None));
        assert_eq!(facts.disks, [Disk { path: "/dev/kiln".to_owned(), free: 10, total: 20, entries: (3, 4) }]);
        assert_eq!(facts.files["ca.crt"], (100, 2));
        assert_eq!(facts.variables["http_proxy"], 12);
        assert_eq!(facts.servers, ["127.0.0.11"]);
        assert_eq!(facts.reached[&direct], Reached::Reached { address: "1.2.3.4".to_owned() });
        assert_eq!(facts.reached[&proxied], Reached::Answered(407));
        assert!(matches!(&facts.reached[&dead], Reached::Unreachable { reason, .. } if reason.contains("refused")));
        assert_eq!(read(output.trim_end_matches("done\n"), &[direct, proxied, dead], (0, 0)), None);
    }

    #[test]
    fn a_time_within_the_exchange_is_right() {
        assert_eq!(offset(5, (4, 6)), 0);
        assert_eq!(offset(1, (4, 6)), -3);
        assert_eq!(offset(9, (4, 6)), 3);
    }

    #[test]
    fn servers_of_packages_are_found_in_what_apk_and_apt_read() {
        let text = "sources\0\0\0ustar\n# http://old.example/debian\ndeb http://one.example/debian bookworm main\n\
                    Types: deb\nURIs: https://two.example/debian\nSuites: bookworm\nhttps://three.example/v3.20/main\n";
        let expected = ["http://one.example/debian", "https://two.example/debian", "https://three.example/v3.20/main"];
        assert_eq!(urls(text), expected);
    }
}
