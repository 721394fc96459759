//! Which root signs now, and which roots are still trusted. Pure.
//!
//! A new root is trusted at once and signs from a later instant, when every agent has learnt to trust it; the old one is
//! trusted until the last leaf it signed is over.

use time::{Duration, OffsetDateTime};

/// Index of the root that signs at `now`, given when each begins to sign (in the order they were added).
pub(crate) fn signer(signs_from: &[OffsetDateTime], now: OffsetDateTime) -> usize {
    signs_from.iter().rposition(|from| *from <= now).unwrap_or(0)
}

/// Whether each root is still needed: the signer, those to come, and those whose leaves (valid for at most `longest`) live.
pub(crate) fn trusted(signs_from: &[OffsetDateTime], now: OffsetDateTime, longest: Duration) -> Vec<bool> {
    let superseded = |index: usize| signs_from.iter().skip(index + 1).min();
    (0..signs_from.len()).map(|index| superseded(index).is_none_or(|from| *from + longest >= now)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + Duration::hours(hour)
    }

    #[test]
    fn roots_overlap() {
        let roots = [at(0), at(100)];
        let table: [(i64, usize, [bool; 2]); 6] = [
            (-1, 0, [true, true]),
            (50, 0, [true, true]),
            (99, 0, [true, true]),
            (100, 1, [true, true]),
            (124, 1, [true, true]),
            (125, 1, [false, true]),
        ];
        for (now, signs, kept) in table {
            assert_eq!(signer(&roots, at(now)), signs, "{now}");
            assert_eq!(trusted(&roots, at(now), Duration::hours(24)), kept, "{now}");
        }
        assert_eq!(signer(&[at(9)], at(1)), 0, "the only root signs, whatever its clock said");
    }
}
