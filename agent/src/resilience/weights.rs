//! Slow start: the share of an endpoint that appeared beside others grows from a tenth to its full size. Pure.

use std::sync::atomic::Ordering::Relaxed;

use crate::snapshot::EndpointLoad;

/// A full share.
pub const FULL: u64 = 1000;
/// The share at the start.
pub const LEAST: u64 = 100;

/// The share of an endpoint in thousandths at `now_ns`; the first look at it begins its slow start.
pub fn slow_start(endpoint: &EndpointLoad, slow_start_ns: u64, now_ns: u64) -> u64 {
    if slow_start_ns == 0 {
        return FULL;
    }
    if endpoint.since_ns.load(Relaxed) == 0 {
        // Who comes second keeps the first time.
        let _ = endpoint.since_ns.compare_exchange(0, now_ns.max(1), Relaxed, Relaxed);
    }
    share(endpoint, slow_start_ns, now_ns)
}

/// The same without beginning anything.
#[must_use]
pub fn share(endpoint: &EndpointLoad, slow_start_ns: u64, now_ns: u64) -> u64 {
    let since = endpoint.since_ns.load(Relaxed);
    // Without a first look it has not begun. 1 is before the agent, when the clock may have stood near 0 itself.
    let age = match since {
        0 => 0,
        1 => u64::MAX,
        since => now_ns.saturating_sub(since),
    };
    if age >= slow_start_ns {
        return FULL;
    }
    let grown = u128::from(age) * u128::from(FULL - LEAST) / u128::from(slow_start_ns);
    LEAST + u64::try_from(grown).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_linearly_from_the_first_look() {
        let load = EndpointLoad::default();
        assert_eq!(share(&load, 1000, 99_999), LEAST, "not looked at yet");
        let table = [(500, 100), (600, 190), (1000, 550), (1499, 999), (1500, 1000), (9000, 1000)];
        for (now, expected) in table {
            assert_eq!(slow_start(&load, 1000, now), expected, "{now}");
        }
        assert_eq!(slow_start(&EndpointLoad::default(), 0, 5), FULL, "off");
        let old = EndpointLoad { since_ns: 1.into(), ..EndpointLoad::default() };
        assert_eq!(slow_start(&old, u64::MAX, 5), FULL);
        assert_eq!(slow_start(&load, u64::MAX, 501), LEAST);
    }
}
