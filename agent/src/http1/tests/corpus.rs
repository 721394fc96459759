//! The heads of `cases`, and some that need more than a table. Those with bodies: `corpus_bodies`.

use super::{
    cases,
    transcript::{check, requests},
};

#[test]
fn targets_and_methods() {
    check(cases::TARGETS, requests);
}

#[test]
fn versions() {
    check(cases::VERSIONS, requests);
}

#[test]
fn hosts() {
    check(cases::HOSTS, requests);
}

#[test]
fn lines_and_fields() {
    check(cases::LINES, requests);
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
