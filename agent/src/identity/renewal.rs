//! When a certificate is renewed and when a failed request is tried again. Pure: time in milliseconds since the Unix
//! epoch, and the jitter, are arguments.

/// Part of the half-life that jitter moves the renewal by, either way.
pub(crate) const RENEWAL_JITTER: f64 = 0.1;
/// Part of a back-off that jitter moves it by, either way.
const RETRY_JITTER: f64 = 0.2;
const FIRST_RETRY: u64 = 250;
const LONGEST_RETRY: u64 = 60_000;
/// A connection waits: try at least this often.
pub(crate) const LONGEST_DEMANDED_RETRY: u64 = 1_000;

/// The instant of renewal: half of the lifetime, moved by `jitter` (-1.0 to 1.0) times [`RENEWAL_JITTER`].
pub(crate) fn renew_at(not_before: u64, not_after: u64, jitter: f64) -> u64 {
    let half = not_after.saturating_sub(not_before) / 2;
    not_before.saturating_add(scaled(half, RENEWAL_JITTER * clamped(jitter)))
}

/// How long to wait after the `failures`-th failure in a row (from 1), moved by `jitter` (-1.0 to 1.0).
pub(crate) fn retry_after(failures: u32, jitter: f64) -> u64 {
    let doubled = FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(16));
    scaled(doubled.min(LONGEST_RETRY), RETRY_JITTER * clamped(jitter))
}

fn clamped(jitter: f64) -> f64 {
    if jitter.is_finite() { jitter.clamp(-1.0, 1.0) } else { 0.0 }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn scaled(value: u64, by: f64) -> u64 {
    (value as f64 * (1.0 + by)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renews_around_half_life() {
        let table = [
            (0, 1000, 0.0, 500),
            (0, 1000, 1.0, 550),
            (0, 1000, -1.0, 450),
            (0, 1000, 9.0, 550),
            (0, 1000, f64::NAN, 500),
            (10_000, 86_410_000, 0.0, 43_210_000),
            (10, 5, 1.0, 10),
        ];
        for (from, to, jitter, at) in table {
            assert_eq!(renew_at(from, to, jitter), at, "{from} {to} {jitter}");
        }
    }

    #[test]
    fn backs_off_to_a_minute() {
        let table =
            [(0, 0.0, 250), (1, 0.0, 250), (2, 0.0, 500), (4, 1.0, 2400), (4, -1.0, 1600), (9, 0.0, 60_000)];
        for (failures, jitter, after) in table {
            assert_eq!(retry_after(failures, jitter), after, "{failures} {jitter}");
        }
        assert_eq!(retry_after(u32::MAX, 1.0), 72_000);
    }
}
