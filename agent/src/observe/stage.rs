//! When a connection reached which stage. Pure.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::json;
use serde::{Deserialize, Serialize};

/// A stage of the data path, in the order in which they mostly come. Of a connection with requests those of its first one count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its own task looks at it, which waits its turn behind others of the pod: until here it stood in the agent's queue.
    Taken,
    /// It is known where to.
    Routed,
    /// A socket of its own is connected: to the endpoint, to the peer's agent for a new tunnel, or to the local application.
    Dialled,
    /// The handshake of a new tunnel is done.
    Tls,
    /// The peer's agent has answered its CONNECT, so the called application has accepted.
    Tunnel,
    /// The first byte from the client.
    Request,
    /// The first byte from the server.
    Answer,
}

/// How many there are.
const COUNT: usize = 7;

/// The stages of one connection: microseconds from its arrival, at least 1; 0 for those that have not come.
#[derive(Debug, Default)]
pub(crate) struct Stages([AtomicU32; COUNT]);

impl Stages {
    /// Whether the stage has come.
    pub(crate) fn has(&self, stage: Stage) -> bool {
        self.cell(stage).is_some_and(|cell| cell.load(Relaxed) != 0)
    }

    /// Notes a stage; only the first time counts.
    pub(crate) fn reach(&self, stage: Stage, after_ns: u64) {
        if let Some(cell) = self.cell(stage).filter(|cell| cell.load(Relaxed) == 0) {
            cell.store(u32::try_from(after_ns / 1000).unwrap_or(u32::MAX).max(1), Relaxed);
        }
    }

    fn cell(&self, stage: Stage) -> Option<&AtomicU32> {
        self.0.get(stage as usize)
    }

    /// For people.
    pub(crate) fn view(&self) -> StagesView {
        let of = |stage| self.cell(stage).map(|cell| cell.load(Relaxed)).filter(|us| *us != 0).map(u64::from);
        StagesView {
            taken_us: of(Stage::Taken),
            routed_us: of(Stage::Routed),
            dialled_us: of(Stage::Dialled),
            tls_us: of(Stage::Tls),
            tunnel_us: of(Stage::Tunnel),
            request_us: of(Stage::Request),
            answer_us: of(Stage::Answer),
        }
    }
}

/// When each stage was reached, microseconds after the agent accepted the connection; absent where it did not come. `dialled` and `tls`
/// are absent too where a tunnel stood already, or another connection was making it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagesView {
    /// See [`Stage::Taken`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taken_us: Option<u64>,
    /// See [`Stage::Routed`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routed_us: Option<u64>,
    /// See [`Stage::Dialled`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dialled_us: Option<u64>,
    /// See [`Stage::Tls`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_us: Option<u64>,
    /// See [`Stage::Tunnel`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tunnel_us: Option<u64>,
    /// See [`Stage::Request`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_us: Option<u64>,
    /// See [`Stage::Answer`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_us: Option<u64>,
}

impl StagesView {
    /// Appends `,"name":{...}` with the fields by their names here.
    pub(super) fn write_field(&self, out: &mut Vec<u8>, name: &str) {
        let fields = [
            ("taken_us", self.taken_us),
            ("routed_us", self.routed_us),
            ("dialled_us", self.dialled_us),
            ("tls_us", self.tls_us),
            ("tunnel_us", self.tunnel_us),
            ("request_us", self.request_us),
            ("answer_us", self.answer_us),
        ];
        json::object_field(out, name, |out| {
            for (name, after_us) in fields {
                after_us.into_iter().for_each(|us| json::number_field(out, name, us));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    /// The lines are read back by the serialiser's names.
    #[test]
    fn what_is_written_reads_back() {
        for (count, stages) in
            [(0, StagesView::default()), (1, StagesView { tls_us: Some(3), ..StagesView::default() })]
        {
            let mut line = b"{\"a\":1".to_vec();
            stages.write_field(&mut line, "stages");
            line.push(b'}');
            let read: serde_json::Value = serde_json::from_slice(&line).unwrap();
            assert_eq!(read.get("stages").unwrap().as_object().unwrap().len(), count);
            assert_eq!(
                serde_json::from_value::<StagesView>(read.get("stages").unwrap().clone()).unwrap(),
                stages
            );
        }
    }

    #[test]
    fn the_first_time_counts_and_nothing_is_zero() {
        let stages = Stages::default();
        stages.reach(Stage::Taken, 0);
        stages.reach(Stage::Answer, 7_000);
        stages.reach(Stage::Answer, 9_000);
        assert!(stages.has(Stage::Taken) && !stages.has(Stage::Tls));
        let wanted = StagesView { taken_us: Some(1), answer_us: Some(7), ..StagesView::default() };
        assert_eq!(stages.view(), wanted);
    }
}
