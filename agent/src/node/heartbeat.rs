//! The heartbeat: tells the kernel that an agent lives. It beats only while every worker comes round its loop, because an agent
//! whose workers hang carries nothing, however busy its control side is.

use std::{sync::Arc, thread, time::Duration};

use crate::{bpf::Heartbeat, observe::monotonic_ns, worker::WorkerHandle};

/// Several beats within any sensible limit.
const PERIOD: Duration = Duration::from_millis(200);

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
