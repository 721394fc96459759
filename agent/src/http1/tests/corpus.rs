//! A corpus of request heads, most of them meant to be read differently by two hops. Those with bodies: `corpus_bodies`.

use super::transcript::{check, requests};

#[test]
fn targets_and_methods() {
    check(
        &[
            ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET /@h"),
            ("GET /a/../b//c?d=e&f HTTP/1.1\r\nHost: h\r\n\r\n", "GET /a/../b//c?d=e&f@h"),
            ("GET /[{|}]\"%00 HTTP/1.1\r\nHost: h\r\n\r\n", "GET /[{|}]\"%00@h"),
            ("PROPFIND /x HTTP/1.1\r\nHost: h\r\n\r\n", "PROPFIND /x@h"),
            ("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS *@h"),
            ("GET * HTTP/1.1\r\nHost: h\r\n\r\n", "refused 400 invalid request target"),
            ("OPTIONS ** HTTP/1.1\r\nHost: h\r\n\r\n", "refused 400 invalid request target"),
            ("CONNECT db:5432 HTTP/1.1\r\nHost: other\r\n\r\n", "CONNECT db:5432@db:5432"),
            ("CONNECT [::1]:443 HTTP/1.1\r\nHost: h\r\n\r\n", "CONNECT [::1]:443@[::1]:443"),
            ("CONNECT db HTTP/1.1\r\nHost: h\r\n\r\n", "refused 400 CONNECT without a host and port"),
            ("CONNECT db: HTTP/1.1\r\nHost: h\r\n\r\n", "refused 400 CONNECT without a host and port"),
            ("CONNECT /db HTTP/1.1\r\nHost: h\r\n\r\n", "refused 400 CONNECT without a host and port"),
            ("CONNECT u@db:1 HTTP/1.1\r\nHost: h\r\n\r\n", "refused 400 CONNECT without a host and port"),
            (
                "CONNECT http://db:1/ HTTP/1.1\r\nHost: h\r\n\r\n",
                "refused 400 CONNECT without a host and port",
            ),
            ("GET db:5432 HTTP/1.1\r\nHost: h\r\n\r\n", "refused 400 invalid request target"),
            ("GET a/b HTTP/1.1\r\nHost: h\r\n\r\n", "refused 400 invalid request target"),
            ("GET http://other:81/a?b HTTP/1.1\r\nHost: h\r\n\r\n", "GET /a?b@other:81"),
            ("GET HTTP://other HTTP/1.1\r\nHost: h\r\n\r\n", "GET /@other"),
            ("GET http://other?a/b HTTP/1.1\r\nHost: h\r\n\r\n", "GET /?a/b@other"),
            ("OPTIONS http://other HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS *@other"),
            (
                "GET http://u:p@other/ HTTP/1.1\r\nHost: h\r\n\r\n",
                "refused 400 invalid host in the request target",
            ),
            ("GET http:///a HTTP/1.1\r\nHost: h\r\n\r\n", "refused 400 invalid host in the request target"),
            (
                "GET http://a\\b/ HTTP/1.1\r\nHost: h\r\n\r\n",
                "refused 400 invalid host in the request target",
            ),
            ("GET ftp://other/ HTTP/1.1\r\nHost: h\r\n\r\n", "refused 400 invalid request target"),
            ("GET http://other/ HTTP/1.1\r\n\r\n", "refused 400 no Host"),
            ("GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n", "refused 400 fragment in the request target"),
            ("GET http://other#b HTTP/1.1\r\nHost: h\r\n\r\n", "refused 400 fragment in the request target"),
            ("GET  / HTTP/1.1\r\nHost: h\r\n\r\n", "refused 400 invalid request line"),
            ("GET /  HTTP/1.1\r\nHost: h\r\n\r\n", "refused 400 invalid HTTP version"),
            ("GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n", "refused 400 invalid request line"),
            ("GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", "refused 400 invalid HTTP version"),
            ("GET /\u{1} HTTP/1.1\r\nHost: h\r\n\r\n", "refused 400 invalid request line"),
            ("GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n", "refused 400 invalid request line"),
            ("GET /\u{7f} HTTP/1.1\r\nHost: h\r\n\r\n", "refused 400 invalid request line"),
            (" GET / HTTP/1.1\r\nHost: h\r\n\r\n", "refused 400 invalid request line"),
            ("G(T / HTTP/1.1\r\nHost: h\r\n\r\n", "refused 400 invalid request line"),
            ("G\u{e9}T / HTTP/1.1\r\nHost: h\r\n\r\n", "refused 400 invalid request line"),
        ],
        requests,
    );
}

