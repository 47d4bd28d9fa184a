//! The one place where failures of bollard, the transport and the daemon become [`EngineError`]s.

use std::error::Error as StdError;
use std::io;

use bollard::errors::Error as BollardError;
use kiln_graph::Platform;

use super::connector::ConnectError;
use crate::{Cause, EngineError};

/// What was being done, for the error.
#[derive(Clone, Debug)]
pub(super) struct Doing {
    verb: &'static str,
    object: String,
    host: String,
}

impl Doing {
    pub(super) fn new(verb: &'static str, object: impl Into<String>, host: &str) -> Self {
        Self { verb, object: object.into(), host: host.to_owned() }
    }

    fn action(&self) -> String {
        format!("{} {}", self.verb, self.object)
    }

    /// The error that `error` means here.
    pub(super) fn failed(&self, error: BollardError) -> EngineError {
        match error {
            BollardError::DockerResponseServerError { status_code, message } => self.answered(status_code, &message),
            BollardError::DockerStreamError { error } => self.answered(500, &error),
            BollardError::DockerContainerWaitError { error, code } => {
                self.answered(500, &format!("{error} (exit code {code})"))
            }
            BollardError::RequestTimeoutError => self.broke(io::Error::from(io::ErrorKind::TimedOut).into()),
            BollardError::JsonDataError { message, .. } => self.answered(200, &format!("unexpected answer: {message}")),
            BollardError::JsonSerdeError { err } => self.answered(200, &format!("unexpected answer: {err}")),
            other => self.broke(Box::new(other)),
        }
    }

    /// The error that an answer of the daemon means.
    pub(super) fn answered(&self, status: u16, message: &str) -> EngineError {
        let message = message.trim().to_owned();
        let lower = message.to_ascii_lowercase();
        let says = |texts: &[&str]| texts.iter().any(|text| lower.contains(text));
        if says(&["no space left on device", "disk quota exceeded"]) {
            return EngineError::NoSpace { action: self.action() };
        }
        if says(&CANNOT_START) || (self.verb == "starting" && says(&["oci runtime", "failed to create task", "runc"])) {
            return EngineError::CannotStart { message: start_message(&message) };
        }
        match status {
            404 => EngineError::NotFound { what: self.object.clone() },
            409 => EngineError::Conflict { action: self.action(), message },
            _ => EngineError::Api { action: self.action(), status, message },
        }
    }

    /// The error that a broken or impossible connection means.
    pub(super) fn broke(&self, cause: Cause) -> EngineError {
        let host = self.host.clone();
        match find::<ConnectError>(&*cause) {
            Some(ConnectError::Io(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
                EngineError::PermissionDenied { host, source: copy(error).into() }
            }
            Some(ConnectError::Tls { source, .. }) => EngineError::Connection {
                problem: format!("TLS with {host} failed: {source}"),
                hint: tls_hint(&source.to_string()),
            },
            // Only the innermost cause says something: those around it are the HTTP client's.
            Some(ConnectError::Io(error)) => EngineError::Unreachable { host, source: copy(error).into() },
            Some(_) => EngineError::Unreachable { host, source: cause },
            None => {
                // The other end of an ssh connection fails only when something is read from it.
                match find::<io::Error>(&*cause) {
                    Some(error) if error.to_string().starts_with("ssh: ") => EngineError::Connection {
                        problem: format!("{host}: {error}"),
                        hint: "check that `ssh` reaches the host without a password prompt, and that `docker` is \
                               installed there and may use the daemon"
                            .to_owned(),
                    },
                    // rustls reports a refused client certificate only after the handshake.
                    Some(error) if error.to_string().contains("received fatal alert") => EngineError::Connection {
                        problem: format!("TLS with {host} failed: {error}"),
                        hint: tls_hint(&error.to_string()),
                    },
                    _ => EngineError::Transport { action: self.action(), source: cause },
                }
            }
        }
    }
}

const CANNOT_START: [&str; 3] =
    ["executable file not found", "exec format error", "no such file or directory: unknown"];

/// The part of a runtime's message that says what is wrong, without its onion of prefixes.
fn start_message(message: &str) -> String {
    let inner = message.rfind("exec: ").or_else(|| message.rfind("starting container process caused: "));
    let text = inner.map_or(message, |at| &message[at..]);
    let text = text.trim_start_matches("starting container process caused: ").trim_end_matches(": unknown");
    text.to_owned()
}

fn tls_hint(problem: &str) -> String {
    let problem = problem.to_ascii_lowercase();
    if problem.contains("unknownissuer") || problem.contains("unknown issuer") {
        "the daemon's certificate is not signed by the `ca.pem` in use; check DOCKER_CERT_PATH or the context"
            .to_owned()
    } else if problem.contains("notvalidforname") || problem.contains("not valid for name") {
        "the daemon's certificate is for another host name; connect by a name that it contains".to_owned()
    } else if problem.contains("alert") {
        "the daemon refused our certificate; check `cert.pem` and `key.pem`".to_owned()
    } else {
        "check that the port speaks TLS, and the certificates".to_owned()
    }
}

/// The same error again, since those of the system cannot be cloned.
fn copy(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| io::Error::new(error.kind(), error.to_string()), io::Error::from_raw_os_error)
}

