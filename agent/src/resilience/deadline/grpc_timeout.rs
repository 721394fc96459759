//! The `grpc-timeout` header: up to eight digits and a unit (gRPC over HTTP/2, "Requests"). Pure. Refuses anything else.

/// Most digits of the value.
const DIGITS: usize = 8;
/// Units from the finest, with their nanoseconds.
const UNITS: [(u8, u64); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60_000_000_000),
    (b'H', 3_600_000_000_000),
];

/// The time in nanoseconds; none where the header is malformed.
#[must_use]
pub fn parse(value: &[u8]) -> Option<u64> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > DIGITS {
        return None;
    }
    let (_, unit_ns) = UNITS.iter().find(|(letter, _)| letter == unit)?;
    let mut number = 0_u64;
    for digit in digits {
        number = number * 10 + u64::from(digit.checked_sub(b'0').filter(|value| *value < 10)?);
    }
    Some(number.saturating_mul(*unit_ns))
}

/// Writes a time in the finest unit that fits, rounded down: the called side must not think that it has more time.
#[must_use]
pub fn format(ns: u64) -> String {
    let fits = |(_, unit_ns): &&(u8, u64)| ns / unit_ns <= 99_999_999;
    // The longest time that 64 bits hold fits into hours.
    let (letter, unit_ns) = UNITS.iter().find(fits).copied().unwrap_or((b'H', 3_600_000_000_000));
    format!("{}{}", ns / unit_ns, char::from(letter))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parses_and_refuses() {
        let table: [(&str, Option<u64>); 14] = [
            ("1n", Some(1)),
            ("5u", Some(5_000)),
            ("100m", Some(100_000_000)),
            ("1S", Some(1_000_000_000)),
            ("2M", Some(120_000_000_000)),
            ("1H", Some(3_600_000_000_000)),
            ("99999999H", Some(u64::MAX)),
            ("0S", Some(0)),
            ("100000000n", None),
            ("S", None),
            ("", None),
            ("-1S", None),
            ("1s", None),
            ("1 S", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn formats_in_the_finest_unit() {
        let table = [(0, "0n"), (99_999_999, "99999999n"), (100_000_000, "100000u"), (u64::MAX, "5124095H")];
        for (ns, expected) in table {
            assert!(format(ns).len() <= 9);
            if ns != u64::MAX {
                assert_eq!(format(ns), expected);
            }
        }
    }

    proptest! {
        #[test]
        fn comes_back_never_longer(ns: u64) {
            let back = parse(format(ns).as_bytes());
            prop_assert!(back.is_some_and(|back| back <= ns && ns - back <= ns / 1_000_000), "{} {:?}", ns, back);
        }

        #[test]
        fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let _ = parse(&bytes);
        }
    }
}
