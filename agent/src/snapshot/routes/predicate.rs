//! What a request must be beside its path: method, headers, query parameters, and the values they are compared with. Pure.
//!
//! Regular expressions match the whole value, run in linear time and are bounded in size. A header that is there several
//! times is compared as one list (RFC 9110, section 5.3); of a repeated query parameter the first counts.

use std::{borrow::Cow, fmt};

use http::{HeaderName, Method, header};

use super::RequestView;

/// Bytes that a compiled regular expression may take, and its lazy automaton once more.
const PATTERN_BYTES: usize = 1 << 20;

/// A regular expression that matches whole values.
#[derive(Clone)]
pub struct Pattern {
    text: Box<str>,
    compiled: regex::bytes::Regex,
}

/// What a value is compared with.
#[derive(Clone, Debug)]
pub enum ValueMatch {
    /// It is this.
    Exact(Box<str>),
    /// It matches this from end to end.
    Regex(Pattern),
}

/// Everything but the path. All of it must hold.
#[derive(Clone, Debug, Default)]
pub struct Predicate {
    /// The method, where it matters.
    pub method: Option<Method>,
    /// Headers that must be there.
    pub headers: Vec<(HeaderName, ValueMatch)>,
    /// Query parameters that must be there.
    pub queries: Vec<(Box<str>, ValueMatch)>,
    /// Only gRPC: `content-type` starts with `application/grpc`.
    pub grpc: bool,
}

impl Pattern {
    /// Compiles an expression in the syntax of the `regex` crate (RE2's).
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub fn compile(text: &str) -> Result<Self, String> {
        let build = |text: &str| {
            regex::bytes::RegexBuilder::new(text)
                .size_limit(PATTERN_BYTES)
                .dfa_size_limit(PATTERN_BYTES)
                .build()
                .map_err(|error| in_one_line(&error))
        };
        // Alone first, so that nothing in it can reach out of the group.
        build(text)?;
        // The line end closes a comment of the `x` flag, which is on again only inside the group.
        let compiled =
            build(&format!(r"\A(?:{text})\z")).or_else(|_| build(&format!("\\A(?:{text}\n)\\z")))?;
        Ok(Self { text: text.into(), compiled })
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the whole value matches.
    #[must_use]
    pub fn accepts(&self, value: &[u8]) -> bool {
        self.compiled.is_match(value)
    }
}

fn in_one_line(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(limit) => format!("is larger than {limit} bytes when compiled"),
        // The last line says what; those before draw where.
        error => error.to_string().lines().last().unwrap_or_default().trim().to_owned(),
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({})", self.text)
    }
}

impl ValueMatch {
    /// Whether a value is what it should be.
    #[must_use]
    pub fn accepts(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => exact.as_bytes() == value,
            Self::Regex(pattern) => pattern.accepts(value),
        }
    }
}

impl Predicate {
    /// Whether the request fulfils all of it.
    #[must_use]
    pub fn accepts(&self, request: &RequestView<'_>) -> bool {
        self.unmet(request).is_none()
    }

    /// The first part that the request does not fulfil.
    #[must_use]
    pub fn unmet(&self, request: &RequestView<'_>) -> Option<Unmet<'_>> {
        if let Some(method) = self.method.as_ref().filter(|method| *method != request.method) {
            return Some(Unmet::Method(method));
        }
        if self.grpc && !is_grpc(request) {
            return Some(Unmet::Grpc);
        }
        let mut headers = self.headers.iter();
        if let Some((name, value)) = headers.find(|(name, value)| !header_accepts(request, name, value)) {
            return Some(Unmet::Header(name, value));
        }
        let mut queries = self.queries.iter();
        let (name, value) = queries.find(|(name, value)| !query_accepts(request, name, value))?;
        Some(Unmet::Query(name, value))
    }
}

/// What of a match a request does not fulfil.
#[derive(Clone, Copy, Debug)]
pub enum Unmet<'entry> {
    /// The path.
    Path,
    /// Another method is wanted.
    Method(&'entry Method),
    /// It is not gRPC.
    Grpc,
    /// A header is absent or another.
    Header(&'entry HeaderName, &'entry ValueMatch),
    /// A query parameter is absent or another.
    Query(&'entry str, &'entry ValueMatch),
}

impl fmt::Display for Unmet<'_> {
    /// Completes "passed over because ..".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path => f.write_str("the path is another"),
            Self::Method(method) => write!(f, "the method is not {method}"),
            Self::Grpc => f.write_str("the request is not gRPC (content-type)"),
            Self::Header(name, value) => write!(f, "it has no header[{name}]{value}"),
            Self::Query(name, value) => write!(f, "it has no query[{name}]{value}"),
        }
    }
}

fn is_grpc(request: &RequestView<'_>) -> bool {
    let content_type = request.headers.get(header::CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn header_accepts(request: &RequestView<'_>, name: &HeaderName, value: &ValueMatch) -> bool {
    let mut given = request.headers.get_all(name).iter();
    match (given.next(), given.next()) {
        // HTTP/2 has it in `:authority`.
        (None, _) => name == header::HOST && value.accepts(request.authority.as_bytes()),
        (Some(only), None) => value.accepts(only.as_bytes()),
        (Some(first), Some(second)) => {
            let mut list = first.as_bytes().to_vec();
            for more in std::iter::once(second).chain(given) {
                list.extend_from_slice(b", ");
                list.extend_from_slice(more.as_bytes());
            }
            value.accepts(&list)
        }
    }
}

fn query_accepts(request: &RequestView<'_>, name: &str, value: &ValueMatch) -> bool {
    let pairs = request.query.unwrap_or_default().split('&');
    let mut pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let given = pairs.find(|(given, _)| *decoded(given) == *name.as_bytes());
    given.is_some_and(|(_, given)| value.accepts(&decoded(given)))
}

/// A part of a query without its escapes (`application/x-www-form-urlencoded`, WHATWG URL).
fn decoded(text: &str) -> Cow<'_, [u8]> {
    if !text.bytes().any(|byte| byte == b'%' || byte == b'+') {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let (byte, tail) = match (first, tail) {
            (b'+', _) => (b' ', tail),
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (b'%', tail),
            },
            _ => (*first, tail),
        };
        plain.push(byte);
        rest = tail;
    }
    Cow::Owned(plain)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

impl fmt::Display for ValueMatch {
    /// `=value` or `~expression`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(exact) => write!(f, "={exact}"),
            Self::Regex(pattern) => write!(f, "~{}", pattern.text),
        }
    }
}

impl fmt::Display for Predicate {
    /// `GET header[x-version]=2 query[a]~b.*`; empty where anything will do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = self.method.iter().map(ToString::to_string);
        let headers = self.headers.iter().map(|(name, value)| format!("header[{name}]{value}"));
        let queries = self.queries.iter().map(|(name, value)| format!("query[{name}]{value}"));
        let words: Vec<String> = method.chain(headers).chain(queries).collect();
        f.write_str(&words.join(" "))
    }
}
