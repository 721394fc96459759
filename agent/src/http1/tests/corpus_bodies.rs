//! A corpus of requests with bodies whose end two hops may see at different places.

use super::transcript::{check, requests};

/// Requests that all begin alike.
fn check_posts(table: &[(&str, &str)]) {
    let table: Vec<_> =
        table.iter().map(|(rest, told)| (format!("POST / HTTP/1.1\r\nHost: h\r\n{rest}"), *told)).collect();
    let table: Vec<_> = table.iter().map(|(raw, told)| (raw.as_str(), *told)).collect();
    check(&table, requests);
}

#[test]
fn lengths() {
    const NEXT: &str = "GET /2 HTTP/1.1\r\nHost: h\r\n\r\n";
    check_posts(&[
        ("Content-Length: 3\r\n\r\nabc", "POST /@h[abc]"),
        (&format!("Content-Length: 3\r\n\r\nabc{NEXT}"), "POST /@h[abc] GET /2@h"),
        (&format!("Content-Length: 0\r\n\r\n{NEXT}"), "POST /@h GET /2@h"),
        (&format!("\r\n{NEXT}"), "POST /@h GET /2@h"),
        (
            "Content-Length: 3\r\n\r\nab",
            "POST /@h[ab<ended before its end: closed within the body> \
            refused 400 the body before was not read to its end",
        ),
        ("Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "POST /@h[abc]"),
        ("Content-Length: 3, 3\r\n\r\nabc", "POST /@h[abc]"),
        ("Content-Length: 003\r\n\r\nabc", "POST /@h[abc]"),
        ("Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", "refused 400 differing Content-Length"),
        ("Content-Length: 3,4\r\n\r\nabc", "refused 400 differing Content-Length"),
        ("Content-Length: +3\r\n\r\nabc", "refused 400 invalid Content-Length"),
        ("Content-Length: -3\r\n\r\nabc", "refused 400 invalid Content-Length"),
        ("Content-Length: 0x3\r\n\r\nabc", "refused 400 invalid Content-Length"),
        ("Content-Length: 3 3\r\n\r\nabc", "refused 400 invalid Content-Length"),
        ("Content-Length: 3,\r\n\r\nabc", "refused 400 invalid Content-Length"),
        ("Content-Length:\r\n\r\nabc", "refused 400 invalid Content-Length"),
        ("Content-Length: 3.0\r\n\r\nabc", "refused 400 invalid Content-Length"),
        ("Content-Length: 18446744073709551616\r\n\r\nabc", "refused 400 invalid Content-Length"),
        ("Content-Length: \u{b2}\r\n\r\nabc", "refused 400 invalid Content-Length"),
        ("Content-Length : 3\r\n\r\nabc", "refused 400 invalid header name"),
        ("Content-Length: 3\r\n 0\r\n\r\nabc", "refused 400 obsolete line folding"),
    ]);
    check(
        &[
            (
                "CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
                "refused 400 CONNECT with a body",
            ),
            (
                "CONNECT a:1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                "refused 400 CONNECT with a body",
            ),
            ("POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", "POST /@-![abc]"),
            (
                "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                "refused 400 Transfer-Encoding in HTTP/1.0",
            ),
        ],
        requests,
    );
}

#[test]
fn codings() {
    const BOTH: &str = "refused 400 both Transfer-Encoding and Content-Length";
    const NOT: &str = "refused 400 Transfer-Encoding is not chunked";
    check_posts(&[
        ("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "POST /@h"),
        ("Transfer-Encoding: \t CHUNKED \t\r\n\r\n0\r\n\r\n", "POST /@h"),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", BOTH),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", BOTH),
        ("Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nabcde", BOTH),
        ("Transfer-Encoding:\r\nContent-Length: 5\r\n\r\nabcde", BOTH),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", NOT),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", NOT),
        ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", NOT),
        ("Transfer-Encoding: identity\r\n\r\n0\r\n\r\n", NOT),
        ("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", NOT),
        ("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", NOT),
        ("Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", NOT),
        ("Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", NOT),
        ("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "refused 501 unknown Transfer-Encoding"),
        ("Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", "refused 501 unknown Transfer-Encoding"),
        ("Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n", "refused 501 unknown Transfer-Encoding"),
        ("Transfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n", "refused 400 invalid header value"),
        ("Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", "refused 400 invalid header name"),
        ("Transfer-Encoding\n: chunked\r\n\r\n0\r\n\r\n", "refused 400 bare LF"),
        ("Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", "refused 400 obsolete line folding"),
        // Another name: no coding, so what follows is the next request.
        ("Transfer_Encoding: chunked\r\n\r\n0\r\n\r\n", "POST /@h refused 400 invalid request line"),
    ]);
}
