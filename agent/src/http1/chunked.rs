//! The chunked transfer coding, decoded strictly (RFC 9112 section 7.1). Pure.
//!
//! Extensions are bounded and ignored. Refused: bare LF or CR, anything before the digits, sizes of more than 64 bits,
//! white space that no extension follows, content that is not followed by CRLF.

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

use super::{
    Limits,
    scan::{Scan, scan},
    trailers,
};

/// What there is to do.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// The bytes are used up.
    More,
    /// Content is at the front of the bytes: [`Chunked::content`].
    Content,
    /// The body is over.
    End(HeaderMap),
}

#[derive(Debug, Default)]
pub(super) struct Chunked {
    phase: Phase,
    /// Bytes of the current size line.
    line: usize,
    /// Bytes of all extensions so far.
    extensions: usize,
    trailers: BytesMut,
    scanned: usize,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Size { value: u64, digits: u8 },
    BeforeExtension(u64),
    Extension(u64),
    SizeLf(u64),
    Content(u64),
    ContentCr,
    ContentLf,
    Trailers,
}

impl Default for Phase {
    fn default() -> Self {
        Self::Size { value: 0, digits: 0 }
    }
}

impl Chunked {
    /// Works through framing at the front of the bytes.
    pub(super) fn advance(&mut self, bytes: &mut Bytes, limits: &Limits) -> Result<Step, &'static str> {
        loop {
            match self.phase {
                Phase::Content(_) if bytes.is_empty() => return Ok(Step::More),
                Phase::Content(_) => return Ok(Step::Content),
                Phase::Trailers => return self.trailers(bytes, limits),
                _ if bytes.is_empty() => return Ok(Step::More),
                _ => self.framing(bytes, limits)?,
            }
        }
    }

    /// The content at the front of the bytes, as much of the chunk as there is.
    pub(super) fn content(&mut self, bytes: &mut Bytes) -> Bytes {
        let Phase::Content(left) = self.phase else { return Bytes::new() };
        let length = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let left = left - length as u64;
        self.phase = if left == 0 { Phase::ContentCr } else { Phase::Content(left) };
        bytes.split_to(length)
    }

    fn framing(&mut self, bytes: &mut Bytes, limits: &Limits) -> Result<(), &'static str> {
        let mut used = 0;
        for byte in bytes.iter() {
            used += 1;
            self.byte(*byte, limits)?;
            if matches!(self.phase, Phase::Content(_) | Phase::Trailers) {
                break;
            }
        }
        bytes.advance(used);
        Ok(())
    }

    fn byte(&mut self, byte: u8, limits: &Limits) -> Result<(), &'static str> {
        self.phase = match (self.phase, byte) {
            (Phase::Size { value, digits }, _) => self.size(value, digits, byte)?,
            (Phase::BeforeExtension(size), b' ' | b'\t') => Phase::BeforeExtension(size),
            (Phase::BeforeExtension(size), b';') => Phase::Extension(size),
            (Phase::BeforeExtension(_), _) => return Err("invalid chunk size"),
            (Phase::Extension(size), b'\r') => Phase::SizeLf(size),
            (Phase::Extension(_), b'\n') => return Err("bare LF in a chunk line"),
            (Phase::Extension(_), 0..=0x08 | 0x0b..=0x1f | 0x7f) => return Err("invalid chunk extension"),
            (Phase::Extension(size), _) => Phase::Extension(size),
            (Phase::SizeLf(size), b'\n') => {
                self.line = 0;
                if size == 0 { Phase::Trailers } else { Phase::Content(size) }
            }
            (Phase::SizeLf(_), _) => return Err("bare CR in a chunk line"),
            (Phase::ContentCr, b'\r') => Phase::ContentLf,
            (Phase::ContentLf, b'\n') => Phase::default(),
            (Phase::ContentCr | Phase::ContentLf, _) => return Err("no CRLF after a chunk"),
            (phase @ (Phase::Content(_) | Phase::Trailers), _) => phase,
        };
        self.bound(limits)
    }

    fn size(&self, value: u64, digits: u8, byte: u8) -> Result<Phase, &'static str> {
        match byte {
            b'\r' if digits > 0 => Ok(Phase::SizeLf(value)),
            b';' if digits > 0 => Ok(Phase::Extension(value)),
            b' ' | b'\t' if digits > 0 => Ok(Phase::BeforeExtension(value)),
            b'\n' => Err("bare LF in a chunk line"),
            _ => {
                let digit = char::from(byte).to_digit(16).ok_or("invalid chunk size")?;
                // 16 digits are 64 bits; more would only be leading zeros, of which nobody needs that many.
                if digits == 16 {
                    return Err("chunk size overflow");
                }
                Ok(Phase::Size { value: value << 4 | u64::from(digit), digits: digits + 1 })
            }
        }
    }

    fn bound(&mut self, limits: &Limits) -> Result<(), &'static str> {
        match self.phase {
            Phase::Size { .. } | Phase::SizeLf(_) => self.line += 1,
            Phase::BeforeExtension(_) | Phase::Extension(_) => {
                self.line += 1;
                self.extensions += 1;
            }
            _ => return Ok(()),
        }
        if self.line > limits.chunk_line_bytes + 1 {
            return Err("chunk line too long");
        }
        if self.extensions > limits.extension_bytes { Err("chunk extensions too long") } else { Ok(()) }
    }

    fn trailers(&mut self, bytes: &mut Bytes, limits: &Limits) -> Result<Step, &'static str> {
        if self.trailers.is_empty() && bytes.starts_with(b"\r\n") {
            bytes.advance(2);
            return Ok(Step::End(HeaderMap::new()));
        }
        let before = self.trailers.len();
        let room = limits.trailer_bytes.saturating_sub(before).min(bytes.len());
        self.trailers.extend_from_slice(bytes.get(..room).unwrap_or_default());
        if self.trailers.starts_with(b"\r\n") {
            bytes.advance(2 - before.min(2));
            return Ok(Step::End(HeaderMap::new()));
        }
        match scan(&self.trailers, self.scanned) {
            Scan::Bad(what) => Err(what),
            Scan::End(length) => {
                bytes.advance(length.saturating_sub(before));
                self.trailers.truncate(length);
                trailers::parse(&self.trailers).map(Step::End)
            }
            Scan::More(_) if self.trailers.len() >= limits.trailer_bytes => Err("trailers too long"),
            Scan::More(next) => {
                self.scanned = next;
                bytes.advance(room);
                Ok(Step::More)
            }
        }
    }
}
