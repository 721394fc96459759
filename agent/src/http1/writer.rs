//! Messages into a stream of bytes.
//!
//! The writer alone decides about framing. A body that does not keep to the length its head announced makes every later
//! flush fail and breaks the connection: bytes too many would be taken for the next message.

use std::{
    collections::VecDeque,
    io::{self, Write as _},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version,
    header::{CONTENT_LENGTH, COOKIE, HOST, TE, UPGRADE},
};

use super::{BodyLength, Sink, hop, trailers};

/// Content up to this size is copied behind the head or chunk line before it, so that both leave in one piece.
const COPIED: usize = 4096;

/// Writes the messages of one direction of a connection.
pub struct Writer<K> {
    sink: K,
    queue: VecDeque<Bytes>,
    /// What comes after the queue; grows while small pieces come.
    tail: Vec<u8>,
    body: Framed,
    keep_alive: bool,
    broken: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framed {
    /// Between messages.
    Idle,
    /// A message without a body: content is dropped.
    Bodiless,
    Exact(u64),
    Chunked,
    UntilClose,
}

impl<K: Sink> Writer<K> {
    /// A writer at the start of a connection.
    pub fn new(sink: K) -> Self {
        Self {
            sink,
            queue: VecDeque::new(),
            tail: Vec::new(),
            body: Framed::Idle,
            keep_alive: true,
            broken: None,
        }
    }

    /// Queues a request's head. The target is the URI's path and query (its authority for CONNECT); the host is the `Host`
    /// field, else the URI's authority. Hop-by-hop fields but `Upgrade` and `TE: trailers` are left out, cookie
    /// crumbs of HTTP/2 are joined (RFC 9113 section 8.2.3).
    pub fn request(&mut self, head: &http::request::Parts, body: BodyLength) {
        self.begin(match body {
            BodyLength::None => Framed::Bodiless,
            BodyLength::Exact(length) => Framed::Exact(length),
            // A request cannot end with the connection.
            BodyLength::Chunked | BodyLength::UntilClose => Framed::Chunked,
        });
        self.reserve(&head.headers, 256 + head.uri.path().len());
        self.push(head.method.as_str().as_bytes());
        self.push(b" ");
        self.target(&head.method, &head.uri);
        self.push(b" HTTP/1.1\r\nhost: ");
        self.host(head);
        self.push(b"\r\n");
        let cookies = head.headers.get_all(COOKIE).iter().nth(1).is_some();
        self.fields(&head.headers, |name| name != HOST && name != TE && !(cookies && name == COOKIE));
        if hop::takes_trailers(&head.headers) {
            self.push(b"te: trailers\r\n");
        }
        if cookies {
            self.joined_cookies(&head.headers);
        }
        self.connection_options(&head.headers, hop::takes_trailers(&head.headers).then_some("te"));
        match self.body {
            // A method that means to send something says that it is nothing (RFC 9110 section 8.6).
            Framed::Bodiless if anticipates_body(&head.method) => self.length(0),
            Framed::Exact(length) => self.length(length),
            Framed::Chunked => self.push(b"transfer-encoding: chunked\r\n"),
            Framed::Bodiless | Framed::Idle | Framed::UntilClose => {}
        }
        self.push(b"\r\n");
    }

    /// Queues a response's head, for a client that spoke this version. Returns whether the connection stays open after the
    /// message, as [`Writer::keeps_alive`] does. [`BodyLength::None`] is for answers that can have no body (HEAD, 204, 304, an
    /// upgrade); only then is a `Content-Length` of the fields passed on. An empty body is `Exact(0)`.
    pub fn response(
        &mut self,
        head: &http::response::Parts,
        body: BodyLength,
        keep_alive: bool,
        version_of_request: Version,
    ) -> bool {
        let old = version_of_request < Version::HTTP_11;
        let body = match body {
            BodyLength::None => Framed::Bodiless,
            BodyLength::Exact(length) => Framed::Exact(length),
            BodyLength::Chunked if !old => Framed::Chunked,
            BodyLength::Chunked | BodyLength::UntilClose => Framed::UntilClose,
        };
        self.begin(body);
        self.keep_alive = keep_alive && body != Framed::UntilClose;
        self.reserve(&head.headers, 256 + copied(body));
        self.status_line(head.status);
        self.fields(&head.headers, |name| name != TE);
        let option = match (self.keep_alive, old) {
            (false, _) => Some("close"),
            (true, true) => Some("keep-alive"),
            (true, false) => None,
        };
        self.connection_options(&head.headers, option);
        match body {
            Framed::Bodiless if !head.status.is_informational() && head.status != StatusCode::NO_CONTENT => {
                self.announced_length(&head.headers);
            }
            Framed::Exact(length) => self.length(length),
            Framed::Chunked => self.push(b"transfer-encoding: chunked\r\n"),
            Framed::Bodiless | Framed::UntilClose | Framed::Idle => {}
        }
        self.push(b"\r\n");
        self.keep_alive
    }

