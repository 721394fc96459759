//! What one calling pod may hold inside the shared agent, so that it cannot starve another: connections, running
//! requests, buffered bytes, turns of a worker. A refusal says which, and so does a delay. Pure.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use crate::snapshot::{PodLoad, policy::BulkheadLimits};

/// Which limit of the pod was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bulkhead {
    /// Connections of its application.
    Connections,
    /// Requests under way.
    Requests,
    /// Bytes of bodies buffered for it.
    BufferedBytes,
    /// What it may have done by a worker before other pods have their turn (`worker::tasks`): delays, and never refuses.
    Turn,
}

impl Bulkhead {
    /// For metrics, logs and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "bulkhead_connections",
            Self::Requests => "bulkhead_requests",
            Self::BufferedBytes => "bulkhead_buffered_bytes",
            Self::Turn => "bulkhead_turn",
        }
    }
}

/// Counts one until it is dropped.
#[derive(Debug)]
pub struct Permit {
    pod: Arc<PodLoad>,
    counter: fn(&PodLoad) -> &AtomicU32,
}

impl Drop for Permit {
    fn drop(&mut self) {
        (self.counter)(&self.pod).fetch_sub(1, Relaxed);
    }
}

/// Bytes that are held until this is dropped.
#[derive(Debug)]
pub struct BufferPermit {
    pod: Arc<PodLoad>,
    bytes: u64,
}

impl BufferPermit {
    /// So many bytes more.
    ///
    /// # Errors
    /// [`Bulkhead::BufferedBytes`] where they do not fit; what was held stays.
    pub fn grow(&mut self, limits: &BulkheadLimits, bytes: u64) -> Result<(), Bulkhead> {
        hold(&self.pod, limits, bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Gives back up to so many of them.
    pub fn shrink(&mut self, bytes: u64) {
        let back = bytes.min(self.bytes);
        self.bytes -= back;
        self.pod.buffered_bytes.fetch_sub(back, Relaxed);
    }

    /// What is held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for BufferPermit {
    fn drop(&mut self) {
        self.pod.buffered_bytes.fetch_sub(self.bytes, Relaxed);
    }
}

/// One more connection of the application.
///
/// # Errors
/// [`Bulkhead::Connections`] where it has as many as it may.
pub fn try_connection(pod: &Arc<PodLoad>, limits: &BulkheadLimits) -> Result<Permit, Bulkhead> {
    take(pod, |pod| &pod.connections, limits.connections).ok_or(Bulkhead::Connections)
}

/// One more request.
///
/// # Errors
/// [`Bulkhead::Requests`] where it has as many as it may.
pub fn try_request(pod: &Arc<PodLoad>, limits: &BulkheadLimits) -> Result<Permit, Bulkhead> {
    take(pod, |pod| &pod.requests, limits.requests).ok_or(Bulkhead::Requests)
}

/// So many bytes of a body.
///
/// # Errors
/// [`Bulkhead::BufferedBytes`] where they do not fit.
pub fn try_buffer(pod: &Arc<PodLoad>, limits: &BulkheadLimits, bytes: u64) -> Result<BufferPermit, Bulkhead> {
    hold(pod, limits, bytes)?;
    Ok(BufferPermit { pod: pod.clone(), bytes })
}

/// Whether the pod has room for one more connection and one more request at the moment; nothing is taken.
///
/// # Errors
/// Which of them has no room.
pub fn has_room(pod: &PodLoad, limits: &BulkheadLimits) -> Result<(), Bulkhead> {
    let full = |count: &AtomicU32, most: u32| one_more(count.load(Relaxed), most).is_none();
    match () {
        () if full(&pod.connections, limits.connections) => Err(Bulkhead::Connections),
        () if full(&pod.requests, limits.requests) => Err(Bulkhead::Requests),
        () => Ok(()),
    }
}

fn one_more(count: u32, most: u32) -> Option<u32> {
    (count < most).then(|| count + 1)
}

fn take(pod: &Arc<PodLoad>, counter: fn(&PodLoad) -> &AtomicU32, most: u32) -> Option<Permit> {
    let one_more = |count: u32| one_more(count, most);
    counter(pod).fetch_update(Relaxed, Relaxed, one_more).ok()?;
    Some(Permit { pod: pod.clone(), counter })
}

fn hold(pod: &PodLoad, limits: &BulkheadLimits, bytes: u64) -> Result<(), Bulkhead> {
    let more = |held: u64| held.checked_add(bytes).filter(|sum| *sum <= limits.buffered_bytes);
    let held = pod.buffered_bytes.fetch_update(Relaxed, Relaxed, more);
    held.map(|_| ()).map_err(|_| Bulkhead::BufferedBytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const LIMITS: BulkheadLimits = BulkheadLimits { connections: 2, requests: 1, buffered_bytes: 100 };

    fn held(pod: &PodLoad) -> (u32, u32, u64) {
        (pod.connections.load(Relaxed), pod.requests.load(Relaxed), pod.buffered_bytes.load(Relaxed))
    }

    #[test]
    fn a_refusal_says_which() {
        let pod = Arc::new(PodLoad::default());
        let connections = [try_connection(&pod, &LIMITS).unwrap(), try_connection(&pod, &LIMITS).unwrap()];
        assert_eq!(try_connection(&pod, &LIMITS).unwrap_err(), Bulkhead::Connections);
        let request = try_request(&pod, &LIMITS).unwrap();
        assert_eq!(try_request(&pod, &LIMITS).unwrap_err(), Bulkhead::Requests);
        let mut buffer = try_buffer(&pod, &LIMITS, 60).unwrap();
        assert_eq!(buffer.grow(&LIMITS, 41), Err(Bulkhead::BufferedBytes));
        assert_eq!(buffer.grow(&LIMITS, 40), Ok(()));
        assert_eq!(try_buffer(&pod, &LIMITS, 1).unwrap_err(), Bulkhead::BufferedBytes);
        assert_eq!(buffer.grow(&LIMITS, u64::MAX), Err(Bulkhead::BufferedBytes), "no overflow");
        buffer.shrink(30);
        assert_eq!((held(&pod), buffer.bytes()), ((2, 1, 70), 70));
        drop((connections, request, buffer));
        assert_eq!(held(&pod), (0, 0, 0));
        let another = Arc::new(PodLoad::default());
        assert!(try_request(&another, &LIMITS).is_ok());
    }

    proptest! {
        #[test]
        fn bytes_return_to_none(steps in proptest::collection::vec((0u8..4, 0u64..60), 0..200)) {
            let pod = Arc::new(PodLoad::default());
            let mut buffers: Vec<BufferPermit> = Vec::new();
            for (step, bytes) in steps {
                match (step, buffers.last_mut()) {
                    (0, _) => buffers.extend(try_buffer(&pod, &LIMITS, bytes).ok()),
                    (1, Some(buffer)) => drop(buffer.grow(&LIMITS, bytes)),
                    (2, Some(buffer)) => buffer.shrink(bytes),
                    _ => drop(buffers.pop()),
                }
                let sum: u64 = buffers.iter().map(BufferPermit::bytes).sum();
                prop_assert!(held(&pod) == (0, 0, sum) && sum <= 100);
            }
            drop(buffers);
            prop_assert_eq!(held(&pod), (0, 0, 0));
        }
    }
}
