//! What wakes the node between two readings of the source: control groups that come and go, or the time to look for a pod that is
//! being made.

use std::{future::pending, io, time::Duration};

use tokio::{io::unix::AsyncFd, time::sleep};

use crate::bpf::{GroupEvent, GroupEvents};

/// Waits for both.
pub struct Wakeups(Option<AsyncFd<GroupEvents>>);

impl Wakeups {
    /// With the kernel's events, where it tells; on the runtime that will wait.
    ///
    /// # Errors
    /// The descriptor cannot be watched.
    pub fn new(events: Option<GroupEvents>) -> io::Result<Self> {
        events.map(watch).transpose().map(Self)
    }

    /// Whether the kernel tells of control groups.
    #[must_use]
    pub fn kernel_tells(&self) -> bool {
        self.0.is_some()
    }

    /// The next events; none when `look` has passed. Nothing is lost where it is dropped before.
    pub async fn next(&mut self, look: Option<Duration>) -> Vec<GroupEvent> {
        tokio::select! {
            events = told(&mut self.0) => events,
            () = wait(look) => Vec::new(),
        }
    }
}

fn watch(events: GroupEvents) -> io::Result<AsyncFd<GroupEvents>> {
    // SAFETY: the value owns the ring and its descriptor, which is open and the same one until the value is dropped.
    let watched = unsafe { AsyncFd::register(events) };
    watched.map_err(|error| error.into_parts().1)
}

async fn told(events: &mut Option<AsyncFd<GroupEvents>>) -> Vec<GroupEvent> {
    let Some(descriptor) = events else { return pending().await };
    loop {
        let Ok(mut ready) = descriptor.readable_mut().await else { return pending().await };
        let found = ready.get_inner_mut().drain();
        ready.clear_ready();
        if !found.is_empty() {
            return found;
        }
    }
}

async fn wait(pause: Option<Duration>) {
    match pause {
        Some(pause) => sleep(pause).await,
        None => pending().await,
    }
}
