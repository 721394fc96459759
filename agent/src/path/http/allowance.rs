//! Memory for bodies that are kept for another attempt, counted on the calling pod.

use std::{rc::Rc, sync::Arc};

use super::replay::Allowance;
use crate::{
    observe::requests::RequestRecord,
    resilience::bulkhead::{self, BufferPermit},
    snapshot::LocalPod,
};

/// What one request keeps.
pub(super) struct PodAllowance {
    here: Arc<LocalPod>,
    record: Rc<RequestRecord>,
    permit: Option<BufferPermit>,
}

impl PodAllowance {
    /// Nothing is kept yet.
    pub(super) fn new(here: &Arc<LocalPod>, record: &Rc<RequestRecord>) -> Self {
        Self { here: Arc::clone(here), record: Rc::clone(record), permit: None }
    }
}

impl Allowance for PodAllowance {
    fn grow(&mut self, bytes: usize) -> bool {
        let (limits, bytes) = (&self.here.bulkhead, bytes as u64);
        let grown = match &mut self.permit {
            Some(permit) => permit.grow(limits, bytes),
            None => {
                bulkhead::try_buffer(&self.here.load, limits, bytes).map(|permit| self.permit = Some(permit))
            }
        };
        // The request goes on, but not again.
        grown.map_err(|limit| self.record.overflow(limit.as_str())).is_ok()
    }
}
