//! What comes on a stream of HTTP/2, piece by piece: content, then trailers. Window is given back when the next piece is asked for,
//! or none will follow, so that a reader that does not ask holds the sender back.

use std::task::{Context, Poll, ready};

use bytes::Bytes;

use crate::{path::http::body::Frame, tunnel::reference::Inbox};

/// The receiving half of a stream.
pub(in crate::path::http) struct Frames {
    stream: Inbox,
    /// By `content-length`, to which `h2` holds the peer.
    left: Option<u64>,
    /// Bytes of the last frame, whose window the peer has not got back.
    held: usize,
    ended: bool,
}

impl Frames {
    /// Of a stream whose head was read, and said this length.
    pub(in crate::path::http) fn new(stream: Inbox, length: Option<u64>) -> Self {
        Self { stream, left: length, held: 0, ended: false }
    }

    /// The next one, trailers as they came; none at the end. Not to be called after the end.
    ///
    /// # Errors
    /// The stream or its connection broke.
    pub(in crate::path::http) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, h2::Error>>> {
        self.give_back();
        Poll::Ready(match ready!(self.stream.poll_data(context)) {
            Some(Ok(data)) => Some(Ok(self.take(data))),
            Some(Err(error)) => Some(Err(error)),
            None => {
                let trailers = ready!(self.stream.poll_trailers(context));
                self.ended = true;
                trailers.map(|trailers| trailers.map(Frame::Trailers)).transpose()
            }
        })
    }

    fn take(&mut self, data: Bytes) -> Frame {
        self.held = data.len();
        self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
        if self.stream.is_end() {
            self.ended = true;
            self.give_back();
        }
        Frame::Data(data)
    }

    fn give_back(&mut self) {
        let bytes = std::mem::take(&mut self.held);
        if bytes > 0 {
            self.stream.release(bytes);
        }
    }

    /// Bytes of content that are still to come, where the head said so.
    pub(in crate::path::http) fn left(&self) -> Option<u64> {
        self.left
    }

    /// Whether the last frame was taken.
    pub(in crate::path::http) fn ended(&self) -> bool {
        self.ended
    }

    /// Whether nothing will come any more.
    pub(in crate::path::http) fn is_end(&self) -> bool {
        self.ended || self.stream.is_end()
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.give_back();
    }
}
