//! One match of one rule: what a path must be, and where the match stands among others. Pure.

use std::{cmp::Reverse, fmt, sync::Arc};

use super::{
    RequestView, Rule,
    predicate::{Pattern, Predicate, Unmet, ValueMatch},
};

/// What a path must be.
#[derive(Clone, Debug)]
pub enum PathMatch {
    /// This.
    Exact(Arc<str>),
    /// This or below; without a slash at its end, so that `/` is empty.
    Prefix(Arc<str>),
    /// This, from end to end.
    Regex(Pattern),
    /// Nothing at all: the match could not be understood, and its rule is invalid.
    Never,
    /// `/service/method` with both parts as they should be, absent parts whatever they are.
    Grpc {
        /// Service with its package.
        service: Option<ValueMatch>,
        /// Method.
        method: Option<ValueMatch>,
    },
}

/// One match of one rule.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What the path must be.
    pub path: PathMatch,
    /// What else must hold.
    pub predicate: Arc<Predicate>,
    /// Whose it is.
    pub rule: Arc<Rule>,
    /// `metadata.creationTimestamp` of the object in seconds since 1970; one without a time counts as the newest.
    pub created: Option<i64>,
}

/// The class of a match, the first criterion of its precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Exact,
    Prefix,
    Pattern,
    Method,
    MethodPattern,
    Anything,
    Never,
}

/// What decides between two matches; the smaller wins. The order is in the header of [`super::table`].
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Precedence {
    class: Class,
    /// Of the prefix, or of service and method.
    length: Reverse<(usize, usize)>,
    without_method: bool,
    headers: Reverse<usize>,
    queries: Reverse<usize>,
    created: i64,
    object: String,
    rule: usize,
}

impl Entry {
    pub(super) fn precedence(&self) -> Precedence {
        let name = &self.rule.name;
        Precedence {
            class: self.path.class(),
            length: Reverse(self.path.length()),
            without_method: self.predicate.method.is_none(),
            headers: Reverse(self.predicate.headers.len()),
            queries: Reverse(self.predicate.queries.len()),
            created: self.created.unwrap_or(i64::MAX),
            object: format!("{}/{}", name.namespace, name.name),
            rule: name.rule,
        }
    }
}

impl Entry {
    /// What of it a request does not fulfil, the path first; none where it matches.
    #[must_use]
    pub fn unmet(&self, request: &RequestView<'_>) -> Option<Unmet<'_>> {
        if self.path.accepts(request.path) { self.predicate.unmet(request) } else { Some(Unmet::Path) }
    }

    /// Its regular expressions.
    pub(in crate::snapshot) fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        let (path, parts) = match &self.path {
            PathMatch::Regex(pattern) => (Some(pattern), [None, None]),
            PathMatch::Grpc { service, method } => (None, [service.as_ref(), method.as_ref()]),
            _ => (None, [None, None]),
        };
        let headers = self.predicate.headers.iter().map(|(_, value)| value);
        let queries = self.predicate.queries.iter().map(|(_, value)| value);
        let values = parts.into_iter().flatten().chain(headers).chain(queries);
        path.into_iter().chain(values.filter_map(|value| match value {
            ValueMatch::Regex(pattern) => Some(pattern),
            ValueMatch::Exact(_) => None,
        }))
    }
}

impl PathMatch {
    /// Whether a path is what it should be.
    pub(super) fn accepts(&self, path: &str) -> bool {
        match self {
            Self::Never => false,
            Self::Exact(exact) => **exact == *path,
            Self::Prefix(prefix) if prefix.is_empty() => true,
            Self::Prefix(prefix) => {
                path.strip_prefix(&**prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Self::Regex(pattern) => pattern.accepts(path.as_bytes()),
            Self::Grpc { service: None, method: None } => true,
            Self::Grpc { service, method } => {
                let parts = path.strip_prefix('/').and_then(|path| path.split_once('/'));
                let accepts = |part: &Option<ValueMatch>, given: &str| {
                    part.as_ref().is_none_or(|part| part.accepts(given.as_bytes()))
                };
                parts.is_some_and(|given| accepts(service, given.0) && accepts(method, given.1))
            }
        }
    }

    fn class(&self) -> Class {
        let is_pattern = |part: &Option<ValueMatch>| matches!(part, Some(ValueMatch::Regex(_)));
        match self {
            Self::Never => Class::Never,
            Self::Exact(_) => Class::Exact,
            Self::Prefix(prefix) if prefix.is_empty() => Class::Anything,
            Self::Prefix(_) => Class::Prefix,
            Self::Regex(_) => Class::Pattern,
            Self::Grpc { service: None, method: None } => Class::Anything,
            Self::Grpc { service: None, method } if is_pattern(method) => Class::MethodPattern,
            Self::Grpc { service: None, .. } => Class::Method,
            Self::Grpc { service, method } if is_pattern(service) || is_pattern(method) => Class::Pattern,
            Self::Grpc { method: None, .. } => Class::Prefix,
            Self::Grpc { .. } => Class::Exact,
        }
    }

    fn length(&self) -> (usize, usize) {
        let of = |part: &Option<ValueMatch>| match part {
            None => 0,
            Some(ValueMatch::Exact(text)) => text.len(),
            Some(ValueMatch::Regex(pattern)) => pattern.text().len(),
        };
        match self {
            Self::Never => (0, 0),
            Self::Exact(text) | Self::Prefix(text) => (text.len(), 0),
            Self::Regex(pattern) => (pattern.text().len(), 0),
            Self::Grpc { service, method } => (of(service), of(method)),
        }
    }
}

impl fmt::Display for PathMatch {
    /// `/exact`, `/prefix/*`, `~expression`; gRPC: `package.Service/Method`, each `*` where it may be anything.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |part: &Option<ValueMatch>| match part {
            None => "*".to_owned(),
            Some(ValueMatch::Exact(text)) => text.to_string(),
            Some(ValueMatch::Regex(pattern)) => format!("~{}", pattern.text()),
        };
        match self {
            Self::Never => f.write_str("(not understood)"),
            Self::Exact(path) => f.write_str(path),
            Self::Prefix(prefix) => write!(f, "{prefix}/*"),
            Self::Regex(pattern) => write!(f, "~{}", pattern.text()),
            Self::Grpc { service, method } => write!(f, "{}/{}", part(service), part(method)),
        }
    }
}

impl fmt::Display for Entry {
    /// Path, then what else must hold.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = self.predicate.to_string();
        let space = if rest.is_empty() { "" } else { " " };
        write!(f, "{}{space}{rest}", self.path)
    }
}
