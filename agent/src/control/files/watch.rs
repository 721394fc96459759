//! Hears of changes in the folder (inotify) and waits until they settle. Where inotify is not to be had, the slow poll
//! of the caller is all there is.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::StreamExt;
use inotify::{EventStream, Inotify, WatchMask};
use tokio::time::{Instant, sleep_until, timeout};

/// Silence that ends a burst of changes.
const QUIET: Duration = Duration::from_millis(100);
/// A burst is cut off after this.
const LONGEST: Duration = Duration::from_secs(1);

/// Changes in one folder.
pub(super) struct Changes {
    folder: PathBuf,
    events: Option<EventStream<[u8; 4096]>>,
}

impl Changes {
    pub(super) fn new(folder: &Path) -> Self {
        let events = Inotify::init().and_then(|inotify| inotify.into_event_stream([0; 4096]));
        let events = events
            .inspect_err(|error| {
                tracing::warn!("no inotify, the manifests folder is read twice a minute: {error}")
            })
            .ok();
        let mut changes = Self { folder: folder.to_owned(), events };
        changes.renew();
        changes
    }

    /// Watches what the folder's path leads to now: the folder may have been replaced. Call it before each reading, so
    /// that no change falls between. A folder that is away is left to the poll.
    pub(super) fn renew(&mut self) {
        let mask = WatchMask::CLOSE_WRITE
            | WatchMask::MODIFY
            | WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::MOVE
            | WatchMask::ATTRIB
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF;
        if let Some(events) = &self.events
            && let Err(error) = events.watches().add(&self.folder, mask)
        {
            tracing::debug!("cannot watch {}: {error}", self.folder.display());
        }
    }

    /// Waits for a change and then for silence, or for `poll` to pass. May be dropped at any time.
    pub(super) async fn settled(&mut self, poll: Duration) {
        if timeout(poll, self.heard()).await.is_err() {
            return;
        }
        let end = Instant::now() + LONGEST;
        while Instant::now() < end {
            if timeout(QUIET, self.heard()).await.is_err() {
                return;
            }
        }
    }

    async fn heard(&mut self) {
        let Some(events) = &mut self.events else { return std::future::pending().await };
        match events.next().await {
            Some(Ok(_)) => {}
            // Not again at once: a broken descriptor would be heard for ever.
            Some(Err(_)) | None => sleep_until(Instant::now() + LONGEST).await,
        }
    }
}
