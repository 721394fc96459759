//! What one node may have under way to a service port, over all its pods: connections, waiting and running requests,
//! retries at once. What comes above is refused at once (503, flag `UO`). Pure.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::snapshot::{ServiceState, Shared, load::Running, policy::Limits};

/// Which limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Overflow {
    /// Upstream connections.
    Connections,
    /// Requests that wait for a connection.
    Pending,
    /// Requests under way.
    Requests,
    /// Retries and hedges under way.
    Retries,
}

impl Overflow {
    /// For metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Pending => "pending",
            Self::Requests => "requests",
            Self::Retries => "retries",
        }
    }
}

/// The word for a request's body that is longer than the policy allows.
pub const REQUEST_BODY: &str = "request_body_bytes";

/// The word for a request's head that did not come in time.
pub const REQUEST_HEADERS: &str = "request_headers_timeout";

/// How long a request's head may take once it has begun, by [`Limits::request_headers_ns`]; none where there is no limit.
#[must_use]
pub fn head_time(request_headers_ns: u64) -> Option<Duration> {
    (request_headers_ns > 0).then(|| Duration::from_nanos(request_headers_ns))
}

/// Bytes that a request's body may have; none where there is no limit.
#[must_use]
pub fn body_bytes(limits: &Limits) -> Option<u64> {
    Some(limits.request_body_bytes).filter(|most| *most > 0)
}

/// Counts one until it is dropped.
#[derive(Debug)]
pub struct Permit {
    state: Shared<ServiceState>,
    counter: fn(&Running) -> &AtomicU32,
}

impl Permit {
    /// Whether it counts on this service port.
    #[must_use]
    pub fn is_of(&self, state: &Shared<ServiceState>) -> bool {
        Arc::ptr_eq(&self.state, state)
    }
}

/// A running request.
pub type RequestPermit = Permit;

impl Drop for Permit {
    fn drop(&mut self) {
        (self.counter)(&self.state.running).fetch_sub(1, Relaxed);
    }
}

/// One more request.
///
/// # Errors
/// [`Overflow::Requests`] where as many run as may.
pub fn try_request(state: &Shared<ServiceState>, limits: &Limits) -> Result<RequestPermit, Overflow> {
    take(state, |running| &running.requests, limits.requests).ok_or(Overflow::Requests)
}

/// One more request that waits for a connection.
///
/// # Errors
/// [`Overflow::Pending`] where as many wait as may.
pub fn try_pending(state: &Shared<ServiceState>, limits: &Limits) -> Result<Permit, Overflow> {
    take(state, |running| &running.pending, limits.pending).ok_or(Overflow::Pending)
}

/// One more connection to an endpoint.
///
/// # Errors
/// [`Overflow::Connections`] where as many are open as may.
pub fn try_connection(state: &Shared<ServiceState>, limits: &Limits) -> Result<Permit, Overflow> {
    take(state, |running| &running.connections, limits.connections).ok_or(Overflow::Connections)
}

/// One more retry or hedge.
///
/// # Errors
/// [`Overflow::Retries`] where as many run as may.
pub fn try_retry(state: &Shared<ServiceState>, limits: &Limits) -> Result<Permit, Overflow> {
    take(state, |running| &running.retries, limits.retries).ok_or(Overflow::Retries)
}

/// Whether there is room for one more request at the moment; nothing is taken.
///
/// # Errors
/// [`Overflow::Requests`] where as many run as may.
pub fn has_room(state: &ServiceState, limits: &Limits) -> Result<(), Overflow> {
    one_more(state.running.requests.load(Relaxed), limits.requests).map(drop).ok_or(Overflow::Requests)
}

fn one_more(count: u32, most: u32) -> Option<u32> {
    (count < most).then(|| count + 1)
}

fn take(state: &Shared<ServiceState>, counter: fn(&Running) -> &AtomicU32, most: u32) -> Option<Permit> {
    let one_more = |count: u32| one_more(count, most);
    counter(&state.running).fetch_update(Relaxed, Relaxed, one_more).ok()?;
    Some(Permit { state: state.clone(), counter })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    type Try = fn(&Shared<ServiceState>, &Limits) -> Result<Permit, Overflow>;
    const KINDS: [(Try, Overflow); 4] = [
        (try_connection, Overflow::Connections),
        (try_pending, Overflow::Pending),
        (try_request, Overflow::Requests),
        (try_retry, Overflow::Retries),
    ];

    fn counts(state: &ServiceState) -> [u32; 4] {
        let running = &state.running;
        [&running.connections, &running.pending, &running.requests, &running.retries]
            .map(|cell| cell.load(Relaxed))
    }

    #[test]
    fn each_limit_is_its_own() {
        let limits = Limits { connections: 1, pending: 2, requests: 3, retries: 0, ..Limits::default() };
        let state = Shared::<ServiceState>::default();
        for ((kind, overflow), most) in KINDS.into_iter().zip([1, 2, 3, 0]) {
            let held: Vec<Permit> = (0..most).map(|_| kind(&state, &limits).unwrap()).collect();
            assert_eq!(kind(&state, &limits).unwrap_err(), overflow, "{}", overflow.as_str());
            drop(held);
            assert_eq!(kind(&state, &limits).is_ok(), most > 0);
        }
        assert_eq!(counts(&state), [0; 4]);
    }

    #[test]
    fn threads_never_exceed_it() {
        let (state, limits) =
            (Shared::<ServiceState>::default(), Limits { requests: 3, ..Limits::default() });
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let permit = try_request(&state, &limits);
                        assert!(state.running.requests.load(Relaxed) <= 3);
                        drop(permit);
                    }
                });
            }
        });
        assert_eq!(counts(&state), [0; 4]);
    }

    proptest! {
        #[test]
        fn permits_return_to_none(steps in proptest::collection::vec((0usize..4, any::<bool>()), 0..200), most in 0u32..5) {
            let limits = Limits {
                connections: most,
                pending: most,
                requests: most,
                retries: most,
                ..Limits::default()
            };
            let state = Shared::<ServiceState>::default();
            let mut held: [Vec<Permit>; 4] = Default::default();
            for (kind, take) in steps {
                let (Some((try_it, _)), Some(mine)) = (KINDS.get(kind), held.get_mut(kind)) else { continue };
                if take {
                    let room = mine.len() < most as usize;
                    let permit = try_it(&state, &limits);
                    prop_assert_eq!(permit.is_ok(), room);
                    mine.extend(permit.ok());
                } else {
                    mine.pop();
                }
                prop_assert!(counts(&state).iter().all(|count| *count <= most));
            }
            drop(held);
            prop_assert_eq!(counts(&state), [0; 4]);
        }
    }
}
