//! The ways in which a server may read a path. Pure.
//!
//! Servers differ: some decode `%2F`, some take `\` for `/`, some merge `//`, some drop `;parameters`, some decode twice. A policy that
//! knew only one of these ways would be passed by the others. So a path has *readings*, and the most restrictive decision over
//! all of them counts: a `DENY` holds when it matches one, an `ALLOW` only when each is allowed.
//!
//! | step | what | always |
//! |---|---|---|
//! | 1 | the query (from `?`) and a fragment (from `#`) are cut off | yes |
//! | 2 | percent-encoded characters that need no encoding are decoded (RFC 3986, section 6.2.2) | yes |
//! | 3 | everything percent-encoded is decoded, also `%2F` and `%5C`; then once more, where that left an encoding | one reading each |
//! | 4 | `\` becomes `/` | wherever one is there, a reading |
//! | 5 | `;parameters` of segments are dropped (RFC 3986, section 3.3) | wherever one is there, a reading |
//! | 6 | `//` becomes `/`, then `.` and `..` segments are removed (RFC 3986, section 5.2.4), `..` never above the root | yes |
//!
//! Letters keep their case, and `/a/` is not `/a`. A path that is empty or `*` (of `OPTIONS`) is itself. Refused, whatever the policies
//! say: a `%` without two hexadecimal digits, and a decoded NUL or other control character, which servers cut or drop.

use std::borrow::Cow;

/// A path that no two servers need read alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// `%` without two hexadecimal digits.
    #[error("a `%` without two hexadecimal digits after it")]
    Percent,
    /// A NUL or another control character, encoded or not.
    #[error("a control character")]
    Control,
    /// Not text once it is decoded.
    #[error("not UTF-8 once it is decoded")]
    NotText,
}

impl PathFault {
    /// The word for metrics and lines.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Percent => "path_percent",
            Self::Control => "path_control",
            Self::NotText => "path_not_text",
        }
    }
}

/// The readings of the path of a request's target, the plainest first; never none.
///
/// # Errors
/// It is refused.
pub fn readings(target: &str) -> Result<Vec<Cow<'_, str>>, PathFault> {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    if is_plain(path) {
        return Ok(vec![Cow::Borrowed(path)]);
    }
    let mut found: Vec<Cow<'_, str>> = Vec::with_capacity(2);
    let once = decode(path)?;
    let twice = match decode(&once) {
        Ok(twice) => twice,
        Err(PathFault::Control) => return Err(PathFault::Control),
        // A `%` that was encoded, and stands for itself.
        Err(PathFault::Percent | PathFault::NotText) => once.clone(),
    };
    for decoded in [unreserved(path)?, once, twice] {
        for slashed in variants(&decoded, '\\', |text| text.replace('\\', "/")) {
            for stripped in variants(&slashed, ';', without_parameters) {
                let reading = normal(&stripped);
                if !found.iter().any(|known| **known == *reading) {
                    found.push(Cow::Owned(reading));
                }
            }
        }
    }
    Ok(found)
}

/// Whether there is one way to read it.
fn is_plain(path: &str) -> bool {
    let doubtful = |byte: u8| matches!(byte, b'%' | b'\\' | b';') || byte < 0x20 || byte == 0x7f;
    !path.bytes().any(doubtful) && !path.contains("//") && !path.contains("/.")
}

fn is_control(c: char) -> bool {
    c.is_ascii_control()
}

/// The text itself, and what `change` makes of it where it has the character.
fn variants(text: &str, has: char, change: impl Fn(&str) -> String) -> Vec<String> {
    if text.contains(has) { vec![text.to_owned(), change(text)] } else { vec![text.to_owned()] }
}

/// Decodes all of it.
fn decode(path: &str) -> Result<String, PathFault> {
    decode_where(path, |_| true)
}