/// An error of type `T` in the chain of causes.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        // An `io::Error` hides what it wraps from `source()`: that gives the source of the wrapped error.
        if let Some(found) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref).and_then(|e| find_in(e)) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn find_in<'a, T: StdError + 'static>(error: &'a (dyn StdError + Send + Sync + 'static)) -> Option<&'a T> {
    error.downcast_ref::<T>()
}

/// Whether a failed pull was for want of a network rather than for want of the image.
pub(super) fn is_network(error: &BollardError) -> bool {
    let (BollardError::DockerResponseServerError { message, .. } | BollardError::DockerStreamError { error: message }) =
        error
    else {
        return false;
    };
    let lower = message.to_ascii_lowercase();
    [
        "dial tcp",
        "no such host",
        "i/o timeout",
        "connection refused",
        "connection reset",
        "network is unreachable",
        "tls handshake timeout",
        "client.timeout",
        "context deadline exceeded",
        "proxyconnect",
        "temporary failure in name resolution",
    ]
    .iter()
    .any(|text| lower.contains(text))
}

/// The error that a failed pull means.
pub(super) fn pull_failed(doing: &Doing, reference: &str, platform: Platform, error: BollardError) -> EngineError {
    let (BollardError::DockerResponseServerError { message, .. } | BollardError::DockerStreamError { error: message }) =
        &error
    else {
        return doing.failed(error);
    };
    let lower = message.to_ascii_lowercase();
    let says = |texts: &[&str]| texts.iter().any(|text| lower.contains(text));
    if is_network(&error) {
        return EngineError::RegistryUnreachable { reference: reference.to_owned(), message: message.clone() };
    }
    let (reference, message) = (reference.to_owned(), message.clone());
    if says(&[
        "pull access denied",
        "unauthorized",
        "authentication required",
        "no basic auth credentials",
        "403 forbidden",
    ]) {
        EngineError::Unauthorized { reference, message }
    } else if says(&[
        "no matching manifest",
        "does not match the specified platform",
        "manifest unknown",
        "not found",
        "name unknown",
        "invalid reference format",
        "does not provide",
    ]) {
        EngineError::ImageNotFound { reference, platform, message }
    } else {
        doing.failed(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doing(verb: &'static str) -> Doing {
        Doing::new(verb, "container 123", "unix:///run/docker.sock")
    }

    #[test]
    fn answers_are_told_apart_by_status_and_text() {
        assert!(matches!(
            doing("starting").answered(400, "OCI runtime create failed: container_linux.go:380: starting container process caused: exec: \"nope\": executable file not found in $PATH: unknown"),
            EngineError::CannotStart { message } if message == "exec: \"nope\": executable file not found in $PATH"
        ));
        assert!(matches!(
            doing("committing").answered(500, "write /x: no space left on device"),
            EngineError::NoSpace { action } if action == "committing container 123"
        ));
        assert!(
            matches!(doing("removing").answered(404, "No such container"), EngineError::NotFound { what } if what == "container 123")
        );
        assert!(matches!(doing("removing").answered(409, "in use"), EngineError::Conflict { .. }));
    }

    #[test]
    fn a_failed_pull_says_whether_the_image_or_the_right_is_missing() {
        let pull = |text: &str| {
            let platform = "linux/arm64".parse().unwrap();
            let error = BollardError::DockerStreamError { error: text.to_owned() };
            pull_failed(&doing("pulling"), "x", platform, error)
        };
        assert!(matches!(
            pull("no matching manifest for linux/arm64 in the manifest list entries"),
            EngineError::ImageNotFound { .. }
        ));
        assert!(matches!(
            pull("pull access denied for x, repository does not exist"),
            EngineError::Unauthorized { .. }
        ));
        assert!(matches!(
            pull("Get https://r/v2/: dial tcp: lookup r: no such host"),
            EngineError::RegistryUnreachable { .. }
        ));
    }
}
