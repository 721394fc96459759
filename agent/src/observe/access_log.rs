//! The access log: events go from the workers through bounded queues to one thread that writes JSON lines.

use super::row::Row;
use std::sync::Arc;

/// Handle on the log; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct AccessLog {}

impl AccessLog {
    /// Nothing is logged.
    #[must_use]
    pub fn off() -> Self {
        Self {}
    }

    pub(crate) fn opened(&self, _worker: usize, _row: &Arc<Row>) {}

    pub(crate) fn closed(&self, _worker: usize, _row: &Arc<Row>) {}
}
