//! Requests as they come, and what the reader must make of each (`transcript` says how that is written): most of them are
//! meant to be read differently by two hops. Data alone: the mesh ring sends the same ones through real agents. Pure.

/// What is sent, and what becomes of it.
type Case = (&'static str, &'static str);

/// Request lines.
pub(crate) const TARGETS: &[Case] = &[
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
    ("CONNECT http://db:1/ HTTP/1.1\r\nHost: h\r\n\r\n", "refused 400 CONNECT without a host and port"),
    ("GET db:5432 HTTP/1.1\r\nHost: h\r\n\r\n", "refused 400 invalid request target"),
    ("GET a/b HTTP/1.1\r\nHost: h\r\n\r\n", "refused 400 invalid request target"),
    ("GET http://other:81/a?b HTTP/1.1\r\nHost: h\r\n\r\n", "GET /a?b@other:81"),
    ("GET HTTP://other HTTP/1.1\r\nHost: h\r\n\r\n", "GET /@other"),
    ("GET http://other?a/b HTTP/1.1\r\nHost: h\r\n\r\n", "GET /?a/b@other"),
    ("OPTIONS http://other HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS *@other"),
    ("GET http://u:p@other/ HTTP/1.1\r\nHost: h\r\n\r\n", "refused 400 invalid host in the request target"),
    ("GET http:///a HTTP/1.1\r\nHost: h\r\n\r\n", "refused 400 invalid host in the request target"),
    ("GET http://a\\b/ HTTP/1.1\r\nHost: h\r\n\r\n", "refused 400 invalid host in the request target"),
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
];

/// Versions.
pub(crate) const VERSIONS: &[Case] = &[
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
];

/// `Host`.
pub(crate) const HOSTS: &[Case] = &[
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
];

/// Line ends and fields.
pub(crate) const LINES: &[Case] = &[
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
];

/// What [`LENGTHS`] and [`CODINGS`] come behind.
pub(crate) const POST: &str = "POST / HTTP/1.1\r\nHost: h\r\n";

/// `Content-Length`.
pub(crate) const LENGTHS: &[Case] = &[
    ("Content-Length: 3\r\n\r\nabc", "POST /@h[abc]"),
    (concat!("Content-Length: 3\r\n\r\nabc", "GET /2 HTTP/1.1\r\nHost: h\r\n\r\n"), "POST /@h[abc] GET /2@h"),
    (concat!("Content-Length: 0\r\n\r\n", "GET /2 HTTP/1.1\r\nHost: h\r\n\r\n"), "POST /@h GET /2@h"),
    (concat!("\r\n", "GET /2 HTTP/1.1\r\nHost: h\r\n\r\n"), "POST /@h GET /2@h"),
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
];

const BOTH: &str = "refused 400 both Transfer-Encoding and Content-Length";
const NOT: &str = "refused 400 Transfer-Encoding is not chunked";

/// `Transfer-Encoding`.
pub(crate) const CODINGS: &[Case] = &[
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
];

/// Bodies where none may be.
pub(crate) const BODIES: &[Case] = &[
    ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "refused 400 CONNECT with a body"),
    (
        "CONNECT a:1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "refused 400 CONNECT with a body",
    ),
    ("POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", "POST /@-![abc]"),
    (
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "refused 400 Transfer-Encoding in HTTP/1.0",
    ),
];
