//! How a value of a policy is compared: texts with a `*` at one end, address blocks, path templates. Pure.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

/// A text of Istio's: exact, or with `*` at the beginning or the end, or `*` alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// This text.
    Exact(Arc<str>),
    /// Texts that begin so.
    Prefix(Arc<str>),
    /// Texts that end so.
    Suffix(Arc<str>),
    /// Anything that is not empty.
    Present,
}

impl Pattern {
    /// Reads it. A `*` elsewhere is an ordinary character, as in Istio.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if text == "*" {
            return Self::Present;
        }
        match (text.strip_prefix('*'), text.strip_suffix('*')) {
            (Some(end), _) => Self::Suffix(end.into()),
            (None, Some(beginning)) => Self::Prefix(beginning.into()),
            (None, None) => Self::Exact(text.into()),
        }
    }

    /// Whether a text is meant.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *text,
            Self::Prefix(beginning) => text.starts_with(&**beginning),
            Self::Suffix(end) => text.ends_with(&**end),
            Self::Present => !text.is_empty(),
        }
    }
}

/// A path: a text, or a template whose segments may be `{*}` (one segment) or `{**}` (any number of them, none too).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    /// As every text.
    Text(Pattern),
    /// By segments.
    Template(Vec<Segment>),
}

/// A segment of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// This one.
    Exact(Arc<str>),
    /// Any one that is not empty.
    One,
    /// Any number of them.
    Many,
}

impl PathPattern {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with a template.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.contains(['{', '}']) {
            return Ok(Self::Text(Pattern::parse(text)));
        }
        let segments: Result<Vec<Segment>, String> = text.split('/').map(Segment::parse).collect();
        let segments = segments?;
        if segments.iter().filter(|segment| **segment == Segment::Many).count() > 1 {
            return Err("`{**}` may stand only once; use `{*}` for single segments".into());
        }
        Ok(Self::Template(segments))
    }

    /// Whether a path is meant.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Text(pattern) => pattern.matches(path),
            Self::Template(segments) => {
                let parts: Vec<&str> = path.split('/').collect();
                fits(segments, &parts)
            }
        }
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "{*}" => Ok(Self::One),
            "{**}" => Ok(Self::Many),
            exact if exact.contains(['{', '}', '*']) => {
                Err(format!("`{exact}` is not a segment of a template; use `{{*}}`, `{{**}}` or plain text"))
            }
            exact => Ok(Self::Exact(exact.into())),
        }
    }

    fn fits(&self, part: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *part,
            Self::One => !part.is_empty(),
            Self::Many => true,
        }
    }
}

/// At most one of the segments is `Many`.
fn fits(segments: &[Segment], parts: &[&str]) -> bool {
    let Some(many) = segments.iter().position(|segment| *segment == Segment::Many) else {
        return segments.len() == parts.len() && segments.iter().zip(parts).all(|(one, part)| one.fits(part));
    };
    let (before, after) = (many, segments.len() - many - 1);
    if parts.len() < before + after {
        return false;
    }
    let beginning = segments.iter().zip(parts).take(before);
    let end = segments.iter().rev().zip(parts.iter().rev()).take(after);
    beginning.chain(end).all(|(one, part)| one.fits(part))
}

/// Addresses that share their first bits (RFC 4632).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    first: IpAddr,
    bits: u8,
}

impl Block {
    /// Reads `10.0.0.0/8`, or one address.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is not an address block; write `10.0.0.0/8`, `fd00::/8` or one address");
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => longest,
            // `+8` and `08` are numbers to Rust, and a mistake here.
            Some(bits) if bits.len() > 1 && !bits.starts_with(|c: char| ('1'..='9').contains(&c)) => {
                return Err(wrong());
            }
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= longest).ok_or_else(wrong)?,
        };
        Ok(Self { first: masked(address, bits), bits })
    }

    /// Whether an address is in it; IPv4 in IPv6 is IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && masked(address, self.bits) == self.first
    }
}

/// The first bits, the others zero.
fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn texts() {
        let table = [
            ("*", "a", true),
            ("*", "", false),
            ("abc", "abc", true),
            ("abc", "ABC", false),
            ("abc*", "abcd", true),
            ("abc*", "abc", true),
            ("abc*", "ab", false),
            ("*.com", "a.com", true),
            ("*.com", "com", false),
            ("a*c", "abc", false),
            ("a*c", "a*c", true),
            ("", "", true),
        ];
        for (pattern, text, expected) in table {
            assert_eq!(Pattern::parse(pattern).matches(text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn templates() {
        let table = [
            ("/a/{*}/c", "/a/b/c", true),
            ("/a/{*}/c", "/a//c", false),
            ("/a/{*}/c", "/a/b/b/c", false),
            ("/a/{*}", "/a", false),
            ("/a/{**}", "/a", true),
            ("/a/{**}", "/a/b/c/", true),
            ("/a/{**}", "/ab", false),
            ("/{**}/z", "/z", true),
            ("/{**}/z", "/x/y/z", true),
            ("/a/{**}/{*}/z", "/a/z", false),
            ("/a/{**}/{*}/z", "/a/b/z", true),
            ("/a*", "/abc/d", true),
        ];
        for (pattern, path, expected) in table {
            assert_eq!(PathPattern::parse(pattern).unwrap().matches(path), expected, "{pattern} {path}");
        }
        for bad in ["/a/{b}", "/{**}/{**}", "/a{*}", "/{*", "/{*}/b*"] {
            assert!(PathPattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn blocks() {
        let table = [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.1.2.3/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "::1", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fc00::1", false),
            ("::/0", "fd00::1", true),
            ("fd00::1", "fd00::1", true),
        ];
        for (block, address, expected) in table {
            let block = Block::parse(block).unwrap();
            assert_eq!(block.contains(address.parse().unwrap()), expected, "{block:?} {address}");
        }
        for bad in [
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "a",
            "fd00::/129",
        ] {
            assert!(Block::parse(bad).is_err(), "{bad}");
        }
    }
}