#[test]
fn versions() {
    check(
        &[
            ("GET / HTTP/1.0\r\n\r\n", "GET /@-!"),
            ("GET / HTTP/1.0\r\nHost: h\r\nConnection: Keep-Alive\r\n\r\n", "GET /@h"),
            ("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", "GET /@-!"),
            ("GET / HTTP/1.1\r\nHost: h\r\nConnection: CLOSE\r\n\r\n", "GET /@h!"),
            ("GET / HTTP/1.2\r\nHost: h\r\n\r\n", "refused 505 unknown HTTP version"),
            ("GET / HTTP/2.0\r\nHost: h\r\n\r\n", "refused 505 unknown HTTP version"),
            ("GET / HTTP/0.9\r\nHost: h\r\n\r\n", "refused 505 unknown HTTP version"),
            ("GET / HTTP/11\r\nHost: h\r\n\r\n", "refused 400 invalid HTTP version"),
            ("GET / HTTP/1.1x\r\nHost: h\r\n\r\n", "refused 400 malformed line end"),
            ("GET / http/1.1\r\nHost: h\r\n\r\n", "refused 400 invalid HTTP version"),
            ("GET / HTTP/1.1 \r\nHost: h\r\n\r\n", "refused 400 malformed line end"),
            ("GET /\r\n\r\n", "refused 400 invalid request line"),
            ("\x16\x03\x01\r\n\r\n", "refused 400 invalid request line"),
        ],
        requests,
    );
}

#[test]
fn hosts() {
    check(
        &[
            ("GET / HTTP/1.1\r\n\r\n", "refused 400 no Host"),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "refused 400 several Host"),
            ("GET / HTTP/1.1\r\nHost: a\r\nhOST: b\r\n\r\n", "refused 400 several Host"),
            ("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", "refused 400 several Host"),
            ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", "refused 400 invalid Host"),
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n", "refused 400 invalid Host"),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "refused 400 invalid Host"),
            ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", "refused 400 invalid Host"),
            ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "refused 400 invalid Host"),
            ("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", "refused 400 invalid Host"),
            ("GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", "refused 400 invalid Host"),
            ("GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n", "refused 400 invalid Host"),
            ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", "refused 400 invalid Host"),
            ("GET / HTTP/1.1\r\nHost: [zz]\r\n\r\n", "refused 400 invalid Host"),
            ("GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", "refused 400 invalid Host"),
            ("GET / HTTP/1.1\r\nHost: \u{e9}\r\n\r\n", "refused 400 invalid Host"),
            ("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "GET /@[::1]:80"),
            ("GET / HTTP/1.1\r\nHost: a_b.c-d.:8080\r\n\r\n", "GET /@a_b.c-d.:8080"),
            ("GET / HTTP/1.1\r\nHost: a:\r\n\r\n", "GET /@a:"),
            ("GET / HTTP/1.1\r\nHost: \t a \t\r\n\r\n", "GET /@a"),
        ],
        requests,
    );
}

