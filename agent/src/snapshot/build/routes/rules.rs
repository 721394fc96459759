//! A route to its rules. Pure.
//!
//! A rule that is not valid answers 500 for its matches, a backend that is not valid for its share.
//!
//! `retry` (GEP-1731): the codes that a route names are tried again whatever the method, since the owner of the route asks for it;
//! without `codes` the codes and the methods stay those of the defaults. A failure after which the request may have been
//! processed is never tried again for a method that is not idempotent: that is [`crate::resilience`]'s to hold. `attempts: 0` is off.

use std::sync::Arc;

use super::{
    duration, faults::Faults, filters, filters::Compiled, matches, matches::Patterns, references::References,
};
use crate::snapshot::{
    Problem,
    input::routes::{BackendReference, Retry, Route, RouteRule, Timeouts},
    policy::RetryPolicy,
    routes::{
        Action, Backend, RouteName, Rule,
        entry::{Entry, PathMatch},
    },
};

/// Highest weight (`BackendRef.weight`).
const MAX_WEIGHT: i64 = 1_000_000;
/// Highest number of retries; more is a slip.
const MAX_ATTEMPTS: u32 = 20;
/// The backoff grows to so many times its base.
const BACKOFF_GROWTH: u64 = 10;

/// What rules are compiled with.
pub(super) struct Compiler<'build> {
    pub(super) references: References<'build>,
    pub(super) patterns: Patterns,
    pub(super) problems: &'build mut Vec<Problem>,
}

impl Compiler<'_> {
    /// All matches of all rules of a route, its backends as callers over IPv4 or IPv6 reach them.
    pub(super) fn route(&mut self, route: &Route, ipv6: bool) -> Vec<Entry> {
        let absent = [RouteRule::default()];
        let rules = route.spec.rules.as_deref().unwrap_or(&absent);
        rules.iter().enumerate().flat_map(|(index, rule)| self.rule(route, index, rule, ipv6)).collect()
    }

    fn rule(&mut self, route: &Route, index: usize, given: &RouteRule, ipv6: bool) -> Vec<Entry> {
        let mut faults = Faults::new(route, format!("spec.rules[{index}]"), self.problems);
        let matches = matches::compile(route.kind, &given.matches, &mut self.patterns, &mut faults);
        let Compiled { filters, redirect } =
            filters::compile(&given.filters, &self.references, ipv6, &mut faults);
        let replaces = filters::replaces_prefix(&filters, redirect.as_ref())
            || given.backend_refs.iter().any(|backend| filters::asks_for_prefix(&backend.filters));
        if replaces
            && matches.iter().any(|(path, _)| !matches!(path, PathMatch::Prefix(_) | PathMatch::Never))
        {
            let reason = "has a filter with ReplacePrefixMatch, for which all its matches must be of the type PathPrefix";
            faults.add("matches", reason);
        }
        let (request_timeout_ns, backend_timeout_ns) = timeouts(&given.timeouts, &mut faults);
        let retry = given.retry.as_ref().map(|retry| self::retry(retry, &mut faults));
        if redirect.is_some() && !given.backend_refs.is_empty() {
            faults.add(
                "backendRefs",
                "stands beside RequestRedirect, which sends nothing to a backend; leave one out",
            );
        }
        if redirect.is_none() && given.backend_refs.is_empty() {
            faults.note("backendRefs", "is empty, so matching requests are answered 500; name a Service");
        }
        let backends = backends(&given.backend_refs, &self.references, ipv6, &mut faults);
        let action = match (faults.into_first(), redirect) {
            (Some(reason), _) => Action::Invalid(reason),
            (None, Some(redirect)) => Action::Redirect(redirect),
            (None, None) => Action::Forward(backends),
        };
        let name = Arc::new(name(route, index, given));
        let rule = Arc::new(Rule { name, action, filters, request_timeout_ns, backend_timeout_ns, retry });
        let created = route.metadata.created;
        let entry = |(path, predicate)| Entry { path, predicate, rule: rule.clone(), created };
        matches.into_iter().map(entry).collect()
    }
}

fn name(route: &Route, index: usize, given: &RouteRule) -> RouteName {
    RouteName {
        kind: route.kind.as_str(),
        namespace: route.metadata.namespace.clone(),
        name: route.metadata.name.clone(),
        rule: index,
        rule_name: given.name.as_deref().map(Into::into),
    }
}

fn backends(
    given: &[BackendReference],
    references: &References<'_>,
    ipv6: bool,
    faults: &mut Faults<'_>,
) -> Vec<Backend> {
    let backend = |(index, given): (usize, &BackendReference)| {
        let route = faults.route();
        let mut faults = faults.part(&format!("backendRefs[{index}]"));
        let weight = given.weight.unwrap_or(1);
        let checked = u32::try_from(weight).ok().filter(|_| weight <= MAX_WEIGHT);
        let weight = checked.ok_or_else(|| format!("{weight} is not a weight; use 0 to {MAX_WEIGHT}"));
        let weight = faults.take("weight", weight).unwrap_or(1);
        let Compiled { filters, redirect } = filters::compile(&given.filters, references, ipv6, &mut faults);
        if redirect.is_some() {
            faults
                .add("filters", "has a RequestRedirect, which is for whole rules here; move it to the rule");
        }
        let port = references.resolve(route, given, ipv6);
        let port = port.map_err(|(field, reason)| faults.add(field, &reason)).ok();
        let port = match (port, faults.into_first()) {
            (Some(port), None) => Ok(port),
            (_, reason) => Err(reason.unwrap_or_default()),
        };
        Backend { weight, port, filters }
    };
    given.iter().enumerate().map(backend).collect()
}

/// `request` and `backendRequest`; 0 is none.
fn timeouts(given: &Timeouts, faults: &mut Faults<'_>) -> (Option<u64>, Option<u64>) {
    let mut read = |field, text: &Option<String>| {
        let parsed = text.as_deref().map(duration::parse)?;
        faults.take(field, parsed).filter(|time| *time > 0)
    };
    let request = read("timeouts.request", &given.request);
    let backend = read("timeouts.backendRequest", &given.backend_request);
    if let (Some(request), Some(backend)) = (request, backend)
        && backend > request
    {
        let reason = "is longer than timeouts.request, which ends the request before; make it shorter";
        faults.add("timeouts.backendRequest", reason);
    }
    (request, backend)
}

fn retry(given: &Retry, faults: &mut Faults<'_>) -> RetryPolicy {
    let mut policy = RetryPolicy::default();
    for (index, code) in given.codes.iter().flatten().enumerate() {
        if !(400..=599).contains(code) {
            let reason = format!("{code} is not a status that can be tried again; use 400 to 599");
            faults.add(&format!("retry.codes[{index}]"), &reason);
        }
    }
    if let Some(codes) = &given.codes {
        policy.codes = codes.iter().filter_map(|code| u16::try_from(*code).ok()).collect();
        policy.any_method = !policy.codes.is_empty();
    }
    if let Some(attempts) = given.attempts {
        let checked = u32::try_from(attempts).ok().filter(|attempts| *attempts <= MAX_ATTEMPTS);
        let checked = checked.ok_or_else(|| format!("{attempts} is out of bounds; use 0 to {MAX_ATTEMPTS}"));
        policy.attempts = faults.take("retry.attempts", checked).unwrap_or(policy.attempts);
    }
    if let Some(backoff) = given.backoff.as_deref().map(duration::parse)
        && let Some(base) = faults.take("retry.backoff", backoff)
    {
        policy.backoff_ns = base;
        policy.backoff_max_ns = base.saturating_mul(BACKOFF_GROWTH);
    }
    policy
}
