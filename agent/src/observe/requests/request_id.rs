//! `X-Request-Id`: kept where the client gave one, else made: a random UUID (RFC 9562, version 4). Pure: chance is an argument.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::trace::write_hexadecimal;

/// The header.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request; where it has none, or an empty one, it gets one, which goes on in `headers`.
pub fn of_or_new(headers: &mut HeaderMap, random: &mut impl FnMut() -> u64) -> HeaderValue {
    if let Some(id) = headers.get(X_REQUEST_ID).filter(|id| !id.is_empty()) {
        return id.clone();
    }
    let Ok(id) = HeaderValue::from_bytes(&uuid(random)) else {
        // Hexadecimal digits and dashes are always a header's value.
        return HeaderValue::from_static("-");
    };
    headers.insert(X_REQUEST_ID, id.clone());
    id
}

/// As text, 36 bytes.
fn uuid(random: &mut impl FnMut() -> u64) -> [u8; 36] {
    let bits = u128::from(random()) << 64 | u128::from(random());
    let bits = bits & !(0xf << 76) & !(0b11 << 62) | 4 << 76 | 0b10 << 62;
    let mut text = [b'-'; 36];
    for (start, length, shift) in [(0, 8, 96), (9, 4, 80), (14, 4, 64), (19, 4, 48), (24, 12, 0)] {
        write_hexadecimal(text.get_mut(start..start + length).unwrap_or_default(), bits >> shift);
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn an_id_is_made_once_and_then_kept() {
        let mut headers = HeaderMap::new();
        let made = of_or_new(&mut headers, &mut || u64::MAX);
        assert_eq!(made, "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(headers.get(X_REQUEST_ID), Some(&made));
        assert_eq!(of_or_new(&mut headers, &mut || 0), made);
        headers.insert(X_REQUEST_ID, HeaderValue::from_static(""));
        assert_eq!(of_or_new(&mut headers, &mut || 0), "00000000-0000-4000-8000-000000000000");
        headers.insert(X_REQUEST_ID, HeaderValue::from_static("theirs 7"));
        assert_eq!(of_or_new(&mut headers, &mut || 0), "theirs 7");
    }

    #[test]
    fn each_bit_has_its_place() {
        let mut draws = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210].into_iter();
        let text = uuid(&mut || draws.next().unwrap());
        assert_eq!(&text, b"01234567-89ab-4def-bedc-ba9876543210");
    }
}