    /// Queues an interim response (1xx but 101), before the final one's head. Not for clients of HTTP/1.0.
    pub fn informational(&mut self, status: StatusCode, headers: &HeaderMap) {
        if !status.is_informational() || self.body != Framed::Idle {
            self.broken.get_or_insert("an interim response within a message");
            return;
        }
        self.reserve(headers, 64);
        self.status_line(status);
        self.fields(headers, |name| name != UPGRADE && name != TE);
        self.push(b"\r\n");
    }

    /// Queues content of the message whose head was queued last.
    pub fn data(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        match self.body {
            Framed::Bodiless => {}
            Framed::Idle => self.misframed("content outside of a message"),
            Framed::UntilClose => self.content(bytes),
            Framed::Chunked => {
                let _ = write!(self.tail, "{:x}\r\n", bytes.len());
                self.content(bytes);
                self.push(b"\r\n");
            }
            Framed::Exact(left) => match left.checked_sub(bytes.len() as u64) {
                Some(left) => {
                    self.body = Framed::Exact(left);
                    self.content(bytes);
                }
                None => self.misframed("more content than announced"),
            },
        }
    }

    /// Ends the message. Trailers go only where chunks do; those that frame or route are left out.
    pub fn end(&mut self, trailers: Option<&HeaderMap>) {
        match std::mem::replace(&mut self.body, Framed::Idle) {
            Framed::Chunked => {
                self.push(b"0\r\n");
                if let Some(trailers) = trailers {
                    self.fields(trailers, |name| !trailers::is_forbidden(name));
                }
                self.push(b"\r\n");
            }
            Framed::Exact(left) if left > 0 => self.misframed("less content than announced"),
            Framed::Idle | Framed::Bodiless | Framed::Exact(_) | Framed::UntilClose => {}
        }
    }

    /// Whether the last response lets the connection stay open.
    pub fn keeps_alive(&self) -> bool {
        self.keep_alive
    }

    /// Whether a message was begun and not ended.
    pub fn is_within_message(&self) -> bool {
        self.body != Framed::Idle
    }

    /// Bytes that the sink has not taken yet.
    pub fn queued(&self) -> usize {
        self.queue.iter().map(Bytes::len).sum::<usize>() + self.tail.len()
    }

