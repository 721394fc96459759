//! What the writer makes of heads and bodies.

use std::io;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};

use super::memory::{Memory, ready};
use crate::http1::{BodyLength, Writer};

/// Writes with a function; tells the bytes and in how many pieces.
fn written(write: impl FnOnce(&mut Writer<Memory>)) -> (String, usize) {
    let memory = Memory::default();
    let mut writer = Writer::new(memory.clone());
    write(&mut writer);
    ready(|cx| writer.poll_flush(cx)).unwrap();
    assert_eq!(writer.queued(), 0);
    let seen = memory.0.borrow();
    (String::from_utf8(seen.bytes.clone()).unwrap(), seen.writes)
}

fn request(request: Request<()>, body: BodyLength) -> String {
    written(|writer| writer.request(&request.into_parts().0, body)).0
}

fn response(response: Response<()>, body: BodyLength, keep_alive: bool, version: Version) -> String {
    written(|writer| {
        writer.response(&response.into_parts().0, body, keep_alive, version);
    })
    .0
}

#[test]
fn requests() {
    let get = |uri: &str| Request::get(uri);
    let table = [
        (
            get("/a?b").header("host", "h").header("x", "y"),
            BodyLength::None,
            "GET /a?b HTTP/1.1\r\nhost: h\r\nx: y\r\n\r\n",
        ),
        (get("http://h:1/a"), BodyLength::None, "GET /a HTTP/1.1\r\nhost: h:1\r\n\r\n"),
        (
            get("/").header("host", "h").method("POST"),
            BodyLength::None,
            "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n",
        ),
        (
            get("/").header("host", "h").header("content-length", "9").header("transfer-encoding", "chunked"),
            BodyLength::Exact(5),
            "GET / HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\n",
        ),
        (
            get("/").header("host", "h").header("content-length", "9").header("connection", "close"),
            BodyLength::Chunked,
            "GET / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n",
        ),
        (
            get("*").header("host", "h").method("OPTIONS"),
            BodyLength::None,
            "OPTIONS * HTTP/1.1\r\nhost: h\r\n\r\n",
        ),
        (
            get("a:1").header("host", "a:1").method("CONNECT"),
            BodyLength::None,
            "CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n",
        ),
        (
            get("/").header("host", "h").header("upgrade", "websocket"),
            BodyLength::None,
            "GET / HTTP/1.1\r\nhost: h\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        ),
        (
            get("/").header("host", "h").header("te", "trailers, gzip").header("upgrade", "x"),
            BodyLength::None,
            "GET / HTTP/1.1\r\nhost: h\r\nupgrade: x\r\nte: trailers\r\nconnection: te, upgrade\r\n\r\n",
        ),
        (
            get("/").header("cookie", "a=1").header("host", "h").header("cookie", "b=2"),
            BodyLength::None,
            "GET / HTTP/1.1\r\nhost: h\r\ncookie: a=1; b=2\r\n\r\n",
        ),
    ];
    for (builder, body, raw) in table {
        assert_eq!(request(builder.body(()).unwrap(), body), raw);
    }
}

#[test]
fn responses() {
    let (new, old) = (Version::HTTP_11, Version::HTTP_10);
    let with = |status: u16| Response::builder().status(status).header("content-length", "7");
    let table = [
        (with(200), BodyLength::Exact(2), true, new, "200 OK\r\ncontent-length: 2\r\n\r\n"),
        (with(200), BodyLength::Exact(0), true, new, "200 OK\r\ncontent-length: 0\r\n\r\n"),
        (with(200), BodyLength::Chunked, true, new, "200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        (with(200), BodyLength::Chunked, true, old, "200 OK\r\nconnection: close\r\n\r\n"),
        (
            with(200),
            BodyLength::Exact(2),
            true,
            old,
            "200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\n",
        ),
        (with(200), BodyLength::UntilClose, true, new, "200 OK\r\nconnection: close\r\n\r\n"),
        // An answer to HEAD, and 304: the length is that of the body that is not sent.
        (with(200), BodyLength::None, true, new, "200 OK\r\ncontent-length: 7\r\n\r\n"),
        (
            with(304),
            BodyLength::None,
            false,
            new,
            "304 Not Modified\r\nconnection: close\r\ncontent-length: 7\r\n\r\n",
        ),
        (with(204), BodyLength::None, true, new, "204 No Content\r\n\r\n"),
        (
            with(101).header("upgrade", "websocket").header("connection", "x"),
            BodyLength::None,
            true,
            new,
            "101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        ),
        (with(299), BodyLength::Exact(0), true, new, "299 \r\ncontent-length: 0\r\n\r\n"),
    ];
    for (builder, body, keep_alive, version, raw) in table {
        let told = response(builder.body(()).unwrap(), body, keep_alive, version);
        assert_eq!(told, format!("HTTP/1.1 {raw}"));
    }
}

#[test]
fn lengths_follow_from_status_and_method() {
    let (get, head, connect) = (Method::GET, Method::HEAD, Method::CONNECT);
    let table = [
        (200, &get, Some(3), BodyLength::Exact(3)),
        (200, &get, Some(0), BodyLength::Exact(0)),
        (200, &get, None, BodyLength::Chunked),
        (200, &head, Some(3), BodyLength::None),
        (204, &get, Some(0), BodyLength::None),
        (304, &get, None, BodyLength::None),
        (101, &get, None, BodyLength::None),
        (200, &connect, None, BodyLength::None),
        (403, &connect, None, BodyLength::Chunked),
    ];
    for (status, asked, remaining, length) in table {
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(
            BodyLength::of_response(status, asked, remaining),
            length,
            "{status} {asked} {remaining:?}"
        );
    }
}

fn ok(writer: &mut Writer<Memory>, body: BodyLength) {
    writer.response(&Response::new(()).into_parts().0, body, true, Version::HTTP_11);
}

#[test]
fn a_small_answer_leaves_in_one_piece_and_a_large_one_without_a_copy() {
    let (raw, pieces) = written(|writer| {
        ok(writer, BodyLength::Chunked);
        writer.data(Bytes::from_static(b"abc"));
        writer.data(Bytes::from_static(b""));
        writer.data(Bytes::from_static(b"0123456789"));
        writer.end(None);
    });
    assert_eq!(
        raw,
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\na\r\n0123456789\r\n0\r\n\r\n"
    );
    assert_eq!(pieces, 1);
    let (raw, pieces) = written(|writer| {
        ok(writer, BodyLength::Chunked);
        writer.data(Bytes::from(vec![b'x'; 0x10000]));
        writer.end(None);
    });
    assert!(raw.contains("\r\n\r\n10000\r\nxx") && raw.ends_with("xx\r\n0\r\n\r\n"));
    assert_eq!(pieces, 3);
}

#[test]
fn trailers_go_where_chunks_do_and_frame_nothing() {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    trailers.insert("content-length", "5".parse().unwrap());
    let (raw, _) = written(|writer| {
        ok(writer, BodyLength::Chunked);
        writer.end(Some(&trailers));
        ok(writer, BodyLength::Exact(0));
        writer.end(Some(&trailers));
    });
    assert!(raw.contains("0\r\ngrpc-status: 0\r\n\r\nHTTP/1.1 200"));
    assert!(raw.ends_with("content-length: 0\r\n\r\n"));
}

#[test]
fn a_body_that_breaks_its_framing_breaks_the_connection() {
    type Write = fn(&mut Writer<Memory>);
    let table: [(&str, Write); 5] = [
        ("too much", |writer| {
            ok(writer, BodyLength::Exact(2));
            writer.data(Bytes::from_static(b"abc"));
        }),
        ("too little", |writer| {
            ok(writer, BodyLength::Exact(2));
            writer.data(Bytes::from_static(b"a"));
            writer.end(None);
        }),
        ("after the end", |writer| {
            ok(writer, BodyLength::Exact(0));
            writer.end(None);
            writer.data(Bytes::from_static(b"a"));
        }),
        ("not ended", |writer| {
            ok(writer, BodyLength::Chunked);
            ok(writer, BodyLength::Chunked);
        }),
        ("interim within", |writer| {
            ok(writer, BodyLength::Chunked);
            writer.informational(StatusCode::CONTINUE, &HeaderMap::new());
        }),
    ];
    for (name, write) in table {
        let memory = Memory::default();
        let mut writer = Writer::new(memory.clone());
        write(&mut writer);
        let error = ready(|cx| writer.poll_flush(cx)).expect_err(name);
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{name}");
        assert!(memory.0.borrow().aborted && memory.0.borrow().bytes.is_empty(), "{name}");
    }
}

#[test]
fn content_is_dropped_where_none_can_be() {
    let (raw, _) = written(|writer| {
        ok(writer, BodyLength::None);
        writer.data(Bytes::from_static(b"abc"));
        writer.end(None);
    });
    assert_eq!(raw, "HTTP/1.1 200 OK\r\n\r\n");
}
