//! What policies kept out, or would have: counted by policy, and the ports that turned out not to be HTTP where a policy asks for it.
//! Rare events of a few policies: one lock for all workers will do.

use super::views::ProblemView;
use crate::snapshot::{
    Workload,
    authorization::{By, Verdict},
    input::authorization::KIND,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

/// So long such a port is shown, nanoseconds.
const SHOWN_NS: u64 = 600 * 1_000_000_000;
/// Ports that are kept.
const MOST: usize = 1000;

/// What was denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Denied {
    /// All of a connection.
    Connection,
    /// One request of it.
    Request,
}

impl Denied {
    /// The word for metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Request => "request",
        }
    }
}

/// `namespace/name` of the policy, empty where none allows; what; whether on trial only.
type Key = (Arc<str>, Denied, bool);

/// See the head of this file.
#[derive(Debug, Default)]
pub(crate) struct Denials(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    counts: BTreeMap<Key, u64>,
    /// Policy, pod (`namespace/name`) and port, and when that was last seen.
    not_http: BTreeMap<(Arc<str>, String, u16), u64>,
}

impl Denials {
    pub(crate) fn count(&self, policy: &Arc<str>, what: Denied, trial: bool) {
        *super::locked(&self.0).counts.entry((policy.clone(), what, trial)).or_default() += 1;
    }

    pub(crate) fn not_http(&self, pod: &Workload, port: u16, verdict: &Verdict, now_ns: u64) {
        let pod = format!("{}/{}", pod.namespace, pod.name);
        let mut inner = super::locked(&self.0);
        inner.not_http.retain(|_, seen| now_ns.saturating_sub(*seen) < SHOWN_NS);
        if inner.not_http.len() < MOST {
            inner.not_http.insert((policy_of(verdict), pod, port), now_ns);
        }
    }

    /// All counters: policy, what, whether on trial.
    pub(crate) fn counts(&self) -> Vec<(Key, u64)> {
        super::locked(&self.0).counts.iter().map(|(key, count)| (key.clone(), *count)).collect()
    }

    /// What people shall know of.
    pub(crate) fn problems(&self, now_ns: u64) -> Vec<ProblemView> {
        let inner = super::locked(&self.0);
        let recent = inner.not_http.iter().filter(|(_, seen)| now_ns.saturating_sub(**seen) < SHOWN_NS);
        let shown = recent.map(|((policy, pod, port), _)| {
            let object = if policy.is_empty() { format!("Pod/{pod}") } else { format!("{KIND}/{policy}") };
            let reason = format!(
                "asks for something of HTTP, but a connection to port {port} of pod {pod} is not HTTP, and was denied; name other ports, or other conditions"
            );
            ProblemView { origin: "traffic".to_owned(), object, field: String::new(), reason }
        });
        shown.collect()
    }
}

/// `namespace/name`; empty where no single policy decided.
pub(crate) fn policy_of(verdict: &Verdict) -> Arc<str> {
    match &verdict.by {
        By::Rule(policy, _) => policy.name.clone(),
        By::NoneAllows | By::DefaultDeny | By::NoPolicy => "".into(),
    }
}

/// What a policy under trial says.
#[must_use]
pub fn would_deny(policy: &str) -> String {
    format!("AuthorizationPolicy {policy} (dry run) would deny")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
    use super::*;
    use crate::snapshot::authorization::{Effect, Policy};

    #[test]
    fn counts_by_policy_and_forgets_ports_in_time() {
        let denials = Denials::default();
        let name: Arc<str> = "shop/a".into();
        denials.count(&name, Denied::Request, false);
        denials.count(&name, Denied::Request, false);
        denials.count(&name, Denied::Request, true);
        let counts: Vec<u64> = denials.counts().into_iter().map(|(_, count)| count).collect();
        assert_eq!(counts, [2, 1]);
        let policy = Policy { name, ports: None, rules: Arc::default() };
        let verdict = Verdict { effect: Effect::Deny, by: By::Rule(policy.into(), 0) };
        denials.not_http(&crate::observe::tests::pod("web", "web"), 5432, &verdict, 1);
        assert_eq!(denials.problems(2)[0].object, "AuthorizationPolicy/shop/a");
        assert!(denials.problems(2)[0].reason.contains("port 5432"));
        assert!(denials.problems(1 + SHOWN_NS).is_empty());
    }
}
