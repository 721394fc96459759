//! Chunks, trailers, and what becomes of window and buffers.

use bytes::Bytes;

use super::{
    memory::{Pieces, Read, ready},
    transcript::{check, requests},
};
use crate::{
    http1::{HeadFault, Idle, Limits, Reader},
    path::http::body::{BodyError, Frame},
};

const HEAD: &str = "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Chunked bodies and what is told behind `PUT /@h`. After an error the reader refuses to go on.
fn check_chunked(table: &[(&str, &str)]) {
    let table: Vec<_> = table
        .iter()
        .map(|(raw, told)| match told.strip_prefix('<') {
            _ if told.is_empty() => (format!("{HEAD}{raw}"), "PUT /@h".to_owned()),
            None => (format!("{HEAD}{raw}"), format!("PUT /@h[{told}]")),
            Some(error) => {
                let (content, error) = error.split_once('<').unwrap_or(("", error));
                let after = "refused 400 the body before was not read to its end";
                (format!("{HEAD}{raw}"), format!("PUT /@h[{content}<malformed: {error}> {after}"))
            }
        })
        .collect();
    let table: Vec<_> = table.iter().map(|(raw, told)| (raw.as_str(), told.as_str())).collect();
    check(&table, requests);
}

#[test]
fn chunks() {
    check_chunked(&[
        ("0\r\n\r\n", ""),
        ("000\r\n\r\n", ""),
        ("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", "abcde"),
        ("a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789"),
        ("0000000000000003\r\nabc\r\n0\r\n\r\n", "abc"),
        ("3;a=b;c=\"d;e\"\r\nabc\r\n0;x\r\n\r\n", "abc"),
        ("3 \t; a = b\r\nabc\r\n0\r\n\r\n", "abc"),
        ("3\r\n\r\n\r\r\n0\r\n\r\n", "\r\n\r"),
        ("3\nabc\r\n0\r\n\r\n", "<bare LF in a chunk line"),
        ("3;a\nabc\r\n0\r\n\r\n", "<bare LF in a chunk line"),
        ("3\rabc\r\n0\r\n\r\n", "<bare CR in a chunk line"),
        ("3;a\rb\r\nabc\r\n0\r\n\r\n", "<bare CR in a chunk line"),
        ("3;\0\r\nabc\r\n0\r\n\r\n", "<invalid chunk extension"),
        (" 3\r\nabc\r\n0\r\n\r\n", "<invalid chunk size"),
        ("3 \r\nabc\r\n0\r\n\r\n", "<invalid chunk size"),
        ("+3\r\nabc\r\n0\r\n\r\n", "<invalid chunk size"),
        ("-3\r\nabc\r\n0\r\n\r\n", "<invalid chunk size"),
        ("0x3\r\nabc\r\n0\r\n\r\n", "<invalid chunk size"),
        ("\r\n0\r\n\r\n", "<invalid chunk size"),
        (";a\r\n0\r\n\r\n", "<invalid chunk size"),
        ("g\r\n0\r\n\r\n", "<invalid chunk size"),
        ("3_0\r\nabc\r\n", "<invalid chunk size"),
        ("10000000000000000\r\nabc\r\n", "<chunk size overflow"),
        ("00000000000000003\r\nabc\r\n", "<chunk size overflow"),
        ("3\r\nabcd\r\n0\r\n\r\n", "<abc<no CRLF after a chunk"),
        ("3\r\nabc\n0\r\n\r\n", "<abc<no CRLF after a chunk"),
        ("3\r\nabc\r0\r\n\r\n", "<abc<no CRLF after a chunk"),
        ("3\r\nabc0\r\n\r\n", "<abc<no CRLF after a chunk"),
        (&format!("3;{}\r\nabc\r\n0\r\n\r\n", "a".repeat(30)), "abc"),
        (&format!("3;{}\r\nabc\r\n0\r\n\r\n", "a".repeat(32)), "<chunk line too long"),
        (&"1;aaaaaaaaaaaaaaaaaaaa\r\nx\r\n".repeat(4), "<xxx<chunk extensions too long"),
    ]);
}

#[test]
fn trailers() {
    check_chunked(&[
        ("0\r\nX-A: 1\r\nx-b:2\r\n\r\n", "|x-a=1 x-b=2 "),
        ("1\r\nz\r\n0\r\nX-A: 1\r\n\r\n", "z|x-a=1 "),
        ("0\r\nContent-Length: 5\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", ""),
        ("0\r\nAuthorization: x\r\nX-Ok: y\r\n\r\n", "|x-ok=y "),
        ("0\r\nX: a\n\r\n", "<bare LF"),
        ("0\r\nX: a\r\r\n\r\n", "<bare CR"),
        ("0\r\n\n", "<bare LF"),
        ("0\r\nX: a\r\n b\r\n\r\n", "<obsolete line folding"),
        ("0\r\n X: a\r\n\r\n", "<invalid trailer name"),
        ("0\r\nX : a\r\n\r\n", "<invalid trailer name"),
        ("0\r\nGET / HTTP/1.1\r\n\r\n", "<invalid trailer name"),
        ("0\r\nX: \0\r\n\r\n", "<invalid trailer value"),
        (&format!("0\r\nX: {}\r\n\r\n", "a".repeat(128)), "<trailers too long"),
        (&format!("0\r\nX: {}\r\n\r\n", "a".repeat(128 - 7)), &format!("|x={} ", "a".repeat(128 - 7))),
    ]);
    // What follows the trailers is the next request.
    let raw = format!("{HEAD}0\r\nX: y\r\n\r\n{HEAD}0\r\n\r\n");
    check(&[(raw.as_str(), "PUT /@h[|x=y ] PUT /@h")], requests);
}