#[test]
fn lines_and_fields() {
    check(
        &[
            ("GET / HTTP/1.1\nHost: h\n\n", "refused 400 bare LF"),
            ("GET / HTTP/1.1\r\nHost: h\n\r\n", "refused 400 bare LF"),
            ("GET / HTTP/1.1\r\nHost: h\r\nX: a\nY: b\r\n\r\n", "refused 400 bare LF"),
            ("GET / HTTP/1.1\r\nHost: h\r\n\n", "refused 400 bare LF"),
            ("GET / HTTP/1.1\r\nHost: h\r\nX: a\rY: b\r\n\r\n", "refused 400 bare CR"),
            ("GET / HTTP/1.1\r\nHost: h\r\r\n\r\n", "refused 400 bare CR"),
            ("GET / HTTP/1.1\r\nHost: h\r\n\rX: y\r\n\r\n", "refused 400 bare CR"),
            ("GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", "refused 400 obsolete line folding"),
            ("GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n\tb\r\n\r\n", "refused 400 obsolete line folding"),
            ("GET / HTTP/1.1\r\n Host: h\r\n\r\n", "refused 400 obsolete line folding"),
            ("GET / HTTP/1.1\r\nHost : h\r\n\r\n", "refused 400 invalid header name"),
            ("GET / HTTP/1.1\r\nHost\t: h\r\n\r\n", "refused 400 invalid header name"),
            ("GET / HTTP/1.1\r\nHost: h\r\n: x\r\n\r\n", "refused 400 invalid header name"),
            ("GET / HTTP/1.1\r\nHost: h\r\nNoColon\r\n\r\n", "refused 400 invalid header name"),
            ("GET / HTTP/1.1\r\nHost: h\r\nX@Y: x\r\n\r\n", "refused 400 invalid header name"),
            ("GET / HTTP/1.1\r\nHost: h\r\nX\u{e9}: x\r\n\r\n", "refused 400 invalid header name"),
            ("GET / HTTP/1.1\r\nHost: h\r\nX: \0\r\n\r\n", "refused 400 invalid header value"),
            ("GET / HTTP/1.1\r\nHost: h\r\nX: \u{b}\r\n\r\n", "refused 400 invalid header value"),
            ("GET / HTTP/1.1\r\nHost: h\r\nX: \u{7f}\r\n\r\n", "refused 400 invalid header value"),
            ("GET / HTTP/1.1\r\nHost: h\r\nX: \u{e9}\r\nY:\r\n\r\n", "GET /@h"),
            ("\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET /@h"),
            ("\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", "refused 400 empty line before the head"),
            ("\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", "refused 400 bare LF"),
            ("\rGET / HTTP/1.1\r\nHost: h\r\n\r\n", "refused 400 bare CR"),
            ("\r\n", ""),
            ("", ""),
            ("GET / HTTP/1.1\r\nHost: h\r\n", "cut 400 closed within the head"),
            ("G", "cut 400 closed within the head"),
            (
                "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\nGET /3 HTTP/1.1\nHost: h\r\n\r\n",
                "GET /1@h GET /2@h refused 400 bare LF",
            ),
        ],
        requests,
    );
}

#[test]
fn connection_options() {
    const START: &str = "GET / HTTP/1.1\r\nHost: h\r\n";
    let table = [
        ("Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "GET /@h^"),
        ("Connection: keep-alive, upgrade\r\nUpgrade: foo/2\r\n\r\n", "GET /@h^"),
        ("Upgrade: websocket\r\n\r\n", "GET /@h"),
        ("Connection: Upgrade\r\n\r\n", "GET /@h"),
        ("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n", "GET /@h"),
        ("Connection: Upgrade\r\nUpgrade: websocket, H2C\r\n\r\n", "GET /@h"),
        ("Connection: ,, close ,\r\n\r\n", "GET /@h!"),
        ("Expect: 100-continue\r\n\r\n", "GET /@h"),
        ("Expect: 100-Continue\r\nContent-Length: 1\r\n\r\na", "GET /@h?[a]"),
        ("Expect: 200-ok\r\nContent-Length: 1\r\n\r\na", "GET /@h[a]"),
    ];
    let table: Vec<_> = table.iter().map(|(rest, told)| (format!("{START}{rest}"), *told)).collect();
    let table: Vec<_> = table.iter().map(|(raw, told)| (raw.as_str(), *told)).collect();
    check(&table, requests);
}

#[test]
fn lengths_of_heads() {
    let long = "a".repeat(600);
    let cases = [
        (format!("GET /{long} HTTP/1.1\r\nHost: h\r\n\r\n"), "refused 414 first line too long"),
        (format!("GET / HTTP/1.1\r\nHost: h\r\nX: {long}\r\n\r\n"), "refused 431 head too long"),
        (
            format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "X: y\r\n".repeat(8)),
            "refused 431 too many headers",
        ),
        (format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "X: y\r\n".repeat(7)), "GET /@h"),
    ];
    let table: Vec<_> = cases.iter().map(|(raw, told)| (raw.as_str(), *told)).collect();
    check(&table, requests);
    // Exactly as long as allowed, and one more.
    for (more, told) in [(0, "GET /@h"), (1, "refused 431 head too long")] {
        let start = "GET / HTTP/1.1\r\nHost: h\r\nX: ";
        let raw = format!("{start}{}\r\n\r\n", "a".repeat(512 - start.len() - 4 + more));
        check(&[(raw.as_str(), told)], requests);
    }
}
