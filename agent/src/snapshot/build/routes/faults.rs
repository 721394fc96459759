//! Collects what is wrong with a rule or a backend: the first reason is what its requests are answered 500 for. Pure.

use crate::snapshot::{Problem, input::routes::Route};

/// Faults of one part of a route.
pub(super) struct Faults<'build> {
    route: &'build Route,
    /// Path of the part, as `spec.rules[0]`.
    at: String,
    problems: &'build mut Vec<Problem>,
    first: Option<String>,
}

impl<'build> Faults<'build> {
    pub(super) fn new(route: &'build Route, at: String, problems: &'build mut Vec<Problem>) -> Self {
        Self { route, at, problems, first: None }
    }

    /// Something that spoils the part. `field` is below the part; empty for the part itself.
    pub(super) fn add(&mut self, field: &str, reason: &str) {
        self.note(field, reason);
        let field = if field.is_empty() { "" } else { field };
        self.first.get_or_insert_with(|| format!("{field} {reason}").trim_start().to_owned());
    }

    /// Something that is wrong, but does not spoil the part.
    pub(super) fn note(&mut self, field: &str, reason: &str) {
        let dot = if field.is_empty() || field.starts_with('[') { "" } else { "." };
        let field = format!("{}{dot}{field}", self.at);
        self.problems.push(Problem::of(&self.route.metadata, self.route.kind.as_str(), field, reason));
    }

    /// The value, or a fault of the field.
    pub(super) fn take<T>(&mut self, field: &str, checked: Result<T, String>) -> Option<T> {
        checked.map_err(|reason| self.add(field, &reason)).ok()
    }

    /// A part of the part, whose faults are its own.
    pub(super) fn part(&mut self, field: &str) -> Faults<'_> {
        Faults::new(self.route, format!("{}.{field}", self.at), self.problems)
    }

    /// The first reason, once all is read.
    pub(super) fn into_first(self) -> Option<String> {
        self.first
    }

    pub(super) fn route(&self) -> &'build Route {
        self.route
    }
}
