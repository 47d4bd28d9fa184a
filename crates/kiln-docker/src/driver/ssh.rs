//! `ssh://` daemons, as the docker CLI reaches them: `ssh HOST docker system dial-stdio`, one process per connection.
//!
//! bollard's `ssh` feature was the alternative; it opens a master connection of its own per request, knows no socket
//! path, and hides what ssh says, so a child process with its own stderr is both less and better.

use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// The other end: `ssh://[user@]host[:port][/path of the socket]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SshTarget {
    pub(super) user: Option<String>,
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) path: Option<String>,
}

impl SshTarget {
    /// Reads what follows `ssh://`; the error is a sentence.
    pub(super) fn parse(rest: &str) -> Result<Self, String> {
        let (authority, path) = match rest.find('/') {
            Some(at) => (&rest[..at], Some(rest[at..].to_owned()).filter(|p| p != "/")),
            None => (rest, None),
        };
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().map_err(|_| format!("`{port}` is no port"))?)),
            None => (host, None),
        };
        // A host or user with a leading dash would be read as an option by ssh.
        if host.is_empty() || host.starts_with('-') || user.is_some_and(|user| user.is_empty() || user.starts_with('-'))
        {
            return Err("an ssh address is `ssh://[user@]host[:port][/path]`".to_owned());
        }
        if user.is_some_and(|user| user.contains(':')) {
            return Err("an ssh address must not contain a password".to_owned());
        }
        Ok(Self { user: user.map(str::to_owned), host: host.to_owned(), port, path })
    }

    fn args(&self) -> Vec<String> {
        let mut args: Vec<String> = ["-T", "-o", "ConnectTimeout=5", "-o", "BatchMode=yes"].map(str::to_owned).into();
        if let Some(user) = &self.user {
            args.extend(["-l".to_owned(), user.clone()]);
        }
        if let Some(port) = self.port {
            args.extend(["-p".to_owned(), port.to_string()]);
        }
        args.extend(["--".to_owned(), self.host.clone(), "docker".to_owned()]);
        if let Some(path) = &self.path {
            // The remote shell splits the line again.
            args.extend(["--host".to_owned(), format!("'unix://{}'", path.replace('\'', r"'\''"))]);
        }
        args.extend(["system".to_owned(), "dial-stdio".to_owned()]);
        args
    }
}

/// A connection through a child process, which ends with it.
pub(super) struct SshStream {
    _child: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    said: Arc<Mutex<Vec<u8>>>,
    silent: bool,
}

/// How much of ssh's stderr is kept for the error.
const SAID_LIMIT: usize = 4096;

/// Starts the child. It reports a failure later, as an end of file.
pub(super) fn dial(target: &SshTarget) -> Result<SshStream, String> {
    let mut child = Command::new("ssh")
        .args(target.args())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot run `ssh`: {error}"))?;
    let (Some(stdin), Some(stdout), Some(mut stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err("ssh was started without its pipes".to_owned());
    };
    let said = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&said);
    // Ends with the child, whose stderr it drains.
    tokio::spawn(async move {
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
            let mut kept = keep.lock().unwrap_or_else(PoisonError::into_inner);
            let room = SAID_LIMIT.saturating_sub(kept.len());
            kept.extend_from_slice(&buffer[..count.min(room)]);
        }
    });
    Ok(SshStream { _child: child, stdin: Some(stdin), stdout, said, silent: true })
}

impl SshStream {
    fn closed() -> io::Error {
        io::ErrorKind::BrokenPipe.into()
    }

    fn complaint(&self) -> Option<io::Error> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&said).trim().trim_start_matches("ssh: ").to_owned();
        (!text.is_empty()).then(|| io::Error::new(io::ErrorKind::ConnectionRefused, format!("ssh: {text}")))
    }
}

impl AsyncRead for SshStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stdout).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = result {
            if buf.filled().len() > before {
                self.silent = false;
            } else if self.silent
                && let Some(complaint) = self.complaint()
            {
                return Poll::Ready(Err(complaint));
            }
        }
        result
    }
}

impl AsyncWrite for SshStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stdin {
            Some(stdin) => Pin::new(stdin).poll_write(cx, buf),
            None => Poll::Ready(Err(Self::closed())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stdin {
            Some(stdin) => Pin::new(stdin).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Only dropping the pipe closes it.
        self.stdin = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_the_docker_clis_command_line() {
        let target = SshTarget::parse("ci@build.example:2222/run/user/1000/docker.sock").unwrap();
        assert_eq!(
            target.args().join(" "),
            "-T -o ConnectTimeout=5 -o BatchMode=yes -l ci -p 2222 -- build.example \
             docker --host 'unix:///run/user/1000/docker.sock' system dial-stdio"
        );
        assert_eq!(SshTarget::parse("host").unwrap().args().last().map(String::as_str), Some("dial-stdio"));
        for wrong in ["", "@host", "-oProxyCommand=x", "user:secret@host", "host:port"] {
            assert!(SshTarget::parse(wrong).is_err(), "{wrong}");
        }
    }
}
