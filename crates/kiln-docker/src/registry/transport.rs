//! Connections to registries and their token servers: HTTP or HTTPS, as the URL says.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use http_body_util::{Either, Full, StreamBody};
use hyper::Uri;
use hyper::body::Frame;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::driver::connector::{Duplex, Stream};

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes of a file that are sent at once.
const CHUNK: usize = 128 << 10;

/// The body of a request.
pub(super) type Body = Either<Full<Bytes>, StreamBody<BoxStream<'static, Result<Frame<Bytes>, io::Error>>>>;
/// The client of one registry.
pub(super) type HttpClient = Client<Dial, Body>;

pub(super) fn client(config: Arc<ClientConfig>) -> HttpClient {
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(Duration::from_secs(20))
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .build(Dial(config))
}

/// A body of bytes at hand.
pub(super) fn bytes(bytes: Bytes) -> Body {
    Either::Left(Full::new(bytes))
}

/// A file as a body, in constant memory.
pub(super) async fn file(path: &Path) -> io::Result<Body> {
    let file = tokio::fs::File::open(path).await?;
    let stream = futures::stream::unfold(Some(file), |file| async move {
        let mut file = file?;
        let mut chunk = BytesMut::with_capacity(CHUNK);
        match file.read_buf(&mut chunk).await {
            Ok(0) => None,
            Ok(_) => Some((Ok(Frame::data(chunk.freeze())), Some(file))),
            Err(error) => Some((Err(error), None)),
        }
    });
    Ok(Either::Right(StreamBody::new(stream.boxed())))
}

/// Makes connections.
#[derive(Clone)]
pub(super) struct Dial(Arc<ClientConfig>);

impl tower_service::Service<Uri> for Dial {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let config = self.0.clone();
        Box::pin(async move {
            let connecting = tokio::time::timeout(CONNECT_TIMEOUT, connect(&uri, config));
            let timed_out = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer to the connection");
            Ok(TokioIo::new(Stream::new(connecting.await.map_err(timed_out)??)))
        })
    }
}

async fn connect(uri: &Uri, config: Arc<ClientConfig>) -> io::Result<Box<dyn Duplex>> {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let secure = uri.scheme_str() != Some("http");
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    if !secure {
        return Ok(Box::new(stream));
    }
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    Ok(Box::new(TlsConnector::from(config).connect(name, stream).await?))
}
