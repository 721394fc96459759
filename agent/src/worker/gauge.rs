//! How many tunnels a worker has, told to other threads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One worker's tunnels. The size is set at each pulse, the counts at once.
#[derive(Debug, Default)]
pub struct TunnelGauge {
    connections: AtomicU64,
    streams: AtomicU64,
    built: AtomicU64,
    resumed: AtomicU64,
}

/// A reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunnelReading {
    /// Tunnels that are up.
    pub connections: u64,
    /// Streams on them.
    pub streams: u64,
    /// Tunnels dialled since the start.
    pub built: u64,
    /// Of these, with a resumed TLS session.
    pub resumed: u64,
}

impl TunnelGauge {
    /// Tunnels and streams of the pool now.
    pub fn set_size(&self, (connections, streams): (usize, usize)) {
        self.connections.store(connections as u64, Relaxed);
        self.streams.store(streams as u64, Relaxed);
    }

    /// One more was dialled.
    pub fn count_built(&self, resumed: bool) {
        self.built.fetch_add(1, Relaxed);
        self.resumed.fetch_add(u64::from(resumed), Relaxed);
    }

    /// Reads all.
    #[must_use]
    pub fn read(&self) -> TunnelReading {
        TunnelReading {
            connections: self.connections.load(Relaxed),
            streams: self.streams.load(Relaxed),
            built: self.built.load(Relaxed),
            resumed: self.resumed.load(Relaxed),
        }
    }
}