fn reader(reads: impl IntoIterator<Item = Read>) -> Reader<Pieces> {
    Reader::new(Pieces::new(reads), Limits::default())
}

fn bytes(text: &str) -> Read {
    Read::Bytes(Bytes::copy_from_slice(text.as_bytes()))
}

#[test]
fn the_end_is_known_with_the_last_content() {
    let mut reader = reader([bytes(HEAD), bytes("3\r\nabc\r\n0\r\n\r\n"), Read::Pending]);
    ready(|cx| reader.poll_request(cx)).unwrap().unwrap();
    assert!(!reader.body_ended());
    assert_eq!(reader.remaining(), None);
    ready(|cx| reader.poll_body(cx)).unwrap().unwrap();
    assert!(reader.body_ended());
    assert_eq!(reader.remaining(), Some(0));
    assert!(!reader.has_buffered());
}

#[test]
fn content_is_not_copied_and_its_window_goes_back_when_more_is_asked_for() {
    let whole =
        Bytes::from(format!("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 5000\r\n\r\n{}", "x".repeat(5000)));
    let head = whole.len() - 5000;
    let mut reader = reader([Read::Bytes(whole.clone())]);
    ready(|cx| reader.poll_request(cx)).unwrap().unwrap();
    assert_eq!(reader.remaining(), Some(5000));
    let Some(Ok(Frame::Data(data))) = ready(|cx| reader.poll_body(cx)) else { panic!("no data") };
    assert_eq!(data.as_ptr(), whole.slice(head..).as_ptr());
    assert_eq!(ready(|cx| reader.poll_body(cx)), None);
    let (source, _) = reader.into_parts();
    assert_eq!(source.taken, whole.len());
}

#[test]
fn window_is_held_back_by_content_that_nobody_takes() {
    let mut reader = reader([bytes(HEAD), bytes("3\r\nabc\r\n"), bytes("3\r\ndef\r\n")]);
    ready(|cx| reader.poll_request(cx)).unwrap().unwrap();
    ready(|cx| reader.poll_body(cx)).unwrap().unwrap();
    assert_eq!(reader.source().taken, HEAD.len());
    ready(|cx| reader.poll_body(cx)).unwrap().unwrap();
    assert_eq!(reader.source().taken, HEAD.len() + 8);
}

#[test]
fn a_head_in_pieces_does_not_wait_for_its_own_window() {
    let mut reader = reader([bytes("GET / HT"), bytes("TP/1.1\r\nHost: h\r\n\r\nabc"), Read::Pending]);
    ready(|cx| reader.poll_request(cx)).unwrap().unwrap();
    let source = reader.source();
    assert_eq!(source.taken, source.given - 3);
    let (_, rest) = reader.into_parts();
    assert_eq!(rest, "abc");
}

#[test]
fn resets_are_told_apart_by_where_they_come() {
    let mut between = reader([Read::Reset]);
    assert!(ready(|cx| between.poll_request(cx)).unwrap().is_none());
    let mut before = reader([Read::Reset]);
    let error = ready(|cx| before.poll_response(cx, &http::Method::GET)).unwrap_err();
    assert_eq!((error.fault, error.what), (HeadFault::Closed, "reset before the head"));
    let mut within = reader([bytes("HTTP/1"), Read::Reset]);
    let error = ready(|cx| within.poll_response(cx, &http::Method::GET)).unwrap_err();
    assert_eq!((error.fault, error.status, error.what), (HeadFault::Cut, 502, "reset within the head"));
    let mut body = reader([bytes(HEAD), bytes("5\r\nab"), Read::Reset]);
    ready(|cx| body.poll_request(cx)).unwrap().unwrap();
    ready(|cx| body.poll_body(cx)).unwrap().unwrap();
    for _ in 0..2 {
        let error = Some(Err(BodyError::Cut("reset within the body")));
        assert_eq!(ready(|cx| body.poll_body(cx)), error, "and again when asked again");
    }
}

#[test]
fn an_idle_connection_is_watched() {
    let mut closed = reader([Read::Pending]);
    assert_eq!(ready(|cx| closed.poll_idle(cx)), Idle::Closed);
    assert!(closed.is_closed_orderly());
    let mut reset = reader([Read::Reset]);
    assert_eq!(ready(|cx| reset.poll_idle(cx)), Idle::Closed);
    assert!(!reset.is_closed_orderly());
    let mut next = reader([bytes("GET / HTTP/1.1\r\nHost: h\r\n\r\n")]);
    assert_eq!(ready(|cx| next.poll_idle(cx)), Idle::Unexpected);
    assert!(ready(|cx| next.poll_request(cx)).unwrap().is_some(), "what came is kept");
}
