//! Requests by service port since the start, from which `posthaste top` reads rates. Pure.

use super::{Requests, tally::ServiceTally};
use crate::observe::views::TopView;
use std::sync::atomic::Ordering::Relaxed;

impl Requests {
    /// All service ports that had requests, by namespace and name.
    pub(crate) fn top(&self) -> Vec<TopView> {
        let mut all: Vec<TopView> = self.0.books.services().iter().map(|tally| view(tally)).collect();
        all.sort_by(|a, b| (&a.namespace, &a.service, a.port).cmp(&(&b.namespace, &b.service, b.port)));
        all
    }
}

fn view(tally: &ServiceTally) -> TopView {
    TopView {
        namespace: tally.name.namespace.to_string(),
        service: tally.name.name.to_string(),
        port: tally.port,
        requests: tally.requests.load(Relaxed),
        failures: tally.failures.load(Relaxed),
        retries: tally.retries.load(Relaxed),
        hedges: tally.hedges.load(Relaxed),
        budget_refused: tally.budget_refused.load(Relaxed),
        overflow: tally.overflow.all().into_iter().map(|(_, count)| count).sum(),
        latencies: tally.latencies.counts(),
    }
}
