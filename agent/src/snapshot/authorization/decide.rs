//! Decides on a connection, or on one reading of a request, by the policies of a pod. Pure.

use std::{net::IpAddr, sync::Arc};

use http::HeaderMap;

use super::{Authorization, Choice, Condition, Effect, Operation, Policy, Rule, Source, matcher::Pattern};
use crate::snapshot::SpiffeId;

/// What is known of a connection before anything of it was read.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Who the caller proved to be; none in plain text.
    pub identity: Option<&'a SpiffeId>,
    /// The caller's address.
    pub address: IpAddr,
    /// Port of the pod that is called.
    pub port: u16,
}

/// One reading of a request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// As it was sent.
    pub method: &'a str,
    /// `Host` or `:authority`, in lower case, without a dot at its end.
    pub host: &'a str,
    /// One of [`super::path::readings`].
    pub path: &'a str,
    /// All headers.
    pub headers: &'a HeaderMap,
}

/// What is to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Settled.
    Settled(Verdict),
    /// It depends on the request; were there none to be read, it would be this.
    Undecided(Verdict),
}

/// In or out, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is let in.
    pub effect: Effect,
    /// The policy that said so, with the place of its rule.
    pub by: By,
}

/// What a verdict rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// A rule of a policy, counted from 0.
    Rule(Arc<Policy>, usize),
    /// Policies allow some, and not this.
    NoneAllows,
    /// The namespace denies by default.
    DefaultDeny,
    /// No policy applies.
    NoPolicy,
}

/// Three-valued: what is not known yet may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Truth {
    No,
    Maybe,
    Yes,
}

impl Truth {
    fn of(known: bool) -> Self {
        if known { Self::Yes } else { Self::No }
    }
}

impl Decision {
    /// What holds whatever the request is, where that is known.
    #[must_use]
    pub fn settled(self) -> Option<Verdict> {
        match self {
            Self::Settled(verdict) => Some(verdict),
            Self::Undecided(_) => None,
        }
    }

    /// What holds where no request can be read: conditions of HTTP do not match an `ALLOW` and do match a `DENY`.
    #[must_use]
    pub fn without_http(self) -> Verdict {
        match self {
            Self::Settled(verdict) | Self::Undecided(verdict) => verdict,
        }
    }
}

impl Verdict {
    /// Whether it is let in.
    #[must_use]
    pub fn allows(&self) -> bool {
        self.effect == Effect::Allow
    }

    /// The same in the words of Istio: `rbac_access_denied_matched_policy[ns[shop]-policy[name]-rule[0]]`, or `[none]`.
    #[must_use]
    pub fn details(&self) -> String {
        const DENIED: &str = "rbac_access_denied_matched_policy";
        match &self.by {
            By::Rule(policy, rule) => {
                let (namespace, name) = policy.name.split_once('/').unwrap_or_default();
                format!("{DENIED}[ns[{namespace}]-policy[{name}]-rule[{rule}]]")
            }
            By::NoneAllows | By::DefaultDeny | By::NoPolicy => format!("{DENIED}[none]"),
        }
    }

    /// `namespace/name rule N`, or what else it rests on.
    #[must_use]
    pub fn reason(&self) -> String {
        match &self.by {
            By::Rule(policy, rule) => format!("AuthorizationPolicy {} rules[{rule}]", policy.name),
            By::NoneAllows => "no AuthorizationPolicy allows it".to_owned(),
            By::DefaultDeny => "the namespace denies what no AuthorizationPolicy allows".to_owned(),
            By::NoPolicy => "no AuthorizationPolicy applies".to_owned(),
        }
    }
}

impl Authorization {
    /// Decides on a connection (`request` is none) or on one reading of a request.
    #[must_use]
    pub fn decide(&self, facts: &Facts<'_>, request: Option<&Request<'_>>) -> Decision {
        let (mut open, mut applies) = (None, self.default_deny);
        for policy in self.deny.iter().filter(|policy| policy.applies_to(facts.port)) {
            match policy.matches(Effect::Deny, facts, request) {
                (Truth::Yes, rule) => return Decision::Settled(denied(policy, rule)),
                (Truth::Maybe, rule) => open = open.or(Some(denied(policy, rule))),
                (Truth::No, _) => {}
            }
        }
        let (mut allowed, mut may_be_allowed) = (None, false);
        for policy in self.allow.iter().filter(|policy| policy.applies_to(facts.port)) {
            applies = true;
            match policy.matches(Effect::Allow, facts, request) {
                (Truth::Yes, rule) => {
                    allowed = Some(Verdict { effect: Effect::Allow, by: By::Rule(Arc::clone(policy), rule) });
                    break;
                }
                (Truth::Maybe, _) => may_be_allowed = true,
                (Truth::No, _) => {}
            }
        }
        let verdict = match allowed {
            Some(allowed) => allowed,
            None if !applies => Verdict { effect: Effect::Allow, by: By::NoPolicy },
            None if self.allow.iter().any(|policy| policy.applies_to(facts.port)) => {
                Verdict { effect: Effect::Deny, by: By::NoneAllows }
            }
            None => Verdict { effect: Effect::Deny, by: By::DefaultDeny },
        };
        match (verdict.allows(), open, may_be_allowed) {
            (true, None, _) | (false, _, false) => Decision::Settled(verdict),
            (true, Some(denied), _) => Decision::Undecided(denied),
            (false, _, true) => Decision::Undecided(verdict),
        }
    }

    /// Whether a policy under trial needs the request to say what it would do.
    pub(super) fn tries_requests(&self, facts: &Facts<'_>) -> bool {
        let mut applying = self.dry_run.iter().filter(|(_, policy)| policy.applies_to(facts.port));
        applying.any(|(effect, policy)| policy.matches(*effect, facts, None).0 == Truth::Maybe)
    }

