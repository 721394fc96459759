//! What a reader makes of raw bytes, as one line of text: `GET /path@host[body]` for each request, then how it ended.

use std::fmt::Write as _;

use http::{Method, header::HOST};

use super::memory::{Pieces, ready};
use crate::{
    http1::{HeadFault, Limits, Reader},
    path::http::body::Frame,
};

/// Small limits, so that a table can exceed them.
pub(super) fn limits() -> Limits {
    Limits {
        head_bytes: 512,
        headers: 8,
        chunk_line_bytes: 32,
        extension_bytes: 64,
        trailer_bytes: 128,
        interim_responses: 2,
    }
}

/// Reads all requests of a connection.
pub(super) fn requests(source: Pieces) -> String {
    let mut reader = Reader::new(source, limits());
    let mut line = String::new();
    loop {
        match ready(|cx| reader.poll_request(cx)) {
            Ok(None) => return line.trim_start().to_owned(),
            Ok(Some(head)) => {
                let host = head.parts.headers.get(HOST).map_or("-", |host| host.to_str().unwrap());
                write!(line, " {} {}@{host}", head.parts.method, head.parts.uri).unwrap();
                line.push_str(if head.keep_alive { "" } else { "!" });
                line.push_str(if head.upgrade { "^" } else { "" });
                line.push_str(if head.expects_continue { "?" } else { "" });
                body(&mut reader, &mut line);
            }
            Err(error) => {
                let fault = if error.fault == HeadFault::Cut { "cut" } else { "refused" };
                write!(line, " {fault} {} {}", error.status, error.what).unwrap();
                return line.trim_start().to_owned();
            }
        }
    }
}

/// Reads all responses of a connection, each to a request of this method.
pub(super) fn responses(source: Pieces, asked: &Method) -> String {
    let mut reader = Reader::new(source, limits());
    let mut line = String::new();
    loop {
        match ready(|cx| reader.poll_response(cx, asked)) {
            Ok(head) => {
                write!(line, " {}", head.parts.status.as_u16()).unwrap();
                line.push_str(if head.keep_alive { "" } else { "!" });
                body(&mut reader, &mut line);
            }
            Err(error) if error.fault == HeadFault::Closed => return line.trim_start().to_owned(),
            Err(error) => {
                write!(line, " {} {}", error.status, error.what).unwrap();
                return line.trim_start().to_owned();
            }
        }
    }
}

/// The body in brackets, unless there is none.
fn body(reader: &mut Reader<Pieces>, line: &mut String) {
    let mut content = Vec::new();
    while !reader.body_ended() {
        match ready(|cx| reader.poll_body(cx)) {
            None => break,
            Some(Ok(Frame::Data(data))) => {
                assert!(!data.is_empty(), "an empty frame");
                content.extend_from_slice(&data);
            }
            Some(Ok(Frame::Trailers(trailers))) => {
                content.extend_from_slice(b"|");
                for (name, value) in &trailers {
                    content.extend_from_slice(format!("{name}={} ", value.to_str().unwrap()).as_bytes());
                }
            }
            Some(Err(error)) => {
                write!(line, "[{}<{error}>", String::from_utf8_lossy(&content)).unwrap();
                return;
            }
        }
    }
    assert_eq!(ready(|cx| reader.poll_body(cx)), None);
    if !content.is_empty() {
        write!(line, "[{}]", String::from_utf8_lossy(&content)).unwrap();
    }
}

/// One byte per read.
pub(super) fn bytewise(raw: &[u8]) -> Pieces {
    Pieces::split(raw, &vec![1; raw.len()])
}

/// Runs a table through both the whole and the bytewise reading; tells all that differ at once.
pub(super) fn check(table: &[(&str, &str)], read: impl Fn(Pieces) -> String) {
    let mut wrong = String::new();
    for (raw, expected) in table {
        for (way, source) in [("whole", Pieces::whole(&bytes(raw))), ("bytewise", bytewise(&bytes(raw)))] {
            let told = read(source);
            if told != *expected {
                writeln!(wrong, "{raw:?} {way}\n  expected {expected}\n  told     {told}").unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// A table's text: `\u{80}` to `\u{ff}` stand for these bytes.
fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|char| u8::try_from(u32::from(char)).expect("a byte")).collect()
}
