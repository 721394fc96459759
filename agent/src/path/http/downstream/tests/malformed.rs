//! What an honest library would not send: frames by hand.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags][..], &stream.to_be_bytes()[..], payload].concat()
}

/// Literal fields that enter no table and are not compressed (RFC 7541, section 6.2.2).
fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":authority", "shop"), (":path", "/")];

/// A client that speaks frames.
struct Raw(TcpStream);

impl Raw {
    async fn begun() -> (Self, Served) {
        let (client, near) = pair().await;
        let served = Served::http2(near);
        let mut raw = Self(client);
        raw.0.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
        (raw, served)
    }

    /// Asks on a stream, with the fields behind those of a plain GET.
    async fn ask(&mut self, stream: u32, head: &[(&str, &str)], flags: u8) {
        self.0.write_all(&frame(HEADERS, END_HEADERS | flags, stream, &fields(head))).await.unwrap();
    }

    /// The next frame of these kinds: kind, stream, payload; none at the end.
    async fn next(&mut self, kinds: &[u8]) -> Option<(u8, u32, Vec<u8>)> {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.0.read_exact(&mut payload).await.ok()?;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            if kinds.contains(&head[3]) {
                return Some((head[3], stream, payload));
            }
        }
    }
}

/// The code of an RST_STREAM or a GOAWAY.
fn code(kind: u8, payload: &[u8]) -> u32 {
    let at = if kind == GOAWAY { 4 } else { 0 };
    u32::from_be_bytes(payload[at..at + 4].try_into().unwrap())
}

const BROKEN: &str = "the request broke HTTP/2's rules";
const PROTOCOL_ERROR: u32 = 1;
const ENHANCE_YOUR_CALM: u32 = 11;

#[test]
fn a_malformed_request_costs_its_stream_only() {
    let with = |more: &[(&'static str, &'static str)]| [&GET[..], more].concat();
    let table = [
        with(&[("connection", "close")]),
        with(&[("transfer-encoding", "chunked")]),
        with(&[("upgrade", "websocket")]),
        with(&[("te", "gzip")]),
        with(&[("content-length", "1")]),
        with(&[("content-length", "0"), ("content-length", "1")]),
        with(&[("content-length", "+0")]),
        with(&[(":path", "/other")]),
        with(&[("x", "y"), (":path", "/behind")]),
        with(&[(":protocol", "websocket")]),
        GET[1..].to_vec(),
        vec![GET[0], GET[2], GET[3]],
        vec![GET[0], GET[1], GET[2]],
        vec![GET[0], GET[1], GET[2], (":path", "")],
        vec![GET[0], GET[1], GET[2], (":path", "no/slash")],
        vec![GET[0], GET[1], (":authority", "a b"), GET[3]],
    ];
    on_worker(async {
        let (mut raw, served) = Raw::begun().await;
        let mut stream = 1;
        for head in &table {
            raw.ask(stream, head, END_STREAM).await;
            let (kind, of, payload) = raw.next(&[HEADERS, RST_STREAM, GOAWAY]).await.unwrap();
            assert_eq!((kind, of, code(kind, &payload)), (RST_STREAM, stream, PROTOCOL_ERROR), "{head:?}");
            stream += 2;
        }
        raw.ask(stream, &GET, END_STREAM).await;
        assert_eq!(raw.next(&[HEADERS, RST_STREAM, GOAWAY]).await.unwrap().0, HEADERS);
        assert_eq!(served.site.outcomes.borrow().len(), 1, "no other request came to be handled");
        assert_eq!(served.site.malformed.borrow().as_slice(), vec![BROKEN; table.len()]);
    });
}

