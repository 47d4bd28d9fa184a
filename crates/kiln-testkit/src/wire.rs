//! As much of HTTP/1.1 as the servers need, with the ways in which it goes wrong.

use std::fmt::Write as _;
use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// Bytes of a request's head at most.
const MOST_HEAD: usize = 64 * 1024;

/// A socket on a free port of this machine that waits for [`Server::start`], and its address.
pub(crate) fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a socket that does not block");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    (listener, url)
}

/// A server. When it is dropped nobody is answered any more.
pub(crate) struct Server {
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Begins to answer connections, on a thread of its own, so that a test may block, or have no runtime.
    pub(crate) fn start<F>(listener: TcpListener, answer: impl Fn(Connection) -> F + Send + 'static) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let (end, ended) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                tokio::select! {
                    () = accept(listener, answer) => {}
                    _ = ended => {}
                }
            });
        });
        Self { end: Some(end), thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.end.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn accept<F>(listener: tokio::net::TcpListener, answer: impl Fn(Connection) -> F)
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    // Dropped with the set, connections end with the server.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        // What breaks is the client's end of it, or was asked for by a fault.
        connections.spawn(answer(Connection::new(stream)));
        while connections.try_join_next().is_some() {}
    }
}

/// The head of a request.
pub(crate) struct Head {
    pub(crate) method: String,
    /// The path, decoded.
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// How long the body is; `None` if the request does not say.
    pub(crate) fn length(&self) -> Option<usize> {
        let needs_none = matches!(self.method.as_str(), "GET" | "DELETE" | "HEAD");
        self.header("content-length").map_or(needs_none.then_some(0), |length| length.parse().ok())
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.split("\r\n");
        let mut first = lines.next()?.split(' ');
        let (method, target) = (first.next()?.to_owned(), first.next()?);
        // As a proxy is asked.
        let target = target.strip_prefix("http://").map_or(target, |rest| rest.find('/').map_or("/", |at| &rest[at..]));
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let query = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(n, v)| (decoded(n), decoded(v)));
        let headers = lines.filter_map(|line| line.split_once(':'));
        Some(Self {
            method,
            path: decoded(path),
            query: query.collect(),
            headers: headers.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect(),
        })
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (first, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    pub(crate) fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::new(status, body.to_string()).with("content-type", "application/json")
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn head(&self) -> String {
        let mut head = format!("HTTP/1.1 {} Status\r\ncontent-length: {}\r\n", self.status, self.body.len());
        for (name, value) in &self.headers {
            // Writing to a string does not fail.
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head + "\r\n"
    }
}

/// A connection, and what was read of the next request.
pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, read: Vec::new() }
    }

    /// The head of the next request; `None` at the end of the connection.
    pub(crate) async fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(at) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.read.drain(..at + 4).collect();
                return Ok(Head::parse(&String::from_utf8_lossy(&head[..at])));
            }
            if self.read.len() > MOST_HEAD || !self.more().await? {
                return Ok(None);
            }
        }
    }

    /// Reads a body of so many bytes.
    pub(crate) async fn body(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.read.len() < length {
            if !self.more().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.read.drain(..length).collect())
    }

    /// Reads a body of so many bytes, with a pause before each mebibyte.
    pub(crate) async fn body_slowly(&mut self, length: usize, each: Duration) -> io::Result<Vec<u8>> {
        const PART: usize = 1024 * 1024;
        let mut body = Vec::with_capacity(length);
        while body.len() < length {
            tokio::time::sleep(each).await;
            body.extend(self.body((length - body.len()).min(PART)).await?);
        }
        Ok(body)
    }

    async fn more(&mut self) -> io::Result<bool> {
        Ok(self.stream.read_buf(&mut self.read).await? > 0)
    }

    pub(crate) async fn send(&mut self, answer: &Answer) -> io::Result<()> {
        self.stream.write_all(answer.head().as_bytes()).await?;
        self.stream.write_all(&answer.body).await?;
        self.stream.flush().await
    }

    /// Sends the head and half of the body, and nothing more.
    pub(crate) async fn send_half(&mut self, answer: &Answer) -> io::Result<()> {
        self.stream.write_all(answer.head().as_bytes()).await?;
        self.stream.write_all(&answer.body[..answer.body.len() / 2]).await?;
        self.stream.flush().await
    }

    /// Sends the head, and then one byte after the other.
    pub(crate) async fn send_slowly(&mut self, answer: &Answer, each: Duration) -> io::Result<()> {
        self.stream.write_all(answer.head().as_bytes()).await?;
        for byte in &answer.body {
            self.stream.write_all(&[*byte]).await?;
            self.stream.flush().await?;
            tokio::time::sleep(each).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read() {
        let head =
            Head::parse("PUT /a%2Fb?comp=block&id=a%3D%2b+c&x HTTP/1.1\r\nContent-Length: 12\r\nA: b: c").unwrap();
        assert_eq!((head.method.as_str(), head.path.as_str()), ("PUT", "/a/b"));
        assert_eq!((head.query("id"), head.query("x"), head.query("y")), (Some("a=+ c"), Some(""), None));
        assert_eq!((head.length(), head.header("a")), (Some(12), Some("b: c")));
        assert_eq!(Head::parse("GET http://host:1/a?b HTTP/1.1\r\n").unwrap().path, "/a");
    }
}
