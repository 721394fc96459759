//! When a tunnel sends PING, when its silence means that the peer is gone, when it has been idle for too long. Pure.
//!
//! Received bytes count as a sign of life, not only the answer to the PING: behind megabytes in a slow link an answer is late.

use std::time::Duration;

/// The three times of a tunnel.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// From one PING to the next while the tunnel is used.
    pub ping_every: Duration,
    /// From a PING without any sign of life to giving up.
    pub ping_timeout: Duration,
    /// Without streams for that long, a tunnel of the pool is closed; `None` never (the server's side).
    pub idle: Option<Duration>,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing before the next look.
    Wait,
    /// Send a PING.
    Ping,
    /// The peer is gone.
    Dead,
    /// Nobody used the tunnel for the idle time.
    Idle,
}

/// What a tunnel did up to now.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Streams that live now.
    pub streams: usize,
    /// Streams that were ever opened: one that came and went between two looks is use.
    pub opened: u64,
    /// Bytes received since the start.
    pub received: u64,
    /// The last PING was answered, or none is outstanding.
    pub answered: bool,
}

/// The state between two looks. Times are nanoseconds of one monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Liveness {
    times: Times,
    used_at: u64,
    opened: u64,
    pinged_at: Option<u64>,
    checked_at: u64,
    checked_opened: u64,
    received: u64,
}

impl Liveness {
    /// Starts at `now`.
    #[must_use]
    pub fn new(times: Times, now: u64) -> Self {
        Self {
            times,
            used_at: now,
            opened: 0,
            pinged_at: None,
            checked_at: now,
            checked_opened: 0,
            received: 0,
        }
    }

    /// How long to sleep between two looks: fine enough for the shortest of the times.
    #[must_use]
    pub fn look_every(&self) -> Duration {
        let shortest = self.times.ping_every.min(self.times.ping_timeout);
        (self.times.idle.map_or(shortest, |idle| shortest.min(idle)) / 2).max(Duration::from_millis(1))
    }

    /// Looks at `now`.
    pub fn look(&mut self, now: u64, seen: Seen) -> Action {
        if seen.streams > 0 || seen.opened != self.opened {
            self.used_at = now;
            self.opened = seen.opened;
        }
        if self.times.idle.is_some_and(|idle| reached(self.used_at, idle, now)) {
            return Action::Idle;
        }
        self.ping(now, seen)
    }

    fn ping(&mut self, now: u64, seen: Seen) -> Action {
        let lives = seen.received != self.received;
        self.received = seen.received;
        match self.pinged_at {
            Some(_) if seen.answered => self.pinged_at = None,
            Some(_) if lives => self.pinged_at = Some(now),
            Some(at) if reached(at, self.times.ping_timeout, now) => return Action::Dead,
            _ => {}
        }
        if self.pinged_at.is_some() || !reached(self.checked_at, self.times.ping_every, now) {
            return Action::Wait;
        }
        // Bytes alone do not count as use: the last PING and its answer were bytes too.
        let used = seen.streams > 0 || seen.opened != self.checked_opened;
        (self.checked_at, self.checked_opened) = (now, seen.opened);
        if !used {
            return Action::Wait;
        }
        self.pinged_at = Some(now);
        Action::Ping
    }
}

fn reached(since: u64, wait: Duration, now: u64) -> bool {
    u128::from(now.saturating_sub(since)) >= wait.as_nanos()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn liveness() -> Liveness {
        let second = Duration::from_secs;
        Liveness::new(Times { ping_every: second(10), ping_timeout: second(20), idle: Some(second(300)) }, 0)
    }

    fn seen(streams: usize, received: u64, answered: bool) -> Seen {
        Seen { streams, opened: 1, received, answered }
    }

    #[test]
    fn pings_while_used_and_gives_up_on_silence() {
        let mut life = liveness();
        assert_eq!(life.look(5 * SECOND, seen(1, 0, true)), Action::Wait);
        assert_eq!(life.look(10 * SECOND, seen(1, 0, true)), Action::Ping);
        assert_eq!(life.look(25 * SECOND, seen(1, 0, false)), Action::Wait);
        assert_eq!(life.look(30 * SECOND, seen(1, 0, false)), Action::Dead);
    }

    #[test]
    fn received_bytes_are_a_sign_of_life() {
        let mut life = liveness();
        assert_eq!(life.look(10 * SECOND, seen(1, 0, true)), Action::Ping);
        assert_eq!(life.look(29 * SECOND, seen(1, 7, false)), Action::Wait);
        assert_eq!(life.look(48 * SECOND, seen(1, 7, false)), Action::Wait);
        assert_eq!(life.look(49 * SECOND, seen(1, 7, false)), Action::Dead);
    }

    #[test]
    fn an_answer_allows_the_next_ping() {
        let mut life = liveness();
        assert_eq!(life.look(10 * SECOND, seen(1, 0, true)), Action::Ping);
        assert_eq!(life.look(15 * SECOND, seen(1, 8, true)), Action::Wait);
        assert_eq!(life.look(20 * SECOND, seen(1, 8, true)), Action::Ping);
    }

    #[test]
    fn an_unused_tunnel_is_left_alone_and_then_closed() {
        let mut life = liveness();
        assert_eq!(life.look(SECOND, seen(1, 0, true)), Action::Wait);
        assert_eq!(life.look(20 * SECOND, seen(0, 0, true)), Action::Ping, "once after its last use");
        for at in [40, 100, 299, 300] {
            assert_eq!(life.look(at * SECOND, seen(0, 0, true)), Action::Wait, "{at}");
        }
        assert_eq!(life.look(301 * SECOND, seen(0, 0, true)), Action::Idle);
    }

    #[test]
    fn a_short_stream_between_two_looks_is_use() {
        let mut life = liveness();
        let used = |opened| Seen { streams: 0, opened, received: 0, answered: true };
        assert_eq!(life.look(299 * SECOND, used(5)), Action::Ping);
        assert_eq!(life.look(598 * SECOND, used(5)), Action::Wait);
        assert_eq!(life.look(599 * SECOND, used(5)), Action::Idle);
    }
}