    /// Hands the queue to the sink. Ready when all of it was taken.
    ///
    /// # Errors
    /// The sink's, and [`io::ErrorKind::InvalidData`] after a body that broke its framing; then the sink is aborted.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(what) = self.broken {
            self.abort();
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, what)));
        }
        self.seal();
        if self.queue.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let flushed = self.sink.poll_write(cx, &mut self.queue);
        if flushed.is_ready() && self.queue.capacity() > 16 {
            self.queue = VecDeque::new();
        }
        flushed
    }

    /// Nothing but what is queued now will be sent before the end; see [`Sink::last`].
    pub fn last(&mut self) {
        self.sink.last();
    }

    /// Ends the connection's direction (FIN). To be called when all is flushed.
    ///
    /// # Errors
    /// The sink's.
    pub fn finish(&mut self) -> io::Result<()> {
        self.sink.finish()
    }

    /// Breaks the connection: for a message that cannot be completed.
    pub fn abort(&mut self) {
        self.queue.clear();
        self.tail = Vec::new();
        self.sink.abort();
    }

    /// The sink, for an upgraded connection. To be called when all is flushed.
    pub fn into_sink(self) -> K {
        self.sink
    }

    /// The sink, to watch it.
    pub fn sink(&mut self) -> &mut K {
        &mut self.sink
    }

    fn begin(&mut self, body: Framed) {
        if self.body != Framed::Idle {
            self.misframed("a message within a message");
        }
        self.body = body;
    }

    fn misframed(&mut self, what: &'static str) {
        self.broken.get_or_insert(what);
    }

    /// One allocation for a head of ordinary size.
    fn reserve(&mut self, headers: &HeaderMap, more: usize) {
        let fields: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        self.tail.reserve(fields + more);
    }

    fn push(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
    }

    fn content(&mut self, bytes: Bytes) {
        if bytes.len() <= COPIED && self.tail.len() <= 4 * COPIED {
            self.push(&bytes);
        } else {
            self.seal();
            self.queue.push_back(bytes);
        }
    }

    /// Moves the tail into the queue; the writer keeps no buffer of its own.
    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.queue.push_back(std::mem::take(&mut self.tail).into());
        }
    }

    fn target(&mut self, method: &Method, uri: &Uri) {
        if method == Method::CONNECT {
            self.push(uri.authority().map_or("", |authority| authority.as_str()).as_bytes());
            return;
        }
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        self.push(if target.is_empty() { b"/" } else { target.as_bytes() });
    }

    fn host(&mut self, head: &http::request::Parts) {
        let host = head.headers.get(HOST).map(HeaderValue::as_bytes);
        let authority = || head.uri.authority().map(|authority| authority.as_str().as_bytes());
        self.push(host.or_else(authority).unwrap_or_default());
    }

    fn status_line(&mut self, status: StatusCode) {
        self.push(b"HTTP/1.1 ");
        self.push(status.as_str().as_bytes());
        self.push(b" ");
        self.push(status.canonical_reason().unwrap_or_default().as_bytes());
        self.push(b"\r\n");
    }

    fn fields(&mut self, headers: &HeaderMap, wanted: impl Fn(&HeaderName) -> bool) {
        for (name, value) in headers {
            if !is_ours(name) && wanted(name) {
                self.field(name.as_str().as_bytes(), value.as_bytes());
            }
        }
    }

    fn field(&mut self, name: &[u8], value: &[u8]) {
        self.push(name);
        self.push(b": ");
        self.push(value);
        self.push(b"\r\n");
    }

    fn joined_cookies(&mut self, headers: &HeaderMap) {
        for (number, crumb) in headers.get_all(COOKIE).iter().enumerate() {
            self.push(if number == 0 { b"cookie: " } else { b"; " });
            self.push(crumb.as_bytes());
        }
        self.push(b"\r\n");
    }

    /// `Connection`, with what the fields make necessary (RFC 9110 sections 7.8 and 10.1.4).
    fn connection_options(&mut self, headers: &HeaderMap, option: Option<&str>) {
        let upgrade = headers.contains_key(UPGRADE).then_some("upgrade");
        let mut start: &[u8] = b"connection: ";
        for option in [option, upgrade].into_iter().flatten() {
            self.push(start);
            self.push(option.as_bytes());
            start = b", ";
        }
        if start == b", " {
            self.push(b"\r\n");
        }
    }

    fn length(&mut self, length: u64) {
        let _ = write!(self.tail, "content-length: {length}\r\n");
    }

    fn announced_length(&mut self, headers: &HeaderMap) {
        if let Some(length) = headers.get(CONTENT_LENGTH) {
            self.field(b"content-length", length.as_bytes());
        }
    }
}

/// Bytes of content that will be copied behind its head.
fn copied(body: Framed) -> usize {
    match body {
        Framed::Exact(length) => usize::try_from(length).ok().filter(|length| *length <= COPIED).unwrap_or(0),
        _ => 0,
    }
}

/// Fields that the writer makes itself.
fn is_ours(name: &HeaderName) -> bool {
    let name = name.as_str();
    match name.len() {
        10 => name == "connection" || name == "keep-alive",
        14 => name == "content-length",
        16 => name == "proxy-connection",
        17 => name == "transfer-encoding",
        _ => false,
    }
}

fn anticipates_body(method: &Method) -> bool {
    *method == Method::POST || *method == Method::PUT || *method == Method::PATCH
}
