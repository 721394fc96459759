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
    bodies(&web, &server, to);
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
