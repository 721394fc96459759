//! What a faulty server has received: every request, by its id (`x-id`). The judge of "never sent twice".

use super::plan::{Plan, Trouble};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Ids and targets beyond this are counted but not named.
const NAMED: usize = 200_000;

/// Counts since the server was started or [`super::Faulty::forget`] was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Seen {
    /// Connections accepted.
    pub connections: u64,
    /// Requests whose head was read whole.
    pub requests: u64,
    /// Requests with which something went wrong, as planned.
    pub troubled: u64,
    /// HTTP/2 streams refused, which are not among the requests.
    pub refused: u64,
    /// Requests at once, the most.
    pub running_most: u64,
    /// By method.
    pub methods: BTreeMap<String, u64>,
    /// By target as it was written.
    pub targets: BTreeMap<String, u64>,
    /// Requests whose client went away while their answer was delayed (HTTP/1.1).
    pub abandoned: u64,
    /// Requests that another server might read otherwise: two framings, odd line ends.
    pub ambiguous: u64,
    /// How often each id came.
    pub ids: BTreeMap<String, u64>,
}

impl Seen {
    /// Ids that came more than once.
    #[must_use]
    pub fn repeated(&self) -> Vec<(&str, u64)> {
        self.ids.iter().filter(|(_, times)| **times > 1).map(|(id, times)| (id.as_str(), *times)).collect()
    }
}

/// A server's plan and counts, shared by its connections.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger(Arc<Mutex<Inside>>);

#[derive(Debug, Default)]
struct Inside {
    plan: Plan,
    seen: Seen,
    running: u64,
    by_method: BTreeMap<String, u64>,
}

/// One request under way; it ends on drop.
#[derive(Debug)]
pub(super) struct Running {
    ledger: Ledger,
    pub(super) plan: Plan,
    pub(super) trouble: Trouble,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn plan(&self) -> Plan {
        self.lock().plan.clone()
    }

    pub(super) fn set_plan(&self, plan: Plan) {
        let mut inside = self.lock();
        inside.plan = plan;
        inside.by_method.clear();
    }

    pub(super) fn seen(&self) -> Seen {
        self.lock().seen.clone()
    }

    pub(super) fn forget(&self) {
        self.lock().seen = Seen::default();
    }

    pub(super) fn connected(&self) {
        self.lock().seen.connections += 1;
    }

    pub(super) fn abandoned(&self) {
        self.lock().seen.abandoned += 1;
    }

    pub(super) fn ambiguous(&self) {
        self.lock().seen.ambiguous += 1;
    }

    /// Counts a request and decides what goes wrong with it.
    pub(super) fn admit(&self, method: &str, target: &str, id: Option<&str>, http2: bool) -> Running {
        let mut inside = self.lock();
        let number = inside.by_method.entry(method.to_owned()).or_default();
        *number += 1;
        let number = *number;
        let trouble = inside.plan.trouble(method, number);
        inside.running += 1;
        let running = inside.running;
        let plan = inside.plan.clone();
        let seen = &mut inside.seen;
        if http2 && trouble == Trouble::RefusedStream {
            seen.refused += 1;
        } else {
            seen.requests += 1;
            seen.troubled += u64::from(trouble != Trouble::None);
            seen.running_most = seen.running_most.max(running);
            *seen.methods.entry(method.to_owned()).or_default() += 1;
            name(&mut seen.targets, target);
            if let Some(id) = id {
                name(&mut seen.ids, id);
            }
        }
        Running { ledger: self.clone(), plan, trouble }
    }
}

fn name(counts: &mut BTreeMap<String, u64>, what: &str) {
    if counts.len() < NAMED || counts.contains_key(what) {
        *counts.entry(what.to_owned()).or_default() += 1;
    }
}

impl Running {
    /// The client did not wait for the answer.
    pub(super) fn abandoned(&self) {
        self.ledger.abandoned();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.ledger.lock().running -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_comes_twice_is_found() {
        let ledger = Ledger::default();
        let first = ledger.admit("POST", "/", Some("one"), false);
        drop(ledger.admit("POST", "/", Some("two"), false));
        drop(first);
        drop(ledger.admit("GET", "/x", Some("one"), false));
        let seen = ledger.seen();
        assert_eq!(seen.repeated(), [("one", 2)]);
        assert_eq!((seen.requests, seen.running_most, seen.methods["POST"]), (3, 2, 2));
        ledger.set_plan(Plan::always(Trouble::RefusedStream));
        assert_eq!(ledger.admit("POST", "/", Some("three"), true).trouble, Trouble::RefusedStream);
        assert_eq!((ledger.seen().requests, ledger.seen().refused), (3, 1));
        ledger.set_plan(Plan::always(Trouble::Status));
        drop(ledger.admit("GET", "/", None, false));
        assert_eq!((ledger.seen().requests, ledger.seen().troubled), (4, 1));
    }
}
