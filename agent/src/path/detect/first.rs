//! What a connection's first bytes say, from the client and from the server. Pure.
//!
//! Refused as HTTP: lines of other protocols that begin like it (memcached's `get key`, RTSP's and SIP's absolute
//! targets, NATS' `CONNECT {`), so that a wrong guess never answers 400 to what is not HTTP.

/// RFC 9113, section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The longest method that is believed; IANA's longest is `UPDATEREDIRECTREF`.
const LONGEST_METHOD: usize = 24;

/// So many bytes are enough for [`classify`] to decide.
pub const WINDOW: usize = 64;

/// What a client's first bytes look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guess {
    /// The beginning of an HTTP/1 request.
    Http1,
    /// The preface of HTTP/2 with prior knowledge.
    Http2,
    /// A TLS handshake record.
    Tls,
    /// None of these, or the end of the stream.
    Other,
    /// Too few bytes to say.
    More,
}

/// What a server's first bytes look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoke {
    /// SETTINGS of HTTP/2, which a server may send before it has heard anything.
    Http2,
    /// An HTTP/1 answer to nobody, as `408` to a client that is silent: this connection ends, and nothing is learnt.
    Http1,
    /// A greeting of some other protocol.
    Other,
    /// It closed without a word.
    Ended,
}

/// Decides on the first bytes of a client.
#[must_use]
pub fn classify(bytes: &[u8]) -> Guess {
    if bytes.starts_with(PREFACE) {
        return Guess::Http2;
    }
    if PREFACE.starts_with(bytes) {
        return Guess::More;
    }
    match bytes {
        // Handshake record of version 3.x (RFC 8446, section 5.1).
        [0x16, 0x03, ..] => Guess::Tls,
        [0x16] => Guess::More,
        // One empty line before a request is to be ignored (RFC 9112, section 2.2).
        [b'\r'] | [b'\r', b'\n'] => Guess::More,
        [b'\r', b'\n', request @ ..] => request_line(request),
        request => request_line(request),
    }
}

/// `METHOD SP target`: the method in capitals, the target in one of the forms that RFC 9112, section 3.2 knows.
fn request_line(bytes: &[u8]) -> Guess {
    let length = bytes.iter().take_while(|byte| byte.is_ascii_uppercase() || **byte == b'-').count();
    let (method, rest) = bytes.split_at(length);
    if length > LONGEST_METHOD {
        return Guess::Other;
    }
    match rest {
        [] | [b' '] => Guess::More,
        [b' ', target @ ..] if length > 0 => request_target(method, target),
        _ => Guess::Other,
    }
}

fn request_target(method: &[u8], target: &[u8]) -> Guess {
    let is_authority = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'[';
    match target {
        [b'/', ..] => Guess::Http1,
        [b'*', ..] if method == b"OPTIONS" => Guess::Http1,
        [first, ..] if method == b"CONNECT" && is_authority(first) => Guess::Http1,
        _ => absolute(target),
    }
}

fn absolute(target: &[u8]) -> Guess {
    let scheme = b"http";
    let same = target.iter().zip(scheme).all(|(a, b)| a.eq_ignore_ascii_case(b));
    match (same, target.len() >= scheme.len()) {
        (false, _) => Guess::Other,
        (true, true) => Guess::Http1,
        (true, false) => Guess::More,
    }
}

/// Decides on the first bytes of a server that spoke before its client; empty is its end.
#[must_use]
pub fn classify_server(bytes: &[u8]) -> Spoke {
    match bytes {
        [] => Spoke::Ended,
        // Length below 2^14 and of whole settings, type SETTINGS, no flags, stream 0 (RFC 9113, sections 4.1 and 6.5).
        [0, high, low, 4, 0, 0, 0, 0, 0, ..]
            if *high < 64 && u16::from_be_bytes([*high, *low]).is_multiple_of(6) =>
        {
            Spoke::Http2
        }
        [b'H', b'T', b'T', b'P', b'/', ..] => Spoke::Http1,
        _ => Spoke::Other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn clients() {
        use Guess::{Http1, Http2, More, Other, Tls};
        let table: [(&[u8], Guess); 38] = [
            (b"", More),
            (b"G", More),
            (b"GET", More),
            (b"GET ", More),
            (b"GET /", Http1),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Http1),
            (b"POST /a?b", Http1),
            (b"PROPFIND /dav", Http1),
            (b"M-SEARCH /x", Http1),
            (b"\r\nGET /", Http1),
            (b"\r\n", More),
            (b"\r", More),
            (b"\r\n\r\nGET /", Other),
            (b"GET http://a/", Http1),
            (b"GET HT", More),
            (b"GET rtsp://a/", Other),
            (b"OPTIONS * HTTP/1.1", Http1),
            (b"OPTIONS sip:a@b SIP/2.0", Other),
            (b"GET *", Other),
            (b"CONNECT a:443 HTTP/1.1", Http1),
            (b"CONNECT [::1]:443", Http1),
            (b"CONNECT {\"verbose\":false}\r\n", Other),
            (PREFACE, Http2),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12", Http2),
            (b"PRI * HTTP/2.0\r\n\r\nS", More),
            (b"P", More),
            (b"PRI /", Http1),
            (b"\x16\x03\x01\x02\0\x01", Tls),
            (b"\x16", More),
            (b"\x16\x02", Other),
            (b"get key\r\n", Other),
            (b"set key 0 0 1\r\n", Other),
            (b"*1\r\n$4\r\nPING\r\n", Other),
            (b"PING\r\n", Other),
            (b"EHLO example.com\r\n", Other),
            (b"SSH-2.0-OpenSSH_9.9\r\n", Other),
            (b"\0\0\0\x08\x04\xd2\x16\x2f", Other),
            (b"AMQP\0\0\x09\x01", Other),
        ];
        for (bytes, guess) in table {
            assert_eq!(classify(bytes), guess, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn servers() {
        let table: [(&[u8], Spoke); 8] = [
            (b"", Spoke::Ended),
            (b"\0\0\x12\x04\0\0\0\0\0\0\x03", Spoke::Http2),
            (b"\0\0\0\x04\0\0\0\0\0", Spoke::Http2),
            (b"\0\0\x05\x04\0\0\0\0\0", Spoke::Other),
            (b"\0\0\0\x04\0", Spoke::Other),
            (b"HTTP/1.1 408 Request Timeout\r\n", Spoke::Http1),
            (b"220 mail ESMTP\r\n", Spoke::Other),
            (b"J\0\0\0\x0a8.0.36", Spoke::Other),
        ];
        for (bytes, spoke) in table {
            assert_eq!(classify_server(bytes), spoke, "{bytes:?}");
        }
    }

    proptest::proptest! {
        /// More bytes never change what was decided, and a full window always decides.
        #[test]
        fn a_decision_stays(text in "[A-Z\\-]{0,30}( ([/*hH]|http|x)?.{0,40})?", cut in 0_usize..100) {
            let bytes = text.as_bytes();
            let some = &bytes[..cut.min(bytes.len())];
            match classify(some) {
                Guess::More => {}
                decided => assert_eq!(classify(bytes), decided),
            }
            if bytes.len() >= WINDOW {
                assert_ne!(classify(bytes), Guess::More);
            }
        }

        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let _ = (classify(&bytes), classify_server(&bytes));
        }
    }
}
