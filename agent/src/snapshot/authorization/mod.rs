//! Who may call a pod: the policies that apply to it, compiled, and the decision. Pure.
//!
//! ```text
//! decide    deny before allow; an allow that applies denies the rest; the most restrictive reading of a path counts
//! asked     a request, in every way in which a server may read it
//! matcher   texts, ports, address blocks, path templates
//! path      the ways in which a server may read a path
//! ```
//!
//! A decision is three-valued as long as the request is not known: [`Decision::Undecided`] asks whoever reads HTTP for it, and is
//! [`Decision::without_http`] where nobody can.

mod asked;
pub mod decide;
pub mod matcher;
pub mod path;

use std::sync::Arc;

use http::HeaderName;

pub use asked::Asked;
pub use decide::{By, Decision, Facts, Request, Verdict};
use matcher::{Block, PathPattern, Pattern};

/// The policies of one pod, the ones of others left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authorization {
    /// Where one matches, nobody is let in.
    pub deny: Vec<Arc<Policy>>,
    /// Where one applies, only what one matches is let in.
    pub allow: Vec<Arc<Policy>>,
    /// Only said, never enforced.
    pub dry_run: Vec<(Effect, Arc<Policy>)>,
    /// The namespace lets in nobody whom no policy allows.
    pub default_deny: bool,
}

/// What a policy does with what it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Effect {
    /// Lets it in.
    Allow,
    /// Keeps it out.
    Deny,
}

/// A policy as it applies to a pod.
#[derive(Debug, PartialEq, Eq)]
pub struct Policy {
    /// `namespace/name`.
    pub name: Arc<str>,
    /// Ports of the pod to which it applies, sorted; none is all.
    pub ports: Option<Vec<u16>>,
    /// It matches what one of them matches. Shared by the pods that it concerns.
    pub rules: Arc<Vec<Rule>>,
}

/// One rule.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// One of them; none means anybody.
    pub from: Vec<Source>,
    /// One of them; none means anything.
    pub to: Vec<Operation>,
    /// All of them.
    pub when: Vec<Condition>,
}

/// One of these values, and none of those. Empty lists say nothing.
#[derive(Debug, PartialEq, Eq)]
pub struct Choice<P> {
    /// One of them.
    pub any: Vec<P>,
    /// None of them.
    pub none: Vec<P>,
}

impl<P> Default for Choice<P> {
    fn default() -> Self {
        Self { any: Vec::new(), none: Vec::new() }
    }
}

/// Who calls.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// Identity without `spiffe://`.
    pub principals: Choice<Pattern>,
    /// Namespace of the identity.
    pub namespaces: Choice<Pattern>,
    /// Namespace and name of the service account.
    pub service_accounts: Choice<(Arc<str>, Arc<str>)>,
    /// Address of the caller.
    pub blocks: Choice<Block>,
    /// A value of it could not be read: it matches as [`Effect`] makes safe.
    pub broken: bool,
}

/// What is called.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Operation {
    /// Port of the pod.
    pub ports: Choice<u16>,
    /// Host.
    pub hosts: Choice<Pattern>,
    /// Method.
    pub methods: Choice<Pattern>,
    /// Path.
    pub paths: Choice<PathPattern>,
    /// See [`Source::broken`].
    pub broken: bool,
}

/// A further condition.
#[derive(Debug, PartialEq, Eq)]
pub enum Condition {
    /// A header; of several of the same name one must match (and none of those that must not).
    Header(HeaderName, Choice<Pattern>),
    /// What is known of the source.
    Source(Source),
    /// Port of the pod.
    Port(Choice<u16>),
    /// It could not be read.
    Broken,
}

impl Policy {
    /// Whether it applies to a port of the pod.
    #[must_use]
    pub fn applies_to(&self, port: u16) -> bool {
        self.ports.as_ref().is_none_or(|ports| ports.binary_search(&port).is_ok())
    }
}

impl Rule {
    fn of_header(&self) -> bool {
        self.when.iter().any(|condition| matches!(condition, Condition::Header(..)))
    }

    /// Whether something of HTTP is asked for on a port that the rule may match.
    #[must_use]
    pub fn asks_http_of(&self, port: u16) -> bool {
        let meant = |operation: &Operation| operation.ports.holds(Some(&port), |one, port| one == port);
        let asking = self.to.iter().any(|operation| meant(operation) && operation.reads_http());
        asking || (self.of_header() && (self.to.is_empty() || self.to.iter().any(meant)))
    }
}

impl Operation {
    /// Whether it asks for something of HTTP.
    #[must_use]
    pub fn reads_http(&self) -> bool {
        !(self.hosts.is_empty() && self.methods.is_empty() && self.paths.is_empty())
    }
}

impl<P> Choice<P> {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.any.is_empty() && self.none.is_empty()
    }

    /// Whether a value, where there is one, is one of these and none of those. What is absent is none of anything.
    pub fn holds<V: ?Sized>(&self, value: Option<&V>, matches: impl Fn(&P, &V) -> bool) -> bool {
        let one_of =
            |patterns: &[P]| value.is_some_and(|value| patterns.iter().any(|one| matches(one, value)));
        (self.any.is_empty() || one_of(&self.any)) && !one_of(&self.none)
    }
}

impl Authorization {
    /// Whether a policy asks for something of HTTP.
    #[must_use]
    pub fn reads_http(&self) -> bool {
        let trials = self.dry_run.iter().map(|(_, policy)| policy);
        let mut rules = self.deny.iter().chain(&self.allow).chain(trials).flat_map(|policy| &*policy.rules);
        rules.any(|rule| rule.of_header() || rule.to.iter().any(Operation::reads_http))
    }

    /// Whether nobody is ever kept out, so that nothing need be decided.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.deny.is_empty() && self.allow.is_empty() && self.dry_run.is_empty() && !self.default_deny
    }
}
