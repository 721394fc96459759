//! Where a head or a trailer section ends, and that its lines end in CRLF and nothing else. Pure.

use memchr::memchr2;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// No end yet; go on from here when there is more.
    More(usize),
    /// The section is so long, its blank line included.
    End(usize),
    /// A byte that makes the section ambiguous.
    Bad(&'static str),
}

/// Looks for the blank line from `from`, which is 0 or what [`Scan::More`] said for the same bytes before.
/// The verdict depends on the bytes only, not on how they came in pieces.
pub(super) fn scan(bytes: &[u8], from: usize) -> Scan {
    let mut at = from;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr2(b'\r', b'\n', rest)) {
        let line_end = at + found;
        match bytes.get(line_end..).unwrap_or_default() {
            [b'\n', ..] => return Scan::Bad("bare LF"),
            [b'\r', b'\n', b'\r', b'\n', ..] => return Scan::End(line_end + 4),
            [b'\r', b'\n', b' ' | b'\t', ..] => return Scan::Bad("obsolete line folding"),
            [b'\r'] | [b'\r', b'\n'] | [b'\r', b'\n', b'\r'] => return Scan::More(line_end),
            [b'\r', b'\n', ..] => at = line_end + 2,
            _ => return Scan::Bad("bare CR"),
        }
    }
    Scan::More(bytes.len().max(from))
}
