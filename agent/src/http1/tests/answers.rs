//! Responses: their bodies by method and status, and what is refused.

use http::Method;

use super::{
    memory::{Pieces, ready},
    transcript::{check, responses},
};
use crate::http1::{Limits, Reader};

fn check_asked(asked: &Method, table: &[(&str, &str)]) {
    check(table, |source| responses(source, asked));
}

#[test]
fn bodies() {
    check_asked(
        &Method::GET,
        &[
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", "200[ab]"),
            ("HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nab", "200[ab]"),
            (
                "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\nHTTP/1.1 404 Not\r\nContent-Length: 1\r\n\r\nx",
                "200 404[x]",
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nab\r\n0\r\nT: u\r\n\r\n",
                "200[ab|t=u ]",
            ),
            ("HTTP/1.1 200 OK\r\n\r\nuntil the end", "200![until the end]"),
            ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab", "200![ab]"),
            ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nab", "200[ab]"),
            ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab", "200![ab]"),
            ("HTTP/1.1 204 No\r\n\r\nHTTP/1.1 304 Not\r\nContent-Length: 9\r\n\r\n", "204 304"),
            ("HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\n", "204!"),
            ("HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n", "204!"),
            (
                "HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                "100 103 200",
            ),
            ("", ""),
        ],
    );
    check_asked(
        &Method::HEAD,
        &[
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "200 200"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "200"),
        ],
    );
    check_asked(
        &Method::CONNECT,
        &[
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "200!"),
            ("HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nab", "403[ab]"),
        ],
    );
}

#[test]
fn refused() {
    const BOTH: &str = "502 both Transfer-Encoding and Content-Length";
    check_asked(
        &Method::GET,
        &[
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", BOTH),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "502 unknown Transfer-Encoding"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "502 unknown Transfer-Encoding"),
            ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "502 Transfer-Encoding in HTTP/1.0"),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
                "502 differing Content-Length",
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "502 invalid Content-Length"),
            ("HTTP/1.1 200 OK\nContent-Length: 0\n\n", "502 bare LF"),
            ("HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", "502 obsolete line folding"),
            ("HTTP/1.1 200 OK\r\nX : a\r\n\r\n", "502 invalid header name"),
            ("HTTP/1.1 200 OK\r\nX: \0\r\n\r\n", "502 invalid header value"),
            ("\r\nHTTP/1.1 200 OK\r\n\r\n", "502 empty line before the head"),
            ("HTTP/1.1 20 OK\r\n\r\n", "502 invalid status line"),
            ("HTTP/1.1 2000 OK\r\n\r\n", "502 invalid status line"),
            ("HTTP/1.1 099 OK\r\n\r\n", "502 invalid status"),
            ("HTTP/1.1  200 OK\r\n\r\n", "502 invalid status line"),
            ("HTTP/2 200 OK\r\n\r\n", "502 invalid HTTP version"),
            ("SSH-2.0-OpenSSH\r\n\r\n", "502 invalid HTTP version"),
            ("HTTP/1.1 200 OK\r\n", "502 closed within the head"),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
                "200[ab<ended before its end: closed within the body> \
                502 the body before was not read to its end",
            ),
            (&"HTTP/1.1 102 P\r\n\r\n".repeat(3), "102 102 502 too many interim responses"),
        ],
    );
}

#[test]
fn an_upgrade_leaves_what_follows() {
    let raw = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x00";
    let mut reader = Reader::new(Pieces::whole(raw), Limits::default());
    let head = ready(|cx| reader.poll_response(cx, &Method::GET)).unwrap();
    assert_eq!(head.parts.status.as_u16(), 101);
    assert!(reader.body_ended());
    let (_, rest) = reader.into_parts();
    assert_eq!(&rest[..], b"\x81\x00");
}
