//! How much a peer may send on its connection and on each stream of it, by what lies unread already. Pure.
//!
//! A reader that stops must hold up its own stream and no other. So whatever lies unread is given back to the connection as it
//! comes: beyond it there is room for `connection_window` at all times, and only the stream's own window stops its writer. What all of
//! them may hold together is bounded by the windows of the streams, as a switch shares its memory among queues (Choudhury and
//! Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998): each stream may take a quarter of what is
//! free, of the connection's bound and of the worker's, and never less than `least_stream_window`. A reader that keeps up is slower then
//! by what a smaller window costs on a long way, and never stopped.
//!
//! A connection holds at most its bound and the least window of each stream, with what was under way while the peer had not
//! acknowledged the smaller windows yet. A peer that does not heed them stops its own connection at `Settings::most_unread`.

use super::Settings;

/// The largest window of HTTP/2 (RFC 9113, section 6.9.1).
const LARGEST: u64 = (1 << 31) - 1;

/// The part of what is free that one stream may take.
const PART: u64 = 4;

/// What a peer is told. Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Of each stream: `SETTINGS_INITIAL_WINDOW_SIZE`.
    pub stream: u32,
    /// Of the connection, what lies unread included.
    pub connection: u32,
}

impl Windows {
    /// Of a connection with so many bytes unread, on a worker with so many bytes unread on all of its connections.
    #[must_use]
    pub fn beside(settings: &Settings, unread: u64, of_worker: u64) -> Self {
        let free =
            settings.unread.saturating_sub(unread).min(settings.worker_unread.saturating_sub(of_worker));
        let most = u64::from(settings.stream_window);
        let stream = power_of_two(free / PART).max(settings.least_stream_window.into()).min(most);
        let connection = u64::from(settings.connection_window).saturating_add(unread);
        let connection = connection.min(settings.most_unread()).min(LARGEST);
        let bytes = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
        Self { stream: bytes(stream), connection: bytes(connection) }
    }
}

/// The largest one that is not above: a window that followed every byte would be told all the time.
fn power_of_two(bytes: u64) -> u64 {
    bytes.checked_ilog2().map_or(0, |exponent| 1 << exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn streams_share_what_is_free() {
        let settings = Settings::default();
        // (unread here, on the worker, window of a stream in KiB)
        let cases = [
            (0, 0, 4096),
            (4, 4, 4096),
            (16, 16, 4096),
            (17, 17, 2048),
            (25, 25, 1024),
            (31, 31, 256),
            (32, 32, 64),
            (500, 500, 64),
            (0, 112, 4096),
            (0, 113, 2048),
            (0, 127, 256),
            (0, 128, 64),
            (0, 9000, 64),
        ];
        for (unread, of_worker, expected) in cases {
            let windows = Windows::beside(&settings, unread * MIB, of_worker * MIB);
            assert_eq!(windows.stream, expected << 10, "{unread} MiB, {of_worker} MiB");
        }
    }

    #[test]
    fn the_connection_gets_back_what_lies_unread() {
        let settings = Settings::default();
        for unread in [0, 1, 4 * MIB, 32 * MIB, 44 * MIB] {
            let windows = Windows::beside(&settings, unread, 0);
            assert_eq!(u64::from(windows.connection), 16 * MIB + unread);
        }
        let most = u64::from(Windows::beside(&settings, u64::MAX, 0).connection);
        assert_eq!(most, settings.most_unread());
        assert_eq!(most, 32 * MIB + 2 * 16 * MIB + 200 * (MIB / 16));
    }

    #[test]
    fn small_windows_stay_small() {
        let small = Settings { stream_window: 65_535, connection_window: 65_535, ..Settings::default() };
        assert_eq!(Windows::beside(&small, 0, 0), Windows { stream: 65_535, connection: 65_535 });
        let tiny = Settings { stream_window: 1000, ..Settings::default() };
        assert_eq!(Windows::beside(&tiny, 40 * MIB, 0).stream, 1000);
        let endless = Settings { unread: u64::MAX, worker_unread: u64::MAX, ..Settings::default() };
        assert_eq!(Windows::beside(&endless, u64::MAX, 0).connection, (1 << 31) - 1);
    }
}
