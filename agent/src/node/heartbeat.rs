//! The heartbeat: tells the kernel that an agent lives. It beats only while every worker comes round its loop, because an agent
//! whose workers hang carries nothing, however busy its control side is.

use std::{sync::Arc, thread, time::Duration};

use crate::{bpf::Heartbeat, observe::monotonic_ns, worker::WorkerHandle};

/// Several beats within any sensible limit.
const PERIOD: Duration = Duration::from_millis(200);
/// A worker that has not come round its loop for so long never will.
const STUCK: Duration = Duration::from_secs(30);

/// Starts the thread; it ends when the last other holder of `workers` has let go.
///
/// # Errors
/// The kernel refuses a thread.
pub fn start(beat: Heartbeat, workers: &Arc<Vec<WorkerHandle>>, limit: Duration) -> std::io::Result<()> {
    let workers = Arc::downgrade(workers);
    let stale = u64::try_from(limit.as_nanos() / 2).unwrap_or(u64::MAX);
    let run = move || {
        // A thread of its own: a control runtime that is busy with a large snapshot must not look dead.
        while let Some(workers) = workers.upgrade() {
            let now = monotonic_ns();
            if workers.iter().all(|worker| now.saturating_sub(worker.alive_ns()) < stale) {
                beat.beat();
            }
            drop(workers);
            thread::sleep(PERIOD);
        }
    };
    thread::Builder::new().name("heartbeat".to_owned()).spawn(run).map(drop)
}

/// What is wrong with a worker that came round its loop so many nanoseconds ago.
#[must_use]
pub fn ailment(has_ended: bool, silent_ns: u64) -> Option<&'static str> {
    match has_ended {
        true => Some("has ended"),
        false => (u128::from(silent_ns) > STUCK.as_nanos()).then_some("is stuck"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_given_up_when_it_ended_or_is_silent_for_long() {
        let seconds = |count: u64| count * 1_000_000_000;
        assert_eq!(ailment(false, 0), None);
        assert_eq!(ailment(false, seconds(29)), None, "the heartbeat stops long before, and may come back");
        assert_eq!(ailment(false, seconds(31)), Some("is stuck"));
        assert_eq!(ailment(true, 0), Some("has ended"));
    }
}
