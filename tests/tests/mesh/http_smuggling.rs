//! The codec's own corpus, over raw sockets through real agents: what is not unambiguous is answered with a refusal, counted and
//! logged, and nothing of it reaches the server behind.

use crate::{http_scene::Web, scene::logs};
use posthaste_tests::{
    Family, eventually,
    peer::{self, faulty::Faulty},
    wait::holds,
};
use std::{collections::BTreeMap, net::SocketAddr};

#[path = "../../../agent/src/http1/tests/cases.rs"]
mod cases;

const REFUSED: &str = "posthaste_malformed_requests_total";

/// A request whose first part is refused: what is sent, the status, what was wrong.
struct Refused {
    sent: String,
    status: u16,
    what: &'static str,
}

/// All cases that are refused as a whole; what is taken and what comes behind it is for the codec's own tests.
fn refused() -> Vec<Refused> {
    let heads = [cases::TARGETS, cases::VERSIONS, cases::HOSTS, cases::LINES, cases::BODIES].concat();
    let posts = [cases::LENGTHS, cases::CODINGS].concat();
    let posts = posts.into_iter().map(|(rest, told)| (format!("{}{rest}", cases::POST), told));
    let all = heads.into_iter().map(|(sent, told)| (sent.to_owned(), told)).chain(posts);
    all.filter_map(|(sent, told)| {
        let (status, what) = told.strip_prefix("refused ")?.split_once(' ')?;
        Some(Refused { sent, status: status.parse().unwrap(), what })
    })
    .collect()
}

#[test]
fn what_is_ambiguous_reaches_nobody() {
    let mut web = Web::start();
    let server = Faulty::start(&web.server, 8080, "one").unwrap();
    let to = web.address(Some("http"), Family::V4);
    let mut told = BTreeMap::<&str, u32>::new();
    let cases = refused();
    assert!(cases.len() > 80, "{}", cases.len());
    for Refused { sent, status, what } in cases {
        let (answer, end) = peer::raw(&web.client, to, sent.as_bytes()).unwrap();
        let begin = format!("HTTP/1.1 {status} ");
        assert!(
            answer.starts_with(&begin) && end == "eof",
            "{sent:?}: {what}: {answer:?} {end}\n{}",
            logs(&web.mesh)
        );
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{sent:?}: {answer:?}");
        *told.entry(what).or_default() += 1;
    }
    let seen = server.seen(&web.server).unwrap();
    assert_eq!((seen.requests, seen.ambiguous), (0, 0), "{:?}", seen.targets);
    for (what, count) in &told {
        let counted = web.mesh.a.metrics().unwrap().sum(REFUSED, &[("what", what)]);
        assert_eq!(counted, f64::from(*count), "{what}");
    }
    eventually("a line for each in the access log", || {
        let mut left = told.clone();
        let lines = web.mesh.a.access_log().into_iter().filter(|line| line["event"] == "malformed");
        for line in lines {
            assert_eq!((&line["flags"], &line["source"]["pod"]), (&"DPE".into(), &"client".into()), "{line}");
            left.entry(left.keys().find(|what| line["what"] == **what).unwrap())
                .and_modify(|count| *count -= 1);
        }
        left.retain(|_, count| *count > 0);
        holds(left.is_empty(), format!("{left:?}"))
    })
    .unwrap();
    too_long(&web, to);
    bodies(&web, &server, to);
    streams(&mut web, &server);
}

/// Heads above the limit of 64 KiB are refused before they are whole.
fn too_long(web: &Web, to: SocketAddr) {
    let long = "x".repeat(70_000);
    let longs = [
        ([format!("http://{to}/{long}"), "X: short".to_owned()], "414"),
        ([format!("http://{to}/"), format!("X: {long}")], "431"),
    ];
    for ([url, header], status) in &longs {
        let said = web.curl(&["-o", "/dev/null", "-w", "%{http_code}", "-H", header, url]);
        assert_eq!(said, *status, "{}", logs(&web.mesh));
    }
}

