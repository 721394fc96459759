//! Matches of rules to what requests are compared with. Pure.
//!
//! Of several headers or query parameters of one name the first counts, as the specification says. A match that cannot be
//! understood matches nothing, and its rule is invalid.

use std::{collections::HashMap, sync::Arc};

use http::{HeaderName, Method};

use super::faults::Faults;
use crate::snapshot::{
    Snapshot,
    input::routes::{GrpcMethod, Match, MethodValue, NamedValue, PathValue, RouteKind},
    routes::{
        entry::PathMatch,
        predicate::{Pattern, Predicate, ValueMatch},
    },
};

/// Parts that no path may have, because servers read them differently (`HTTPPathMatch`).
const NOT_IN_A_PATH: [&str; 6] = ["//", "/./", "/../", "%2f", "%2F", "#"];

/// Compiled expressions, those of the last snapshot too: compiling is dear.
#[derive(Default)]
pub(super) struct Patterns(HashMap<String, Result<Pattern, String>>);

impl Patterns {
    pub(super) fn of(previous: Option<&Snapshot>) -> Self {
        let tables = previous
            .into_iter()
            .flat_map(|previous| previous.routes.values())
            .flat_map(|routes| routes.producer.iter().chain(routes.consumers.values()));
        let patterns = tables.flat_map(|table| table.entries()).flat_map(|entry| entry.patterns());
        Self(patterns.map(|pattern| (pattern.text().to_owned(), Ok(pattern.clone()))).collect())
    }

    fn compile(&mut self, text: &str) -> Result<Pattern, String> {
        let compiled = match self.0.get(text) {
            Some(compiled) => compiled.clone(),
            None => {
                let compiled = Pattern::compile(text);
                self.0.insert(text.to_owned(), compiled.clone());
                compiled
            }
        };
        compiled.map_err(|error| {
            let shown: String = text.chars().take(60).collect();
            format!("`{shown}` is not a regular expression ({error}); write it in RE2's syntax")
        })
    }

    fn value(&mut self, kind: Option<&str>, value: &str) -> Result<ValueMatch, String> {
        match kind.unwrap_or("Exact") {
            "Exact" => Ok(ValueMatch::Exact(value.into())),
            "RegularExpression" => self.compile(value).map(ValueMatch::Regex),
            other => Err(format!("`{other}` is not known; use `Exact` or `RegularExpression`")),
        }
    }
}

/// All matches of a rule; those that cannot be understood match nothing.
pub(super) fn compile(
    kind: RouteKind,
    matches: &[Match],
    patterns: &mut Patterns,
    faults: &mut Faults<'_>,
) -> Vec<(PathMatch, Arc<Predicate>)> {
    let anything = [Match::default()];
    let matches = if matches.is_empty() { &anything } else { matches };
    let compiled = matches.iter().enumerate().map(|(index, given)| {
        let mut reader = Reader { patterns, faults, at: format!("matches[{index}]"), sound: true };
        let (path, predicate) = reader.one(kind, given);
        (if reader.sound { path } else { PathMatch::Never }, Arc::new(predicate))
    });
    compiled.collect()
}

struct Reader<'rule, 'build> {
    patterns: &'rule mut Patterns,
    faults: &'rule mut Faults<'build>,
    at: String,
    sound: bool,
}

impl Reader<'_, '_> {
    fn one(&mut self, kind: RouteKind, given: &Match) -> (PathMatch, Predicate) {
        let mut predicate = Predicate { grpc: kind == RouteKind::Grpc, ..Predicate::default() };
        for (index, header) in given.headers.iter().enumerate() {
            let field = format!("headers[{index}]");
            let name = header_name(&header.name);
            if let Some(name) = self.check(&field, ".name", name)
                && !predicate.headers.iter().any(|(known, _)| *known == name)
            {
                let value = self.value(&field, header);
                predicate.headers.extend(value.map(|value| (name, value)));
            }
        }
        for (index, query) in given.query_params.iter().enumerate() {
            let known = predicate.queries.iter().any(|(known, _)| **known == *query.name);
            if !known && let Some(value) = self.value(&format!("queryParams[{index}]"), query) {
                predicate.queries.push((query.name.as_str().into(), value));
            }
        }
        let path = match (kind, &given.method) {
            (RouteKind::Http, method) => {
                predicate.method = method.as_ref().and_then(|method| self.method(method));
                self.path(given.path.as_ref())
            }
            (RouteKind::Grpc, method) => self.grpc(given, method.as_ref()),
        };
        (path, predicate)
    }

