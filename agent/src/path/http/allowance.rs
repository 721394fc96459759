//! Memory for bodies that are kept for another attempt, counted on the calling pod.

use std::sync::Arc;

use super::replay::Allowance;
use crate::{
    resilience::bulkhead::{self, BufferPermit},
    snapshot::LocalPod,
};

/// What one request keeps.
pub struct PodAllowance {
    here: Arc<LocalPod>,
    permit: Option<BufferPermit>,
}

impl PodAllowance {
    /// Nothing is kept yet.
    pub fn new(here: &Arc<LocalPod>) -> Self {
        Self { here: Arc::clone(here), permit: None }
    }
}

impl Allowance for PodAllowance {
    fn grow(&mut self, bytes: usize) -> bool {
        let (limits, bytes) = (&self.here.bulkhead, bytes as u64);
        match &mut self.permit {
            Some(permit) => permit.grow(limits, bytes).is_ok(),
            None => {
                self.permit = bulkhead::try_buffer(&self.here.load, limits, bytes).ok();
                self.permit.is_some()
            }
        }
    }
}