/// Bodies that turn out to be malformed when the head has gone on: the client is told, and the server never gets to an end.
fn bodies(web: &Web, server: &Faulty, to: SocketAddr) {
    let before = web.mesh.a.metrics().unwrap().sum(REFUSED, &[]);
    let chunked = "POST /body HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    let table = [
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "zz\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nContent-Length : 5\r\n\r\n",
        "5\r\nhello\r\n0\r\nx: y\n\r\n",
    ];
    for rest in table {
        let (answer, end) = peer::raw(&web.client, to, format!("{chunked}{rest}").as_bytes()).unwrap();
        let told = answer.is_empty() || answer.starts_with("HTTP/1.1 400 ");
        assert!(told && end != "WouldBlock", "{rest:?}: {answer:?} {end}\n{}", logs(&web.mesh));
    }
    let counted = web.mesh.a.metrics().unwrap().sum(REFUSED, &[]) - before;
    assert_eq!(counted, table.len() as f64, "{}", logs(&web.mesh));
    assert_eq!(server.seen(&web.server).unwrap().ambiguous, 0);
    // The node goes on: a good request on a new connection.
    assert!(web.raw(to, "GET /size/3 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").ends_with("sss"));
}

/// Requests of HTTP/2 that the library resets, each on a stream of its own of one connection: counted, logged, and seen by nobody.
fn streams(web: &mut Web, server: &Faulty) {
    const BROKEN: &str = "the request broke HTTP/2's rules";
    let to = web.address(Some("kubernetes.io/h2c"), Family::V4);
    let get = [(":method", "GET"), (":scheme", "http"), (":authority", "h"), (":path", "/stream")];
    let post = [(":method", "POST"), get[1], get[2], get[3], ("content-length", "3")];
    let with = |more| [&get[..], &[more]].concat();
    let heads = [
        with(("connection", "close")),
        with(("transfer-encoding", "chunked")),
        with(("te", "gzip")),
        with(("content-length", "1")),
        with((":path", "/behind")),
        get[1..].to_vec(),
    ];
    let begin = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, &[])].concat();
    let mut sent = begin.clone();
    for (stream, head) in (1..).step_by(2).zip(&heads) {
        sent.extend(frame(1, 5, stream, &fields(head)));
    }
    // More content than announced.
    let last = 2 * heads.len() as u32 + 1;
    sent.extend([frame(1, 4, last, &fields(&post)), frame(0, 1, last, b"four")].concat());
    // GOAWAY: with the last stream the connection ends.
    sent.extend(frame(7, 0, 0, &[0; 8]));
    let before = server.seen(&web.server).unwrap();
    // Names in capitals and line ends in values end the connection.
    let broken = [with(("X-Upper", "case")), with(("x", "a\r\nhost: other"))];
    let broken = broken.map(|head| [&begin[..], &frame(1, 5, 1, &fields(&head))].concat());
    for sent in [&sent].into_iter().chain(&broken) {
        let (_, end) = peer::raw(&web.client, to, sent).unwrap();
        assert_eq!(end, "eof", "{}", logs(&web.mesh));
    }
    let counts = || {
        [BROKEN, "HTTP/2 protocol error"]
            .map(|what| web.mesh.a.metrics().unwrap().sum(REFUSED, &[("what", what)]))
    };
    eventually("all of them to be counted", || {
        let counts = counts();
        holds(counts == [heads.len() as f64 + 1.0, 2.0], format!("{counts:?}"))
    })
    .unwrap();
    eventually("a line for each in the access log", || {
        let lines = web.mesh.a.access_log();
        let count = lines.iter().filter(|line| line["what"] == BROKEN && line["flags"] == "DPE").count();
        holds(count == heads.len() + 1, format!("{count}"))
    })
    .unwrap();
    // The head of the last one was good: it may have begun its way, and has no end there.
    let seen = server.seen(&web.server).unwrap();
    assert_eq!((seen.requests, seen.ambiguous), (before.requests, 0), "{:?}", seen.targets);
}

/// RFC 9113, section 4.1.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Literal fields that enter no table and are not compressed (RFC 7541, section 6.2.2).
fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}