    fn method(&mut self, given: &MethodValue) -> Option<Method> {
        let method = match given {
            MethodValue::Http(name)
                if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase()) =>
            {
                Method::from_bytes(name.as_bytes()).map_err(|_| name.as_str())
            }
            MethodValue::Http(name) => Err(name.as_str()),
            MethodValue::Grpc(_) => Err("service and method"),
        };
        let method = method.map_err(|name| format!("`{name}` is not a method; write it as `GET`"));
        self.check("method", "", method)
    }

    fn path(&mut self, given: Option<&PathValue>) -> PathMatch {
        let value = given.and_then(|given| given.value.as_deref()).unwrap_or("/");
        let path = match given.and_then(|given| given.kind.as_deref()).unwrap_or("PathPrefix") {
            "Exact" => path(value).map(|()| PathMatch::Exact(value.into())),
            "PathPrefix" => path(value).map(|()| PathMatch::Prefix(value.trim_end_matches('/').into())),
            "RegularExpression" => self.patterns.compile(value).map(PathMatch::Regex),
            other => Err(format!("`{other}` is not known; use `Exact`, `PathPrefix` or `RegularExpression`")),
        };
        self.check("path", "", path).unwrap_or(PathMatch::Never)
    }

    fn grpc(&mut self, given: &Match, method: Option<&MethodValue>) -> PathMatch {
        if given.path.is_some() || !given.query_params.is_empty() {
            let reason =
                "a GRPCRoute matches neither paths nor query parameters; use `method`, or an HTTPRoute";
            self.check::<()>("", "", Err(reason.into()));
        }
        let given = match method {
            None => &GrpcMethod::default(),
            Some(MethodValue::Grpc(given)) => given,
            Some(MethodValue::Http(_)) => {
                let reason = "is a word; a GRPCRoute wants `service` and `method` in it";
                self.check::<()>("method", "", Err(reason.into()));
                return PathMatch::Never;
            }
        };
        let service = self.grpc_part("service", given, given.service.as_deref());
        let method = self.grpc_part("method", given, given.method.as_deref());
        PathMatch::Grpc { service, method }
    }

    fn grpc_part(&mut self, field: &str, given: &GrpcMethod, part: Option<&str>) -> Option<ValueMatch> {
        let part = part.filter(|part| !part.is_empty())?;
        let value = self.patterns.value(given.kind.as_deref(), part).and_then(|value| match &value {
            ValueMatch::Exact(name) if name.contains('/') => {
                Err(format!("`{name}` has a `/`; give service and method apart"))
            }
            _ => Ok(value),
        });
        self.check("method.", field, value)
    }

    fn value(&mut self, field: &str, given: &NamedValue) -> Option<ValueMatch> {
        let value = self.patterns.value(given.kind.as_deref(), &given.value);
        self.check(field, "", value)
    }

    fn check<T>(&mut self, field: &str, below: &str, checked: Result<T, String>) -> Option<T> {
        self.sound &= checked.is_ok();
        let dot = if field.is_empty() { "" } else { "." };
        self.faults.take(&format!("{}{dot}{field}{below}", self.at), checked)
    }
}

/// A header's name in lower case.
pub(super) fn header_name(name: &str) -> Result<HeaderName, String> {
    let shown: String = name.chars().take(60).collect();
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{shown}` is not a name of a header"))
}

/// Whether a path can be compared with what clients send.
pub(super) fn path(value: &str) -> Result<(), String> {
    let shown: String = value.chars().take(60).collect();
    if !value.starts_with('/') {
        return Err(format!("`{shown}` is not a path; start it with `/`"));
    }
    if let Some(part) = NOT_IN_A_PATH.iter().find(|part| value.contains(**part)) {
        return Err(format!("`{shown}` has `{part}`, which no path may have here; leave it out"));
    }
    if value.ends_with("/..") || value.ends_with("/.") {
        return Err(format!("`{shown}` ends in `.` or `..`; leave it out"));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(&byte);
    match value.bytes().all(allowed) {
        true => Ok(()),
        false => Err(format!("`{shown}` has a byte that no path has; escape it as `%20`")),
    }
}
