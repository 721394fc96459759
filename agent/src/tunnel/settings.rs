//! Limits and times of tunnels; the defaults are what the wire's other speakers expect. Pure.

use std::time::Duration;

use super::liveness::Times;

/// What both sides of a tunnel are told when they are made. Sizes are bytes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Flow-control window of a stream, each way, while little lies unread (see `windows`).
    pub stream_window: u32,
    /// What a stream may always send, however much lies unread.
    pub least_stream_window: u32,
    /// Flow-control window of a connection, each way, beside what was received and is not yet taken by applications.
    pub connection_window: u32,
    /// What may lie unread on a connection before the windows of its streams are the least.
    pub unread: u64,
    /// The same on all connections of a worker.
    pub worker_unread: u64,
    /// The largest frame that we take.
    pub frame: u32,
    /// What a stream may queue for sending.
    pub send_queue: usize,
    /// The dynamic table with which the peer compresses headers.
    pub header_table: u32,
    /// The largest header list that we take.
    pub header_list: u32,
    /// Streams that a peer may have open on one of its connections to us.
    pub server_streams: u32,
    /// Streams that we put on one of our connections, if the peer allows as many.
    pub pooled_streams: usize,
    /// Bound on the bookkeeping of small unread frames: 256 bytes less a frame's length are counted for each. Above it the connection
    /// is closed; what readers leave is taken out long before.
    pub small_frames: usize,
    /// From dialling to the TCP connection.
    pub dial_deadline: Duration,
    /// From the TCP connection to the peer's HTTP/2 settings, TLS included.
    pub handshake_deadline: Duration,
    /// From one PING to the next while the tunnel is used.
    pub ping_every: Duration,
    /// Without a sign of life for that long after a PING, the peer is gone.
    pub ping_timeout: Duration,
    /// A pooled connection without streams for that long is closed.
    pub idle: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            stream_window: 4 << 20,
            least_stream_window: 64 << 10,
            connection_window: 16 << 20,
            unread: 32 << 20,
            worker_unread: 128 << 20,
            frame: 1 << 20,
            send_queue: 512 << 10,
            header_table: 4096,
            header_list: 16 << 10,
            server_streams: 200,
            pooled_streams: 100,
            small_frames: 64 << 20,
            dial_deadline: Duration::from_secs(5),
            handshake_deadline: Duration::from_secs(5),
            ping_every: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(20),
            idle: Duration::from_secs(300),
        }
    }
}

impl Settings {
    /// The bound for a peer that does not heed smaller windows of streams. One that does stays below: `unread`, the least window of
    /// each stream, and what was under way before it heeded.
    #[must_use]
    pub fn most_unread(&self) -> u64 {
        let under_way = u64::from(self.connection_window);
        let least = u64::from(self.server_streams) * u64::from(self.least_stream_window);
        // Once for what was under way, once for those who go on.
        self.unread.saturating_add(2 * under_way).saturating_add(least)
    }

    /// The times of our own connections, which close when they are idle.
    #[must_use]
    pub fn client_times(&self) -> Times {
        Times { ping_every: self.ping_every, ping_timeout: self.ping_timeout, idle: Some(self.idle) }
    }

    /// The times of connections that peers made; those close them.
    #[must_use]
    pub fn server_times(&self) -> Times {
        Times { ping_every: self.ping_every, ping_timeout: self.ping_timeout, idle: None }
    }
}
