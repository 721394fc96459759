//! JSON written straight into bytes. At full load the access log is tens of thousands of lines a second, and the formatter of the
//! standard library would cost more than all else in them. Pure.

use super::requests::trace::write_hexadecimal;
use serde::Serialize;
use std::{
    fmt::Arguments,
    io::Write,
    net::{IpAddr, SocketAddr},
};
use time::OffsetDateTime;

/// `,"name":`.
pub(super) fn field(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// `,"name":"value"`, escaped.
pub(super) fn text_field(out: &mut Vec<u8>, name: &str, value: &str) {
    field(out, name);
    text(out, value);
}

/// `,"name":value`.
pub(super) fn number_field(out: &mut Vec<u8>, name: &str, value: u64) {
    field(out, name);
    number(out, value);
}

/// `,"name":{...}` of the fields that `fill` appends, each with a comma before it.
pub(super) fn object_field(out: &mut Vec<u8>, name: &str, fill: impl FnOnce(&mut Vec<u8>)) {
    field(out, name);
    let start = out.len();
    fill(out);
    // The first field began with a comma, which becomes the object's beginning.
    match out.get_mut(start) {
        Some(first) => *first = b'{',
        None => out.push(b'{'),
    }
    out.push(b'}');
}

/// `,"name":value` for whatever serialises.
pub(super) fn value_field<T: Serialize>(out: &mut Vec<u8>, name: &str, one: &T) {
    field(out, name);
    value(out, one);
}

/// A JSON string, escaped.
pub(crate) fn text(out: &mut Vec<u8>, text: &str) {
    if text.bytes().any(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
        return value(out, text);
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// Decimal.
pub(super) fn number(out: &mut Vec<u8>, value: u64) {
    padded(out, value, 1);
}

/// Decimal with at least so many digits, at most 20.
pub(super) fn padded(out: &mut Vec<u8>, mut value: u64, digits: usize) {
    let mut text = [b'0'; 20];
    let mut used = 0;
    for digit in text.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
        used += 1;
        if value == 0 && used >= digits {
            break;
        }
    }
    out.extend_from_slice(text.get(text.len() - used..).unwrap_or_default());
}

/// So many hexadecimal digits, in quotation marks.
pub(super) fn hexadecimal(out: &mut Vec<u8>, value: u128, digits: usize) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + digits, b'0');
    write_hexadecimal(out.get_mut(start..).unwrap_or_default(), value);
    out.push(b'"');
}

/// Address and port, in quotation marks.
pub(super) fn address(out: &mut Vec<u8>, address: SocketAddr) {
    out.push(b'"');
    match address.ip() {
        IpAddr::V4(ip) => {
            for (place, octet) in ip.octets().into_iter().enumerate() {
                if place > 0 {
                    out.push(b'.');
                }
                number(out, octet.into());
            }
            out.push(b':');
            number(out, address.port().into());
        }
        IpAddr::V6(_) => put(out, format_args!("{address}")),
    }
    out.push(b'"');
}

/// RFC 3339 in UTC with milliseconds, in quotation marks.
pub(super) fn time(out: &mut Vec<u8>, since_1970_ns: u64) {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(since_1970_ns))
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    out.push(b'"');
    padded(out, u64::from(moment.year().unsigned_abs()), 4);
    let parts: [(u8, u64, usize); 6] = [
        (b'-', u8::from(moment.month()).into(), 2),
        (b'-', moment.day().into(), 2),
        (b'T', moment.hour().into(), 2),
        (b':', moment.minute().into(), 2),
        (b':', moment.second().into(), 2),
        (b'.', moment.millisecond().into(), 3),
    ];
    for (separator, value, digits) in parts {
        out.push(separator);
        padded(out, value, digits);
    }
    out.extend_from_slice(b"Z\"");
}

fn value<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // Writing to a vector does not fail, and neither do the plain values that come here; `null` keeps the line well-formed.
    let before = out.len();
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.truncate(before);
        out.extend_from_slice(b"null");
    }
}

/// Writing to a vector does not fail.
fn put(out: &mut Vec<u8>, text: Arguments<'_>) {
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_and_times() {
        let table = [(0, 1, "0"), (7, 3, "007"), (1234, 3, "1234"), (u64::MAX, 20, "18446744073709551615")];
        for (value, digits, expected) in table {
            assert_eq!(written(|out| padded(out, value, digits)), expected);
        }
        assert_eq!(written(|out| hexadecimal(out, 0xab, 4)), "\"00ab\"");
        assert_eq!(written(|out| time(out, 1_700_000_000_045_000_000)), "\"2023-11-14T22:13:20.045Z\"");
    }

    proptest! {
        #[test]
        fn as_the_standard_library_and_serde_write_it(words in ".{0,20}", value: u64, ip: std::net::IpAddr, port: u16) {
            prop_assert_eq!(written(|out| text(out, &words)), serde_json::to_string(&words).unwrap());
            prop_assert_eq!(written(|out| number(out, value)), value.to_string());
            let place = SocketAddr::new(ip, port);
            prop_assert_eq!(written(|out| address(out, place)), format!("\"{place}\""));
        }
    }
}
