//! When a server wants to be asked again: `Retry-After` (RFC 9110, section 10.2.3) and `grpc-retry-pushback-ms` (gRFC A6).
//! Pure: the wall clock is an argument. Dates in the obsolete formats of RFC 850 and asctime are not understood.

use time::{OffsetDateTime, format_description::well_known::Rfc2822};

const SECOND_NS: u64 = 1_000_000_000;

/// What a server says about the next attempt of a gRPC call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushback {
    /// No more attempts.
    Never,
    /// After so many nanoseconds.
    After(u64),
}

/// Nanoseconds from now; `wall_seconds` is the Unix time now. None where the value is neither seconds nor an HTTP date.
#[must_use]
pub fn parse_retry_after(value: &[u8], wall_seconds: u64) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?.trim_matches([' ', '\t']);
    let seconds = if is_number(text) {
        // More digits than a number holds are a long time.
        text.parse().unwrap_or(u64::MAX)
    } else {
        let at = OffsetDateTime::parse(text, &Rfc2822).ok()?.unix_timestamp();
        u64::try_from(at).unwrap_or(0).saturating_sub(wall_seconds)
    };
    Some(seconds.saturating_mul(SECOND_NS))
}

/// Milliseconds; a negative or malformed value forbids, as the specification says.
#[must_use]
pub fn parse_pushback(value: &[u8]) -> Pushback {
    let number = std::str::from_utf8(value).ok().filter(|text| is_number(text));
    let milliseconds: Option<u64> = number.and_then(|text| text.parse().ok());
    milliseconds.map_or(Pushback::Never, |value| Pushback::After(value.saturating_mul(SECOND_NS / 1000)))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after() {
        const NOW: u64 = 784_903_526;
        let table: [(&str, Option<u64>); 10] = [
            ("0", Some(0)),
            (" 120\t", Some(120 * SECOND_NS)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Tue, 15 Nov 1994 12:45:36 GMT", Some(10 * SECOND_NS)),
            ("Tue, 15 Nov 1994 12:45:16 GMT", Some(0)),
            ("-1", None),
            ("1.5", None),
            ("", None),
            ("tomorrow", None),
            ("\u{661}", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_retry_after(text.as_bytes(), NOW), expected, "{text}");
        }
        assert_eq!(parse_retry_after(&[0xff], NOW), None);
    }

    #[test]
    fn pushback() {
        assert_eq!(parse_pushback(b"250"), Pushback::After(SECOND_NS / 4));
        for text in ["-1", "", "soon", "1.5", "99999999999999999999999"] {
            assert_eq!(parse_pushback(text.as_bytes()), Pushback::Never, "{text}");
        }
    }
}
