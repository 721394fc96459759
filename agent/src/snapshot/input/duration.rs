//! Durations as Gateway API writes them (GEP-2257): `1h30m`, `250ms`. Pure.

use std::borrow::Cow;

/// What the API server checks, and what [`parse`] takes.
pub const PATTERN: &str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";

/// A duration as it was written.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(transparent)]
pub struct Duration(pub String);

impl schemars::JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "pattern": PATTERN})
    }
}

/// Nanoseconds of a duration: one to four numbers of at most five digits with their units; none where it is not written so.
#[must_use]
pub fn parse(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut sum = 0_u64;
    for count in 0..=4 {
        if rest.is_empty() {
            return (count > 0).then_some(sum);
        }
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, behind) = rest.split_at_checked(digits.min(6))?;
        if !(1..=5).contains(&number.len()) {
            return None;
        }
        let (unit, behind) = unit(behind)?;
        // At most 99999 hours each: 4 × 3.6 × 10^17 fit.
        sum += number.parse::<u64>().ok()? * unit;
        rest = behind;
    }
    None
}

fn unit(text: &str) -> Option<(u64, &str)> {
    const MILLISECOND: u64 = 1_000_000;
    let units = [
        ("ms", MILLISECOND),
        ("h", 3_600_000 * MILLISECOND),
        ("m", 60_000 * MILLISECOND),
        ("s", 1_000 * MILLISECOND),
    ];
    units.into_iter().find_map(|(unit, value)| Some((value, text.strip_prefix(unit)?)))
}

/// Writes nanoseconds for people: in the largest unit that leaves nothing over.
#[must_use]
pub fn shown(ns: u64) -> String {
    let units = [("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000)];
    let whole = units.into_iter().find(|(_, size)| ns > 0 && ns.is_multiple_of(*size));
    whole.map_or_else(|| format!("{}ms", ns / 1_000_000), |(unit, size)| format!("{}{unit}", ns / size))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn reads_what_the_proposal_allows() {
        let table = [
            ("0h", Some(0)),
            ("0s", Some(0)),
            ("1ms", Some(1)),
            ("1s", Some(1_000)),
            ("1m", Some(60_000)),
            ("1h", Some(3_600_000)),
            ("1h30m", Some(5_400_000)),
            ("30m1h", Some(5_400_000)),
            ("10s500ms", Some(10_500)),
            ("99999h99999m99999s99999ms", Some(366_096_438_999)),
            ("1h1m1s1ms1h", None),
            ("", None),
            ("1", None),
            ("s", None),
            ("1.5s", None),
            ("-1s", None),
            ("1us", None),
            ("1S", None),
            ("100000s", None),
            (" 1s", None),
            ("1s ", None),
            ("1día", None),
        ];
        for (text, milliseconds) in table {
            let expected = milliseconds.map(|value: u64| value * 1_000_000);
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_the_pattern(text in "([0-9]{0,6}(h|m|s|ms|x)?){0,5}") {
            let pattern = regex::Regex::new(PATTERN).unwrap();
            assert_eq!(parse(&text).is_some(), pattern.is_match(&text), "{text}");
        }

        #[test]
        fn what_is_shown_is_read_again(seconds in 0_u64..90_000, rest in 0_u64..2) {
            let ns = seconds * 1_000_000_000 + rest * 1_000_000;
            if shown(ns).len() < 8 {
                assert_eq!(parse(&shown(ns)), Some(ns));
            }
        }
    }
}
