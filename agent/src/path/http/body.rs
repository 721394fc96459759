//! Bodies of requests and answers, frame by frame, whatever protocol they come in. Pure but for the sources behind them.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;

/// A piece of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Content; never empty.
    Data(Bytes),
    /// Trailers, the last frame.
    Trailers(HeaderMap),
}

/// Bytes of content in a frame that waits, if one does.
pub(super) fn content(waiting: Option<&Frame>) -> u64 {
    match waiting {
        Some(Frame::Data(data)) => data.len() as u64,
        Some(Frame::Trailers(_)) | None => 0,
    }
}

/// Why a body ended before its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The peer closed or reset before the end.
    #[error("ended before its end: {0}")]
    Cut(&'static str),
    /// The peer broke the protocol.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// It is longer than allowed.
    #[error("longer than {0} bytes")]
    TooLong(u64),
}

/// Where a body comes from. A source gives window back to its peer when it is asked for the next frame, so a consumer
/// that does not ask holds the sender back.
pub trait BodySource {
    /// The next frame; none at the end. Not to be called after the end or an error.
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>>;

    /// How many bytes of content are still to come, where known.
    fn remaining(&self) -> Option<u64>;

    /// Whether nothing will come any more, trailers included.
    fn is_end(&self) -> bool;
}

/// A body. Dropped before its end, its source is cancelled: the peer's stream is reset or its connection closed.
#[derive(Default)]
pub enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// One piece that is already here.
    Whole(Bytes),
    /// What a peer sends.
    Source(Box<dyn BodySource>),
}

impl Body {
    /// The next frame; none at the end.
    pub fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready((!bytes.is_empty()).then_some(Ok(Frame::Data(bytes))))
            }
            Self::Source(source) => source.poll_frame(context),
        }
    }

    /// Bytes of content still to come, where known.
    #[must_use]
    pub fn remaining(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Whole(bytes) => Some(bytes.len() as u64),
            Self::Source(source) => source.remaining(),
        }
    }

    /// Whether nothing will come any more.
    #[must_use]
    pub fn is_end(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Source(source) => source.is_end(),
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Whole(bytes) => write!(f, "Whole({} bytes)", bytes.len()),
            Self::Source(source) => write!(f, "Source({:?} bytes left)", source.remaining()),
        }
    }
}
