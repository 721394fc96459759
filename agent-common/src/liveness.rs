//! Whether an agent lives, from its heartbeat. Pure.

/// Whether the heartbeat `last` is at most `limit` old at `now`; all are nanoseconds of `CLOCK_MONOTONIC`. A heartbeat
/// of zero was never beaten. One that is younger than `now` (another CPU read the clock later) is fresh.
#[inline(always)]
pub const fn is_fresh(last: u64, now: u64, limit: u64) -> bool {
    last != 0 && now.saturating_sub(last) <= limit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_ages() {
        for (last, now, limit, fresh) in [
            (0, 5, 10, false),
            (1, 5, 10, true),
            (1, 11, 10, true),
            (1, 12, 10, false),
            (20, 12, 10, true),
            (u64::MAX, 1, 0, true),
        ] {
            assert_eq!(is_fresh(last, now, limit), fresh, "last {last}, now {now}, limit {limit}");
        }
    }
}
