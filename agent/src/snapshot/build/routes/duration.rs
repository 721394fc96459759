//! Durations of the Gateway API (GEP-2257): up to four numbers of at most five digits, each with `h`, `m`, `s` or `ms`. Pure.

/// Nanoseconds of a duration such as `1h30m` or `500ms`.
///
/// # Errors
/// It is not written so.
pub(super) fn parse(text: &str) -> Result<u64, String> {
    let shown: String = text.chars().take(40).collect();
    total(text)
        .ok_or_else(|| format!("`{shown}` is not a duration; write it as `1h`, `30s`, `500ms` or `1m30s`"))
}

fn total(text: &str) -> Option<u64> {
    let (mut rest, mut total) = (text, 0_u64);
    for _ in 0..4 {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at_checked(digits).filter(|_| (1..=5).contains(&digits))?;
        let (unit_ns, after) = match after {
            // `ms` before `m`.
            after if after.starts_with("ms") => (1_000_000, after.get(2..)?),
            after if after.starts_with('h') => (3_600_000_000_000, after.get(1..)?),
            after if after.starts_with('m') => (60_000_000_000, after.get(1..)?),
            after if after.starts_with('s') => (1_000_000_000, after.get(1..)?),
            _ => return None,
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(unit_ns)?)?;
        if after.is_empty() {
            return Some(total);
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    #[test]
    fn reads_what_the_proposal_lists() {
        let table = [
            ("0h", Some(0)),
            ("0s", Some(0)),
            ("1h", Some(3_600_000)),
            ("30m", Some(1_800_000)),
            ("10s", Some(10_000)),
            ("500ms", Some(500)),
            ("2h30m", Some(9_000_000)),
            ("150m", Some(9_000_000)),
            ("7230s", Some(7_230_000)),
            ("1h30m10s", Some(5_410_000)),
            ("10s30m1h", Some(5_410_000)),
            ("100ms200ms300ms", Some(600)),
            ("99999h99999h99999h99999h", Some(99_999 * 4 * 3_600_000)),
            ("1", None),
            ("1d", None),
            ("1 h", None),
            ("1.5s", None),
            ("-15m", None),
            ("100000ms", None),
            ("1h1m1s1ms1ms", None),
            ("", None),
            ("s", None),
            ("1µs", None),
            ("1hµ", None),
        ];
        for (text, milliseconds) in table {
            let expected = milliseconds.map(|milliseconds: u64| milliseconds * 1_000_000);
            assert_eq!(super::parse(text).ok(), expected, "{text}");
        }
    }
}
