//! The happy path, both ways.

use bytes::Bytes;
use http::{HeaderMap, Method, Version};

use super::memory::{Memory, Pieces, ready};
use crate::{
    http1::{BodyLength, Idle, Limits, Reader, Writer},
    path::http::body::Frame,
};

#[test]
fn a_request_passes() {
    let raw = b"POST /a?b=c HTTP/1.1\r\nHost: shop:80\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n";
    let mut reader = Reader::new(Pieces::whole(raw), Limits::default());
    let head = ready(|cx| reader.poll_request(cx)).unwrap().unwrap();
    assert_eq!(head.parts.uri, "/a?b=c");
    assert_eq!(head.body, BodyLength::Chunked);
    let memory = Memory::default();
    let mut writer = Writer::new(memory.clone());
    writer.request(&head.parts, head.body);
    assert_eq!(ready(|cx| reader.poll_body(cx)), Some(Ok(Frame::Data(Bytes::from_static(b"abc")))));
    writer.data(Bytes::from_static(b"abc"));
    let Some(Ok(Frame::Trailers(trailers))) = ready(|cx| reader.poll_body(cx)) else { panic!("no trailers") };
    writer.end(Some(&trailers));
    assert!(reader.body_ended());
    ready(|cx| writer.poll_flush(cx)).unwrap();
    let seen = memory.0.borrow();
    assert_eq!(seen.writes, 1);
    assert_eq!(
        String::from_utf8_lossy(&seen.bytes),
        "POST /a?b=c HTTP/1.1\r\nhost: shop:80\r\nx-a: 1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n"
    );
    assert_eq!(ready(|cx| reader.poll_idle(cx)), Idle::Closed);
    let (source, rest) = reader.into_parts();
    assert_eq!((source.taken, rest.len()), (raw.len(), 0));
}

#[test]
fn a_response_passes() {
    let raw = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-B: 2\r\n\r\nhi";
    let mut reader = Reader::new(Pieces::whole(raw), Limits::default());
    let hints = ready(|cx| reader.poll_response(cx, &Method::GET)).unwrap();
    let head = ready(|cx| reader.poll_response(cx, &Method::GET)).unwrap();
    assert_eq!((hints.parts.status.as_u16(), head.parts.status.as_u16()), (103, 200));
    assert_eq!((head.body, head.keep_alive), (BodyLength::Exact(2), true));
    let memory = Memory::default();
    let mut writer = Writer::new(memory.clone());
    writer.informational(hints.parts.status, &HeaderMap::new());
    assert!(writer.response(&head.parts, head.body, true, Version::HTTP_11));
    let Some(Ok(Frame::Data(data))) = ready(|cx| reader.poll_body(cx)) else { panic!("no data") };
    assert!(reader.body_ended());
    writer.data(data);
    writer.end(None);
    ready(|cx| writer.poll_flush(cx)).unwrap();
    assert_eq!(
        String::from_utf8_lossy(&memory.0.borrow().bytes),
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nx-b: 2\r\ncontent-length: 2\r\n\r\nhi"
    );
}