/// Decodes what needs no encoding (RFC 3986, section 2.3) and writes the others in capitals.
fn unreserved(path: &str) -> Result<String, PathFault> {
    decode_where(path, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'))
}

fn decode_where(path: &str, decodes: impl Fn(u8) -> bool) -> Result<String, PathFault> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        let [high, low, tail @ ..] = rest else { return Err(PathFault::Percent) };
        let (Some(high), Some(low)) = (hexadecimal(*high), hexadecimal(*low)) else {
            return Err(PathFault::Percent);
        };
        rest = tail;
        let decoded = high * 16 + low;
        if decoded.is_ascii_control() {
            return Err(PathFault::Control);
        }
        if decodes(decoded) {
            out.push(decoded);
        } else {
            out.extend_from_slice(format!("%{decoded:02X}").as_bytes());
        }
    }
    let text = String::from_utf8(out).map_err(|_| PathFault::NotText)?;
    if text.contains(is_control) { Err(PathFault::Control) } else { Ok(text) }
}

fn hexadecimal(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn without_parameters(path: &str) -> String {
    let segments: Vec<&str> =
        path.split('/').map(|segment| segment.split(';').next().unwrap_or_default()).collect();
    segments.join("/")
}

/// Merges slashes and removes dot segments. What does not begin with `/` is left alone.
fn normal(path: &str) -> String {
    if !path.starts_with('/') {
        return path.to_owned();
    }
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_open = false;
    for segment in path.split('/') {
        ends_open = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in &kept {
        out.push('/');
        out.push_str(segment);
    }
    if ends_open || out.is_empty() {
        out.push('/');
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn tables() {
        let table: [(&str, &[&str]); 25] = [
            ("/a/b", &["/a/b"]),
            ("/a/b?x=/../c", &["/a/b"]),
            ("/a/b#/c", &["/a/b"]),
            ("/", &["/"]),
            ("*", &["*"]),
            ("", &[""]),
            ("/a/", &["/a/"]),
            ("/a//b", &["/a/b"]),
            ("//a", &["/a"]),
            ("/a/./b", &["/a/b"]),
            ("/a/../b", &["/b"]),
            ("/a/..", &["/"]),
            ("/../../a", &["/a"]),
            ("/a/.hidden", &["/a/.hidden"]),
            ("/%61dmin", &["/admin"]),
            ("/a/%2e%2e/b", &["/b"]),
            ("/a%2fb", &["/a%2Fb", "/a/b"]),
            ("/a/..%2fb", &["/a/..%2Fb", "/b"]),
            ("/a%5cb", &["/a%5Cb", "/a\\b", "/a/b"]),
            ("/a\\..\\b", &["/a\\..\\b", "/b"]),
            ("/%2561", &["/%2561", "/%61", "/a"]),
            ("/%252e%252e/a", &["/%252e%252e/a", "/%2e%2e/a", "/a"]),
            ("/admin;x=1/b", &["/admin;x=1/b", "/admin/b"]),
            ("/a/..;/b", &["/a/..;/b", "/b"]),
            ("/caf%C3%A9", &["/caf%C3%A9", "/café"]),
        ];
        for (target, expected) in table {
            let found = readings(target).unwrap();
            assert_eq!(found, expected, "{target}");
        }
    }

    #[test]
    fn refused() {
        let table = [
            ("/a%", PathFault::Percent),
            ("/a%2", PathFault::Percent),
            ("/a%zz", PathFault::Percent),
            ("/a%00b", PathFault::Control),
            ("/a%0a", PathFault::Control),
            ("/a%7f", PathFault::Control),
            ("/a%2500", PathFault::Control),
            ("/a\u{1}", PathFault::Control),
            ("/%ff", PathFault::NotText),
        ];
        for (target, fault) in table {
            assert_eq!(readings(target), Err(fault), "{target}");
        }
    }

    proptest::proptest! {
        /// Whatever the request spells, one of its readings is what a server that decodes everything and resolves dots sees.
        #[test]
        fn the_boldest_server_is_covered(segments in proptest::collection::vec("[a-z.%;/\\\\]{0,4}", 1..6)) {
            let target = format!("/{}", segments.join("/"));
            if let Ok(found) = readings(&target)
                && let Ok(decoded) = decode(&target)
            {
                let bold = normal(&without_parameters(&decoded.replace('\\', "/")));
                proptest::prop_assert!(found.iter().any(|reading| **reading == *bold), "{target}: {found:?} lacks {bold}");
            }
        }

        #[test]
        fn never_panics_never_none(target: String) {
            if let Ok(found) = readings(&target) {
                proptest::prop_assert!(!found.is_empty());
            }
        }
    }
}
