//! Tells a peer how much it may send: looks at what lies unread, takes it out of `h2` and changes the windows with it.

use std::{
    cell::Cell,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use h2::{client, server};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

use super::{drive::Life, inbox::Unread};
use crate::tunnel::{Settings, windows::Windows};

/// After so many bytes it is looked at, or after the fourth part of what a connection may always send, or as often as small frames ask
/// for.
const OFTEN: u64 = 1 << 20;

/// How long a window may stay smaller than it need be where nothing is received.
const SOON: Duration = Duration::from_secs(1);

thread_local! {
    /// Unread on all connections of this worker, as each of them saw it last.
    static OF_WORKER: Cell<u64> = const { Cell::new(0) };
}

/// A connection whose windows can be changed.
pub(super) trait Credited {
    fn widen_connection(&mut self, bytes: u32);
    /// Whether it was told: one change must be acknowledged before the next.
    fn resize_streams(&mut self, bytes: u32) -> bool;
}

impl<T: AsyncRead + AsyncWrite + Unpin> Credited for client::Connection<T, Bytes> {
    fn widen_connection(&mut self, bytes: u32) {
        self.set_target_window_size(bytes);
    }

    fn resize_streams(&mut self, bytes: u32) -> bool {
        self.set_initial_window_size(bytes).is_ok()
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Credited for server::Connection<T, Bytes> {
    fn widen_connection(&mut self, bytes: u32) {
        self.set_target_window_size(bytes);
    }

    fn resize_streams(&mut self, bytes: u32) -> bool {
        self.set_initial_window_size(bytes).is_ok()
    }
}

/// What the peer of a connection was told, and what lay unread then.
pub(super) struct Credit {
    settings: Settings,
    told: Windows,
    unread: u64,
    often: u64,
    looked_at: Instant,
}

impl Credit {
    pub(super) fn new(settings: &Settings, life: &Life) -> Self {
        let often =
            OFTEN.min(u64::from(settings.connection_window) / 4).min(Unread::often(settings.small_frames));
        life.counters.go_on(often);
        Self {
            settings: settings.clone(),
            told: Windows { stream: settings.stream_window, connection: settings.connection_window },
            unread: 0,
            often,
            looked_at: Instant::now(),
        }
    }

    /// The connection has worked and waits. If it received so much that a look is due, that must follow even if nothing else
    /// happens: the peer may have no room left.
    pub(super) fn pending<R>(life: &Life, context: &Context<'_>) -> Poll<R> {
        if life.counters.pauses() {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Looks, if it is time. To be called before the connection works, when the streams have had their turn: what lies unread
    /// then lies there because its reader does not keep up.
    pub(super) fn look(&mut self, life: &Life, connection: &mut impl Credited) {
        if !life.counters.pauses() && !self.is_late() {
            return;
        }
        self.looked_at = Instant::now();
        life.counters.go_on(self.often);
        self.note(life.unread.gather());
        let wanted = Windows::beside(&self.settings, self.unread, OF_WORKER.get());
        if wanted.connection != self.told.connection {
            connection.widen_connection(wanted.connection);
            self.told.connection = wanted.connection;
        }
        if wanted.stream != self.told.stream && connection.resize_streams(wanted.stream) {
            self.told.stream = wanted.stream;
        }
    }

    fn is_late(&self) -> bool {
        let narrow = self.unread > 0 || self.told.stream < self.settings.stream_window;
        narrow && self.looked_at.elapsed() >= SOON
    }

    fn note(&mut self, unread: u64) {
        OF_WORKER.set(OF_WORKER.get().saturating_sub(self.unread).saturating_add(unread));
        self.unread = unread;
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        self.note(0);
    }
}
