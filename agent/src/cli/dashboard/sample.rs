//! What one agent said, and what came of it in the last seconds. Pure.

use crate::{
    cli::{
        graph::{Edge, Graph},
        top,
    },
    observe::views::{ConnectionsView, CoverageView, ServiceView, StatusView, TopView},
};
use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

/// What rates are about: long enough that a request a second is seen, short enough that a failure is.
const WINDOW: Duration = Duration::from_secs(10);

/// Answers of one agent to questions that were asked right after each other.
#[derive(Debug, Default)]
pub(super) struct Sample {
    pub(super) status: StatusView,
    pub(super) graph: Graph,
    pub(super) top: Vec<TopView>,
    pub(super) services: Vec<ServiceView>,
    pub(super) connections: ConnectionsView,
    pub(super) coverage: CoverageView,
}

/// Counts at a time, since the agent started.
#[derive(Debug)]
struct Counts {
    at: Instant,
    edges: HashMap<(String, String), Edge>,
    top: HashMap<(String, String, u16), TopView>,
}

/// What was added in some seconds.
#[derive(Debug, Default)]
pub(super) struct Added {
    pub(super) seconds: f64,
    pub(super) edges: Vec<Edge>,
    pub(super) top: Vec<TopView>,
}

/// One agent as far as it answered. A failure leaves what was good.
#[derive(Debug, Default)]
pub(super) struct Watched {
    counts: VecDeque<Counts>,
    last: Option<(Instant, Sample)>,
    error: Option<String>,
}

impl Watched {
    pub(super) fn take(&mut self, at: Instant, sample: Sample) {
        self.error = None;
        let is_old = |counts: &Counts| at.duration_since(counts.at) > WINDOW;
        // One that is just too old still tells of the whole window; after a pause it would tell of the pause.
        while self.counts.get(1).is_some_and(is_old) {
            self.counts.pop_front();
        }
        if self.counts.back().is_some_and(is_old) {
            self.counts.clear();
        }
        let edges = sample.graph.edges.iter();
        self.counts.push_back(Counts {
            at,
            edges: edges.map(|edge| ((edge.from.clone(), edge.to.clone()), edge.clone())).collect(),
            top: sample.top.iter().map(|one| (key(one), one.clone())).collect(),
        });
        self.last = Some((at, sample));
    }

    pub(super) fn fail(&mut self, error: String) {
        self.error = Some(error);
    }

    /// The last good answers and when they came.
    pub(super) fn last(&self) -> Option<&(Instant, Sample)> {
        self.last.as_ref()
    }

    /// Why the last question failed.
    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// What was added up to the last good answers; none before there were two.
    pub(super) fn added(&self) -> Option<Added> {
        let (before, now) = (self.counts.front()?, self.counts.back()?);
        let seconds = now.at.duration_since(before.at).as_secs_f64();
        if seconds <= 0.0 {
            return None;
        }
        let (nothing, no_edge) = (TopView::default(), Edge::default());
        let top = now.top.iter().map(|(key, one)| top::added(before.top.get(key).unwrap_or(&nothing), one));
        let edges =
            now.edges.iter().map(|(ends, edge)| edge.added_to(before.edges.get(ends).unwrap_or(&no_edge)));
        Some(Added { seconds, edges: edges.collect(), top: top.collect() })
    }
}

fn key(one: &TopView) -> (String, String, u16) {
    (one.namespace.clone(), one.service.clone(), one.port)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    pub(super) fn sample(requests: u64) -> Sample {
        #[allow(clippy::cast_precision_loss, reason = "small")]
        let edge = Edge {
            from: "shop/cart".to_owned(),
            to: "shop/web".to_owned(),
            requests: requests as f64,
            ..Edge::default()
        };
        let top = TopView { service: "web".to_owned(), requests, ..TopView::default() };
        Sample { graph: Graph { nodes: Vec::new(), edges: vec![edge] }, top: vec![top], ..Sample::default() }
    }

    #[test]
    fn rates_are_of_the_window_and_not_of_a_pause() {
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        let mut watched = Watched::default();
        assert!(watched.added().is_none());
        watched.take(begin, sample(100));
        assert!(watched.added().is_none());
        for (seconds, requests, over, added) in [
            (2, 110, 2.0, 10),
            (8, 120, 8.0, 20),
            // The first is too old now, but without it the window would not be full.
            (11, 150, 11.0, 50),
            (14, 160, 12.0, 50),
            // It was started again.
            (15, 7, 13.0, 7),
        ] {
            watched.take(after(seconds), sample(requests));
            let found = watched.added().unwrap();
            assert_eq!((found.seconds, found.top[0].requests), (over, added), "{seconds}");
        }
        watched.take(after(60), sample(10_000));
        assert!(watched.added().is_none(), "nobody looked for a minute");
        watched.take(after(62), sample(10_004));
        let found = watched.added().unwrap();
        assert_eq!((found.seconds, found.edges[0].requests), (2.0, 4.0));
    }

    #[test]
    fn a_failure_leaves_what_was_good() {
        let mut watched = Watched::default();
        watched.take(Instant::now(), sample(1));
        watched.fail("no agent".to_owned());
        assert_eq!((watched.error(), watched.last().unwrap().1.top[0].requests), (Some("no agent"), 1));
        watched.take(Instant::now(), sample(2));
        assert_eq!((watched.error(), watched.last().unwrap().1.top[0].requests), (None, 2));
    }
}