    /// Which of the policies under trial would have kept it out, and why. Without a request they fail closed like others.
    #[must_use]
    pub fn trials(&self, facts: &Facts<'_>, request: Option<&Request<'_>>) -> Vec<(Arc<Policy>, Verdict)> {
        let applying = self.dry_run.iter().filter(|(_, policy)| policy.applies_to(facts.port));
        let would_deny = applying.filter_map(|(effect, policy)| {
            let (truth, rule) = policy.matches(*effect, facts, request);
            match (effect, truth) {
                (Effect::Deny, Truth::Yes | Truth::Maybe) => Some((Arc::clone(policy), denied(policy, rule))),
                (Effect::Allow, Truth::No | Truth::Maybe) => {
                    Some((Arc::clone(policy), Verdict { effect: Effect::Deny, by: By::NoneAllows }))
                }
                _ => None,
            }
        });
        would_deny.collect()
    }
}

fn denied(policy: &Arc<Policy>, rule: usize) -> Verdict {
    Verdict { effect: Effect::Deny, by: By::Rule(Arc::clone(policy), rule) }
}

impl Policy {
    /// The truest of its rules, and its place.
    fn matches(&self, effect: Effect, facts: &Facts<'_>, request: Option<&Request<'_>>) -> (Truth, usize) {
        let mut best = (Truth::No, 0);
        for (place, rule) in self.rules.iter().enumerate() {
            let truth = rule.matches(effect, facts, request);
            if truth > best.0 {
                best = (truth, place);
            }
            if truth == Truth::Yes {
                break;
            }
        }
        best
    }
}

impl Rule {
    fn matches(&self, effect: Effect, facts: &Facts<'_>, request: Option<&Request<'_>>) -> Truth {
        let from = one_of(&self.from, |source| Truth::of(source.matches(effect, facts)));
        if from == Truth::No {
            return Truth::No;
        }
        let to = one_of(&self.to, |operation| operation.matches(effect, facts, request));
        let when = self.when.iter().map(|condition| condition.matches(effect, facts, request));
        from.min(to).min(when.min().unwrap_or(Truth::Yes))
    }
}

/// One of them; where there are none, anything will do.
fn one_of<T>(of: &[T], matches: impl Fn(&T) -> Truth) -> Truth {
    of.iter().map(matches).max().unwrap_or(Truth::Yes)
}

/// A part that could not be read never lets in and always keeps out.
fn unreadable(effect: Effect) -> bool {
    effect == Effect::Deny
}

impl Source {
    fn matches(&self, effect: Effect, facts: &Facts<'_>) -> bool {
        if self.broken {
            return unreadable(effect);
        }
        let identity = facts.identity;
        let principal = identity.map(|identity| identity.as_str().trim_start_matches("spiffe://"));
        let namespace = identity.map(SpiffeId::namespace);
        let account = |account: &(Arc<str>, Arc<str>), identity: &SpiffeId| {
            *account.0 == *identity.namespace() && *account.1 == *identity.service_account()
        };
        self.principals.holds(principal, Pattern::matches)
            && self.namespaces.holds(namespace, Pattern::matches)
            && self.service_accounts.holds(identity, account)
            && self.blocks.holds(Some(&facts.address), |block, address| block.contains(*address))
    }
}

impl Operation {
    fn matches(&self, effect: Effect, facts: &Facts<'_>, request: Option<&Request<'_>>) -> Truth {
        if self.broken {
            return Truth::of(unreadable(effect));
        }
        if !holds_port(&self.ports, facts.port) {
            return Truth::No;
        }
        if !self.reads_http() {
            return Truth::Yes;
        }
        let Some(request) = request else { return Truth::Maybe };
        Truth::of(
            self.methods.holds(Some(request.method), Pattern::matches)
                && self.hosts.holds(Some(request.host), host_matches)
                && self.paths.holds(Some(request.path), |pattern, path| pattern.matches(path)),
        )
    }
}

fn holds_port(ports: &Choice<u16>, port: u16) -> bool {
    ports.holds(Some(&port), |one, port| one == port)
}

/// A pattern without a port stands for every port.
fn host_matches(pattern: &Pattern, host: &str) -> bool {
    pattern.matches(host) || host_without_port(host).is_some_and(|bare| pattern.matches(bare))
}

fn host_without_port(host: &str) -> Option<&str> {
    let (bare, port) = host.rsplit_once(':')?;
    (!port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())).then_some(bare)
}

impl Condition {
    fn matches(&self, effect: Effect, facts: &Facts<'_>, request: Option<&Request<'_>>) -> Truth {
        match self {
            Self::Broken => Truth::of(unreadable(effect)),
            Self::Source(source) => Truth::of(source.matches(effect, facts)),
            Self::Port(ports) => Truth::of(holds_port(ports, facts.port)),
            Self::Header(name, choice) => {
                let Some(request) = request else { return Truth::Maybe };
                let values: Vec<&str> =
                    request.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
                // A value that is not text is there all the same.
                let unread = request.headers.get_all(name).iter().count() > values.len();
                let one_of = |patterns: &[Pattern]| {
                    values.iter().any(|value| patterns.iter().any(|pattern| pattern.matches(value)))
                };
                let wanted = choice.any.is_empty() || one_of(&choice.any) || (unread && unreadable(effect));
                let unwanted =
                    one_of(&choice.none) || (unread && !unreadable(effect) && !choice.none.is_empty());
                Truth::of(wanted && !unwanted)
            }
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
