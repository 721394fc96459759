//! Requests that break HTTP/2's rules (RFC 9113, section 8.1.1), as `h2` resets their streams. Of those whose head is malformed it tells
//! nobody, so that they are counted where they can be seen: among the frames that leave. No reset of ours has these codes. What comes is
//! looked at as well, for heads that are not whole.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::heads::Heads;

/// RFC 9113, section 6.4.
const RST_STREAM: u8 = 3;
/// Bytes of a frame's head (RFC 9113, section 4.1), and of one with the code of an RST_STREAM behind it.
const HEAD: u32 = 9;
const HEAD_AND_CODE: u32 = 13;

/// What is seen of the stream below.
#[derive(Default)]
pub(super) struct Seen {
    /// Streams that were reset for their requests.
    pub(super) resets: Cell<u32>,
    /// A head has begun and is not whole.
    pub(super) within_head: Cell<bool>,
}

/// The stream below, of which the frames are looked at.
pub(super) struct Watched<T> {
    stream: T,
    frames: Frames,
    heads: Heads,
    seen: Rc<Seen>,
}

impl<T> Watched<T> {
    /// Says in `seen` what happens.
    pub(super) fn new(stream: T, seen: Rc<Seen>) -> Self {
        Self { stream, frames: Frames::default(), heads: Heads::new(), seen }
    }

    fn note(&mut self, data: &[u8]) {
        let found = self.frames.pass(data);
        if found > 0 {
            self.seen.resets.set(self.seen.resets.get().saturating_add(found));
        }
    }
}

/// Where in a sequence of frames we are. Pure.
#[derive(Default)]
struct Frames {
    /// What is known of the present frame's head, and how many bytes that is.
    head: u128,
    known: u32,
    /// Bytes of its payload that are still to come.
    payload: usize,
}

impl Frames {
    /// Goes on by these bytes; how many streams they reset for a malformed request.
    fn pass(&mut self, mut data: &[u8]) -> u32 {
        let mut found = 0;
        loop {
            let skipped = self.payload.min(data.len());
            self.payload -= skipped;
            let Some((byte, rest)) = data.get(skipped..).and_then(<[u8]>::split_first) else { return found };
            data = rest;
            found += u32::from(self.take(*byte));
        }
    }

    /// The next byte of a head; whether it is the last one of such a reset.
    fn take(&mut self, byte: u8) -> bool {
        self.head = self.head << 8 | u128::from(byte);
        self.known += 1;
        let resets = self.known >= HEAD && (self.head >> (8 * (self.known - HEAD) + 40)) as u8 == RST_STREAM;
        if self.known < HEAD || (resets && self.known < HEAD_AND_CODE) {
            return false;
        }
        if !resets {
            self.payload = (self.head >> 48) as usize & 0xff_ffff;
        }
        let code = Reason::from(self.head as u32);
        (self.head, self.known) = (0, 0);
        resets && matches!(code, Reason::PROTOCOL_ERROR | Reason::FLOW_CONTROL_ERROR)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, out))?;
        self.heads.pass(out.filled().get(before..).unwrap_or_default());
        self.seen.within_head.set(self.heads.is_within());
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, data))?;
        self.note(data.get(..written).unwrap_or_default());
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, data))?;
        let mut left = written;
        for slice in data {
            let taken = left.min(slice.len());
            self.note(slice.get(..taken).unwrap_or_default());
            left -= taken;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
        [&length[1..], &[kind, 0, 0, 0, 0, 7], payload].concat()
    }

    fn reset(reason: Reason) -> Vec<u8> {
        frame(RST_STREAM, &u32::from(reason).to_be_bytes())
    }

    #[test]
    fn only_resets_for_what_the_request_was() {
        let table = [
            (reset(Reason::PROTOCOL_ERROR), 1),
            (reset(Reason::FLOW_CONTROL_ERROR), 1),
            (reset(Reason::NO_ERROR), 0),
            (reset(Reason::INTERNAL_ERROR), 0),
            (reset(Reason::REFUSED_STREAM), 0),
            (frame(0, &reset(Reason::PROTOCOL_ERROR)), 0),
            (frame(0, &[3; 70_000]), 0),
            (frame(4, &[]), 0),
            // GOAWAY, with the same code.
            (frame(7, &[0, 0, 0, 9, 0, 0, 0, 1]), 0),
        ];
        for (bytes, expected) in table {
            assert_eq!(Frames::default().pass(&bytes), expected, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn however_they_are_cut(kinds in proptest::collection::vec(0_usize..4, 0..20), sizes in proptest::collection::vec(1_usize..40, 1..20)) {
            let pieces = [reset(Reason::PROTOCOL_ERROR), reset(Reason::CANCEL), frame(0, &[3; 300]), frame(1, &[])];
            let bytes = kinds.iter().map(|kind| pieces[*kind].clone()).collect::<Vec<_>>().concat();
            let (mut frames, mut left, mut found) = (Frames::default(), &bytes[..], 0);
            for size in sizes.iter().cycle() {
                let (now, rest) = left.split_at((*size).min(left.len()));
                found += frames.pass(now);
                left = rest;
                if left.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(found as usize, kinds.iter().filter(|kind| **kind == 0).count());
        }
    }
}