#[test]
fn half_a_head_ends_the_connection_and_a_whole_one_does_not() {
    on_worker(async {
        let (mut raw, served) = Raw::begun().await;
        served.site.head_time.set(Some(Duration::from_millis(20)));
        // Between frames, and within a body, a client may take its time.
        raw.ask(1, &GET, END_STREAM).await;
        raw.ask(3, &GET, 0).await;
        let body = frame(DATA, END_STREAM, 3, b"body");
        raw.0.write_all(&body[..11]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        raw.0.write_all(&body[11..]).await.unwrap();
        assert_eq!(raw.next(&[HEADERS, GOAWAY]).await.unwrap().0, HEADERS);
        assert_eq!(served.site.late.get(), 0);
        raw.0.write_all(&frame(HEADERS, END_STREAM, 5, &fields(&GET))).await.unwrap();
        let (kind, _, payload) = raw.next(&[GOAWAY]).await.unwrap();
        assert_eq!(code(kind, &payload), ENHANCE_YOUR_CALM);
        assert!(raw.next(&[HEADERS, GOAWAY]).await.is_none());
        assert_eq!((served.site.late.get(), served.site.malformed.borrow().len()), (1, 0));
        served.ended.await.unwrap();
    });
}

#[test]
fn what_the_next_hop_might_read_otherwise_is_answered_with_400() {
    let table = [
        (vec![GET[0], GET[1], GET[2], GET[3], ("host", "other")], "differing :authority and Host"),
        (vec![GET[0], GET[1], GET[3]], "no Host"),
        (vec![GET[0], GET[1], GET[3], ("host", "a"), ("host", "a")], "several Host"),
        (vec![GET[0], (":scheme", "ftp"), GET[2], GET[3]], "unknown :scheme"),
        (vec![GET[0], GET[1], (":authority", "me@shop"), GET[3]], "invalid Host"),
    ];
    on_worker(async {
        let (client, served) = super::http2::begun().await;
        drop(client);
        served.ended.await.unwrap();
        let (mut raw, served) = Raw::begun().await;
        for (number, (head, what)) in (0_u32..).zip(&table) {
            raw.ask(2 * number + 1, head, END_STREAM).await;
            let (kind, _, payload) = raw.next(&[HEADERS, RST_STREAM, GOAWAY]).await.unwrap();
            // `:status 400` is in HPACK's static table.
            assert_eq!((kind, payload[0]), (HEADERS, 0x80 | 12), "{what}");
            assert_eq!(served.site.malformed.borrow().last(), Some(what));
        }
        assert!(served.site.outcomes.borrow().is_empty());
    });
}

#[test]
fn more_content_than_announced_is_no_request() {
    on_worker(async {
        let (mut raw, served) = Raw::begun().await;
        let head =
            [&[(":method", "POST")], &GET[1..3], &[(":path", "/unread"), ("content-length", "3")]].concat();
        raw.ask(1, &head, 0).await;
        until(|| served.site.running.get() == 1).await;
        raw.0.write_all(&frame(DATA, 0, 1, b"four")).await.unwrap();
        let (kind, _, payload) = raw.next(&[RST_STREAM, GOAWAY]).await.unwrap();
        assert_eq!((kind, code(kind, &payload)), (RST_STREAM, PROTOCOL_ERROR));
        until(|| served.site.dropped.get() == 1).await;
        assert_eq!(served.site.malformed.borrow().as_slice(), [BROKEN]);
    });
}

#[test]
fn a_malformed_body_is_counted_once_also_when_the_answer_has_begun() {
    on_worker(async {
        let (mut client, near) = pair().await;
        let served = Served::http1(near);
        client
            .write_all(b"POST /echo HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n")
            .await
            .unwrap();
        let mut head = [0; 15];
        client.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");
        client.write_all(b"5\nhello").await.unwrap();
        served.ended.await.unwrap();
        assert_eq!(served.site.malformed.borrow().len(), 1);

        let (mut raw, served) = Raw::begun().await;
        let echo =
            [&[(":method", "POST")], &GET[1..3], &[(":path", "/echo"), ("content-length", "3")]].concat();
        raw.ask(1, &echo, 0).await;
        assert_eq!(raw.next(&[HEADERS]).await.unwrap().1, 1);
        raw.0.write_all(&frame(DATA, 0, 1, b"four")).await.unwrap();
        let (kind, _, payload) = raw.next(&[RST_STREAM, GOAWAY]).await.unwrap();
        assert_eq!((kind, code(kind, &payload)), (RST_STREAM, PROTOCOL_ERROR));
        until(|| served.site.running.get() == 0).await;
        assert_eq!(served.site.malformed.borrow().as_slice(), [BROKEN]);
    });
}

#[test]
fn a_broken_connection_is_said_and_counted() {
    on_worker(async {
        let (mut raw, served) = Raw::begun().await;
        raw.ask(1, &[&GET[..3], &[(":path", "/never")]].concat(), END_STREAM).await;
        until(|| served.site.running.get() == 1).await;
        // An even stream is not a client's.
        raw.ask(2, &GET, END_STREAM).await;
        let (_, _, payload) = raw.next(&[GOAWAY]).await.unwrap();
        assert_eq!(code(GOAWAY, &payload), PROTOCOL_ERROR);
        served.ended.await.unwrap();
        until(|| served.site.dropped.get() == 1).await;
        assert_eq!(served.site.malformed.borrow().as_slice(), ["HTTP/2 protocol error"]);
    });
}

#[test]
fn fields_that_are_none_break_the_connection_and_are_counted() {
    on_worker(async {
        for field in [("X-Upper", "a"), ("x y", "a"), ("x", "a\r\nb: c"), ("x\0", "a"), ("x", "\0")] {
            let (mut raw, served) = Raw::begun().await;
            raw.ask(1, &[&GET[..], &[field]].concat(), END_STREAM).await;
            let (_, _, payload) = raw.next(&[HEADERS, GOAWAY]).await.unwrap();
            assert_eq!(code(GOAWAY, &payload), PROTOCOL_ERROR, "{field:?}");
            served.ended.await.unwrap();
            assert_eq!(served.site.malformed.borrow().as_slice(), ["HTTP/2 protocol error"], "{field:?}");
            assert!(served.site.outcomes.borrow().is_empty());
        }
    });
}

#[test]
fn floods_end_the_connection() {
    let head = fields(&GET);
    let resets: Vec<u8> = (0..2000)
        .flat_map(|number| {
            let stream = 2 * number + 1;
            let cancel = frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
            [frame(HEADERS, END_HEADERS | END_STREAM, stream, &head), cancel].concat()
        })
        .collect();
    let mut continued = frame(HEADERS, END_STREAM, 1, &head);
    (0..20_000).for_each(|_| continued.extend(frame(CONTINUATION, 0, 1, &fields(&[("x", "y")]))));
    on_worker(async {
        for (flood, reason) in [(resets, ENHANCE_YOUR_CALM), (continued, ENHANCE_YOUR_CALM)] {
            let (mut raw, served) = Raw::begun().await;
            // The end may come before all is written.
            let _ = raw.0.write_all(&flood).await;
            let (_, _, payload) = raw.next(&[GOAWAY]).await.expect("a GOAWAY");
            assert_eq!(code(GOAWAY, &payload), reason);
            served.ended.await.unwrap();
            until(|| served.site.running.get() == 0).await;
        }
    });
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    on_worker(async {
        let (mut raw, served) = Raw::begun().await;
        let large = "x".repeat(120);
        let more = fields(&[("x-large", large.as_str()); 500]);
        let (first, rest) = more.split_at(12_000);
        let mut block = frame(HEADERS, END_STREAM, 1, &[&fields(&GET), first].concat());
        for (number, piece) in rest.chunks(12_000).enumerate() {
            let last = (number + 1) * 12_000 >= rest.len();
            block.extend(frame(CONTINUATION, if last { END_HEADERS } else { 0 }, 1, piece));
        }
        raw.0.write_all(&block).await.unwrap();
        let (kind, stream, _) = raw.next(&[HEADERS, RST_STREAM, GOAWAY]).await.unwrap();
        assert_eq!((kind, stream), (HEADERS, 1), "431");
        assert!(served.site.outcomes.borrow().is_empty());
        raw.ask(3, &GET, END_STREAM).await;
        assert_eq!(raw.next(&[HEADERS, GOAWAY]).await.unwrap().1, 3);
    });
}
