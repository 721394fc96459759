//! Whatever comes, however it is cut.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request};
use proptest::{collection::vec, prelude::*};

use super::{
    memory::{Memory, Pieces, ready},
    transcript::{requests, responses},
};
use crate::{
    http1::{BodyLength, Limits, Reader, Writer},
    path::http::body::Frame,
};

/// Pieces of HTTP, so that random streams get far into the parser.
const WORDS: [&[u8]; 30] = [
    b"GET / HTTP/1.1\r\nHost: h\r\n",
    b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST /y HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 100 C\r\n\r\n",
    b"HTTP/1.1 204 N\r\n\r\n",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: upgrade, close\r\n",
    b"Upgrade: websocket\r\n",
    b"Host: h\r\n",
    b"X: y\r\n",
    b"X : y\r\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\r",
    b"\n",
    b" ",
    b"\0",
    b"3\r\nabc\r\n",
    b"4;e=f\r\nabcd\r\n",
    b"0\r\n\r\n",
    b"0\r\nT: u\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"abc",
    b"abcd",
    b":",
    b";",
    b"0",
    b"http://h/",
];

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        9 => (0..WORDS.len()).prop_map(|index| WORDS[index].to_vec()),
        1 => vec(any::<u8>(), 0..8),
    ];
    vec(word, 0..24).prop_map(|words| words.concat())
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    vec(1_usize..40, 0..40)
}

fn token() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9-]{0,12}"
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn cuts_change_nothing(raw in stream(), cuts in cuts()) {
        prop_assert_eq!(requests(Pieces::split(&raw, &cuts)), requests(Pieces::whole(&raw)));
        for asked in [Method::GET, Method::HEAD] {
            prop_assert_eq!(responses(Pieces::split(&raw, &cuts), &asked), responses(Pieces::whole(&raw), &asked));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(raw in vec(any::<u8>(), 0..300), cuts in cuts()) {
        requests(Pieces::split(&raw, &cuts));
        responses(Pieces::split(&raw, &cuts), &Method::GET);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Several messages on one connection come out as they went in.
    #[test]
    fn what_is_written_is_read(
        messages in vec((token(), vec((token(), "[ -~]{0,20}"), 0..5), vec(vec(any::<u8>(), 0..6000), 0..4), any::<bool>()), 1..4),
        cuts in vec(1_usize..3000, 0..40),
    ) {
        let memory = Memory::default();
        let mut writer = Writer::new(memory.clone());
        let mut sent = Vec::new();
        for (path, fields, pieces, chunked) in messages {
            let content = pieces.concat();
            let length = if chunked { BodyLength::Chunked } else { BodyLength::Exact(content.len() as u64) };
            let mut request = Request::post(format!("/{path}")).header("host", "h").body(()).unwrap().into_parts().0;
            for (name, value) in fields {
                request.headers.append(
                    HeaderName::from_bytes(format!("x-{name}").as_bytes()).unwrap(),
                    HeaderValue::from_str(value.trim()).unwrap(),
                );
            }
            writer.request(&request, length);
            pieces.into_iter().for_each(|piece| writer.data(Bytes::from(piece)));
            writer.end(None);
            sent.push((request, length, content));
        }
        ready(|cx| writer.poll_flush(cx)).unwrap();
        let raw = memory.0.borrow().bytes.clone();
        let mut reader = Reader::new(Pieces::split(&raw, &cuts), Limits::default());
        for (request, length, content) in sent {
            let mut head = ready(|cx| reader.poll_request(cx)).unwrap().unwrap();
            prop_assert_eq!(head.body, length);
            head.parts.headers.remove("content-length");
            head.parts.headers.remove("transfer-encoding");
            prop_assert_eq!(head.parts.headers, request.headers);
            prop_assert_eq!(head.parts.uri, request.uri);
            let mut read = Vec::new();
            while let Some(frame) = ready(|cx| reader.poll_body(cx)) {
                let Frame::Data(data) = frame.unwrap() else { panic!("trailers from nowhere") };
                read.extend_from_slice(&data);
            }
            prop_assert_eq!(read, content);
        }
        prop_assert!(ready(|cx| reader.poll_request(cx)).unwrap().is_none());
        prop_assert_eq!(reader.source().taken, raw.len());
    }
}
