//! Connections to a daemon: a unix socket, TCP, TLS over TCP, or `docker system dial-stdio` on the other end of ssh.
//!
//! bollard brings transports of its own, but they read certificates from `$HOME`, know no ssh path, cannot fail fast,
//! and lose the reason of a failure. One connector of our own has one place for the time-out and for typed reasons.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::ssh::{self, SshTarget};

/// How long a daemon may take to accept a connection.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a daemon listens, ready to be connected to.
#[derive(Clone)]
pub(super) enum Endpoint {
    Unix(PathBuf),
    Tcp { host: String, port: u16 },
    Tls { host: String, port: u16, name: ServerName<'static>, config: Arc<ClientConfig> },
    Ssh(SshTarget),
}

/// Why a connection could not be made; the transport's own words are its source.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("{0}")]
    Io(io::Error),
    #[error("TLS with {host} failed: {source}")]
    Tls { host: String, source: io::Error },
    #[error("no answer within {} seconds", CONNECT_TIMEOUT.as_secs())]
    TimedOut,
    #[error("{0}")]
    Ssh(String),
}

/// Makes connections to one [`Endpoint`], whatever the URI says.
#[derive(Clone)]
pub(super) struct Connector(pub(super) Endpoint);

/// What any connection can do.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection.
pub(crate) struct Stream(Box<dyn Duplex>);

impl Stream {
    /// A connection that was made elsewhere.
    pub(crate) fn new(connection: Box<dyn Duplex>) -> Self {
        Self(connection)
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let endpoint = self.0.clone();
        Box::pin(async move {
            let stream = tokio::time::timeout(CONNECT_TIMEOUT, connect(&endpoint))
                .await
                .unwrap_or(Err(ConnectError::TimedOut))?;
            Ok(TokioIo::new(Stream(stream)))
        })
    }
}

async fn connect(endpoint: &Endpoint) -> Result<Box<dyn Duplex>, ConnectError> {
    Ok(match endpoint {
        Endpoint::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(ConnectError::Io)?),
        Endpoint::Tcp { host, port } => Box::new(tcp(host, *port).await?),
        Endpoint::Tls { host, port, name, config } => {
            let stream = TlsConnector::from(Arc::clone(config)).connect(name.clone(), tcp(host, *port).await?).await;
            Box::new(stream.map_err(|source| ConnectError::Tls { host: host.clone(), source })?)
        }
        Endpoint::Ssh(target) => Box::new(ssh::dial(target).map_err(ConnectError::Ssh)?),
    })
}

async fn tcp(host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let stream = TcpStream::connect((host, port)).await.map_err(ConnectError::Io)?;
    stream.set_nodelay(true).map_err(ConnectError::Io)?;
    Ok(stream)
}
