//! Looks up the names of `--chown` in the user database of the file system that is written to.

use std::io::Read;
use std::sync::Arc;

use kiln_docker::{ContainerId, FileKind};
use kiln_graph::{Origin, Owner};

use super::pipe::StreamReader;
use super::{Place, Remote};
use crate::error::{Result, SolveError};

/// Bytes of a user database that are read at most.
const MOST: u64 = 4 << 20;

pub(super) struct Owners<'a> {
    remote: &'a Remote,
    place: &'a Place,
    passwd: Option<Arc<str>>,
    group: Option<Arc<str>>,
}

impl<'a> Owners<'a> {
    pub(super) fn new(remote: &'a Remote, place: &'a Place) -> Self {
        Self { remote, place, passwd: None, group: None }
    }

    /// User and group id; root's if no owner is given. A user without a group brings its own, as BuildKit does.
    pub(super) fn resolve(&mut self, owner: Option<&Owner>, origin: &Origin) -> Result<(u64, u64)> {
        let Some(owner) = owner else { return Ok((0, 0)) };
        let (user, group) = match owner.spec.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (owner.spec.as_str(), None),
        };
        let unknown = |name: &str, file: &str| SolveError::Copy {
            origin: Box::new(origin.clone()),
            path: file.to_owned(),
            problem: format!("it knows no `{name}`; use a number instead"),
        };
        let (uid, primary) = match (user, number(user)) {
            ("", _) => (0, 0),
            (_, Some(uid)) => (uid, uid),
            (user, None) => {
                let (uid, gid) = self.user(user)?.ok_or_else(|| unknown(user, "/etc/passwd"))?;
                (uid, gid.unwrap_or(uid))
            }
        };
        let gid = match group.filter(|group| !group.is_empty()) {
            None => primary,
            Some(group) => match number(group) {
                Some(gid) => gid,
                None => self.group(group)?.ok_or_else(|| unknown(group, "/etc/group"))?,
            },
        };
        Ok((uid, gid))
    }

    fn user(&mut self, name: &str) -> Result<Option<(u64, Option<u64>)>> {
        if self.passwd.is_none() {
            self.passwd = Some(self.read("/etc/passwd")?);
        }
        Ok(line(self.passwd.as_deref().unwrap_or_default(), name))
    }

    fn group(&mut self, name: &str) -> Result<Option<u64>> {
        if self.group.is_none() {
            self.group = Some(self.read("/etc/group")?);
        }
        Ok(line(self.group.as_deref().unwrap_or_default(), name).map(|(gid, _)| gid))
    }

    /// A small text file of the destination; empty if there is none.
    fn read(&self, path: &str) -> Result<Arc<str>> {
        let Place::Container(id) = self.place else { return Ok("".into()) };
        let Some(stat) = self.remote.stat(id, path)? else { return Ok("".into()) };
        let real = if stat.kind == FileKind::Symlink { &stat.link_target } else { path };
        if stat.kind == FileKind::Symlink && self.remote.stat(id, real)?.is_none() {
            return Ok("".into());
        }
        Ok(self.content(id, real)?.into())
    }

    fn content(&self, id: &ContainerId, path: &str) -> Result<String> {
        let broken = |source| SolveError::Io { action: "read", path: path.into(), source };
        let mut archive = tar::Archive::new(StreamReader::new(self.remote.download(id, path)?));
        let mut bytes = Vec::new();
        if let Some(entry) = archive.entries().map_err(broken)?.next() {
            entry.map_err(broken)?.take(MOST).read_to_end(&mut bytes).map_err(broken)?;
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}

/// Third and fourth field of the line that starts with `name:`.
fn line(text: &str, name: &str) -> Option<(u64, Option<u64>)> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        let id = fields.nth(1)?.parse().ok()?;
        Some((id, fields.next().and_then(|field| field.parse().ok())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_by_their_whole_name() {
        let passwd = "root:x:0:0::/root:/bin/sh\nappl:x:7:7::/:\napp:x:1000:1001::/home/app:/bin/sh\nbroken\nb2:x\n";
        assert_eq!(line(passwd, "app"), Some((1000, Some(1001))));
        assert_eq!(line("staff:x:50:\n", "staff"), Some((50, None)));
        assert_eq!(line(passwd, "broken"), None);
        assert_eq!(line(passwd, "b2"), None);
        assert_eq!(line(passwd, "ap"), None);
    }
}
