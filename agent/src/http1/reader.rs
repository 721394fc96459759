//! Messages out of a stream of bytes: heads and what lies between messages. Their bodies: `body`.

mod body;

use std::{
    io,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use http::Method;

use self::body::Decoding;
use super::{
    HeadError, HeadFault, Limits, RequestHead, ResponseHead, Source, head,
    scan::{Scan, scan},
};

/// What happened on a connection between messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// The peer closed or reset.
    Closed,
    /// Bytes came. From a client it is the next request, from a server nothing that was asked for.
    Unexpected,
}

/// Reads the messages of one direction of a connection.
pub struct Reader<S> {
    source: S,
    limits: Limits,
    /// Read and not yet handed out.
    buffer: Bytes,
    /// A head that came in several reads; then `buffer` is empty.
    joined: BytesMut,
    /// How far the head was scanned.
    scanned: usize,
    /// An empty line before the head was skipped.
    skipped: bool,
    /// Held bytes whose window was given back before they were handed out: a head must not wait for its own window.
    prepaid: usize,
    /// Handed out; the window goes back when more is asked for.
    owed: usize,
    decoding: Decoding,
    ended: Option<Ended>,
    refused: Option<HeadError>,
    interim: u8,
}

/// How the source ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Closed,
    Reset,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Requests,
    Responses,
}

impl Side {
    fn malformed(self, status: u16, what: &'static str) -> HeadError {
        HeadError::malformed(if self == Self::Requests { status } else { 502 }, what)
    }
}

impl<S: Source> Reader<S> {
    /// A reader at the start of a connection.
    pub fn new(source: S, limits: Limits) -> Self {
        Self {
            source,
            limits,
            buffer: Bytes::new(),
            joined: BytesMut::new(),
            scanned: 0,
            skipped: false,
            prepaid: 0,
            owed: 0,
            decoding: Decoding::Done,
            ended: None,
            refused: None,
            interim: 0,
        }
    }

    /// A reader of a stream whose first bytes were read before, say to see that they are HTTP. Their window is given back
    /// through the source like that of the others.
    pub fn with_read(source: S, limits: Limits, read: Bytes) -> Self {
        Self { buffer: read, ..Self::new(source, limits) }
    }

    /// The next request's head; none when the client closed between requests. The body before must have ended.
    pub fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<RequestHead>, HeadError>> {
        let head = match ready!(self.poll_head(cx, Side::Requests)) {
            Ok(head) => head,
            Err(error) if error.fault == HeadFault::Closed => return Poll::Ready(Ok(None)),
            Err(error) => return Poll::Ready(Err(error)),
        };
        let request = head::request(&head, &self.limits).map_err(|error| self.refuse(error))?;
        self.expect_body(request.body);
        Poll::Ready(Ok(Some(request)))
    }

    /// The next response's head; interim ones come one by one before the final one. `asked` is the request's method.
    pub fn poll_response(
        &mut self,
        cx: &mut Context<'_>,
        asked: &Method,
    ) -> Poll<Result<ResponseHead, HeadError>> {
        let head = ready!(self.poll_head(cx, Side::Responses))?;
        let response = head::response(&head, asked, &self.limits).map_err(|error| self.refuse(error))?;
        self.interim = if response.parts.status.is_informational() { self.interim + 1 } else { 0 };
        if self.interim > self.limits.interim_responses {
            return Poll::Ready(Err(self.refuse(HeadError::malformed(502, "too many interim responses"))));
        }
        self.expect_body(response.body);
        Poll::Ready(Ok(response))
    }

    /// Watches the connection while no message is read. What comes is kept for the next head. Within a body it is pending
    /// once something was read, because nobody takes that: then only the sink tells of the peer's end.
    pub fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Idle> {
        self.pay();
        while !self.has_buffered() {
            if self.ended.is_some() {
                return Poll::Ready(Idle::Closed);
            }
            if let Some(read) = ready!(self.poll_source(cx)) {
                self.buffer = read;
            }
        }
        if self.body_ended() { Poll::Ready(Idle::Unexpected) } else { Poll::Pending }
    }

    /// Whether bytes are here that no head or frame was made of yet.
    pub fn has_buffered(&self) -> bool {
        !self.buffer.is_empty() || !self.joined.is_empty()
    }

    /// Whether the peer ended its direction in an orderly way; it may still read.
    pub fn is_closed_orderly(&self) -> bool {
        self.ended == Some(Ended::Closed)
    }

    /// The source, and what was read beyond the last message: the start of an upgraded connection. The window of the rest
    /// is not given back yet; that of all before is.
    pub fn into_parts(mut self) -> (S, Bytes) {
        self.pay();
        let rest = if self.joined.is_empty() { self.buffer } else { self.joined.freeze() };
        (self.source, rest)
    }

    /// The source, to watch it.
    pub fn source(&mut self) -> &mut S {
        &mut self.source
    }

    fn refuse(&mut self, error: HeadError) -> HeadError {
        self.refused = Some(error);
        self.buffer = Bytes::new();
        self.joined = BytesMut::new();
        error
    }

    fn poll_head(&mut self, cx: &mut Context<'_>, side: Side) -> Poll<Result<Bytes, HeadError>> {
        if let Some(error) = self.refused {
            return Poll::Ready(Err(error));
        }
        if !self.body_ended() {
            let error = side.malformed(400, "the body before was not read to its end");
            return Poll::Ready(Err(self.refuse(error)));
        }
        self.pay();
        loop {
            if let Some(head) = self.take_head(side).map_err(|error| self.refuse(error))? {
                return Poll::Ready(Ok(head));
            }
            if let Some(ended) = self.ended {
                let error = self.head_cut(side, ended);
                return Poll::Ready(Err(self.refuse(error)));
            }
            self.prepay();
            if let Some(read) = ready!(self.poll_source(cx)) {
                self.join(read);
            }
        }
    }

    fn head_cut(&self, side: Side, ended: Ended) -> HeadError {
        let (fault, what) = match (self.has_buffered(), ended) {
            (false, Ended::Closed) => (HeadFault::Closed, "closed before the head"),
            (false, Ended::Reset) => (HeadFault::Closed, "reset before the head"),
            (true, Ended::Closed) => (HeadFault::Cut, "closed within the head"),
            (true, Ended::Reset) => (HeadFault::Cut, "reset within the head"),
        };
        HeadError { fault, ..side.malformed(400, what) }
    }

    fn held(&self) -> &[u8] {
        if self.joined.is_empty() { &self.buffer } else { &self.joined }
    }

    /// Cuts the head off what is held, if all of it is here.
    fn take_head(&mut self, side: Side) -> Result<Option<Bytes>, HeadError> {
        // One empty line before a request is forgiven (RFC 9112 section 2.2): old clients end a body with it.
        if side == Side::Requests && !self.skipped && self.held().starts_with(b"\r\n") {
            self.skipped = true;
            self.drop_front(2);
        }
        let held = self.held();
        if held.starts_with(b"\r\n") {
            return Err(side.malformed(400, "empty line before the head"));
        }
        let window = held.get(..self.limits.head_bytes).unwrap_or(held);
        match scan(window, self.scanned) {
            Scan::Bad(what) => Err(side.malformed(400, what)),
            Scan::More(_) if held.len() >= self.limits.head_bytes => Err(too_long(side, window)),
            Scan::More(next) => {
                self.scanned = next;
                Ok(None)
            }
            Scan::End(length) => Ok(Some(self.split_head(length))),
        }
    }

    fn split_head(&mut self, length: usize) -> Bytes {
        if !self.joined.is_empty() {
            self.buffer = std::mem::take(&mut self.joined).freeze();
        }
        self.scanned = 0;
        self.skipped = false;
        let held = self.buffer.len();
        let head = self.buffer.split_to(length);
        self.consumed(length);
        self.pay();
        // Fields are slices of the head; a few of them must not hold a large read in memory.
        if held > 4 * length + 1024 { Bytes::copy_from_slice(&head) } else { head }
    }

    fn drop_front(&mut self, bytes: usize) {
        if self.joined.is_empty() {
            self.buffer.advance(bytes);
        } else {
            self.joined.advance(bytes);
        }
        self.consumed(bytes);
    }

    fn join(&mut self, read: Bytes) {
        if !self.has_buffered() {
            self.buffer = read;
            return;
        }
        if self.joined.is_empty() {
            self.joined.reserve(self.buffer.len() + read.len());
            self.joined.extend_from_slice(&std::mem::take(&mut self.buffer));
        }
        self.joined.extend_from_slice(&read);
    }

    /// One read; none at the end, which is noted.
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let read: io::Result<Bytes> = ready!(self.source.poll_read(cx));
        Poll::Ready(match read {
            Ok(read) if read.is_empty() => {
                self.ended = Some(Ended::Closed);
                None
            }
            Ok(read) => Some(read),
            Err(_) => {
                self.ended = Some(Ended::Reset);
                None
            }
        })
    }

    fn consumed(&mut self, bytes: usize) {
        let prepaid = self.prepaid.min(bytes);
        self.prepaid -= prepaid;
        self.owed += bytes - prepaid;
    }

    fn pay(&mut self) {
        if self.owed > 0 {
            self.source.taken(std::mem::take(&mut self.owed));
        }
    }

    fn prepay(&mut self) {
        self.pay();
        let unpaid = self.held().len().saturating_sub(self.prepaid);
        if unpaid > 0 {
            self.source.taken(unpaid);
            self.prepaid += unpaid;
        }
    }
}

fn too_long(side: Side, head: &[u8]) -> HeadError {
    if memchr::memchr(b'\n', head).is_some() {
        side.malformed(431, "head too long")
    } else {
        side.malformed(414, "first line too long")
    }
}
