//! What each failure proves: a request is called not sent only where nobody can have seen it.

use super::*;

fn proves(error: &SendError) -> (Failure, Progress, bool) {
    (error.reason.clone(), error.progress, error.endpoints_fault)
}

async fn failure(connection: &Rc<Connection>) -> (Failure, Progress, bool) {
    proves(&send(connection, post(Body::Whole(Bytes::from_static(b"once")))).await.err().expect("no answer"))
}

/// What the peer does when it has read the head of a request on stream 1: writes this, and closes if it is told to.
async fn after_head(frames: &[Vec<u8>], close: bool) -> (Failure, Progress, bool) {
    let (connection, mut peer) = framed().await;
    let frames = frames.concat();
    let peer = async move {
        assert_eq!(until_headers(&mut peer).await, 1);
        peer.write_all(&frames).await.unwrap();
        // What was written is read before the end.
        (!close).then_some(peer)
    };
    let (failed, _peer) = tokio::join!(failure(&connection), peer);
    failed
}

const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const HEADERS: u8 = 1;
const END_HEADERS: u8 = 4;
const REFUSED: [u8; 4] = [0, 0, 0, 7];
/// Literal `:status: 103`, not indexed.
const EARLY_HINTS: &[u8] = b"\x08\x03103";

fn goaway(last: u32, code: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

/// What the peer writes, whether it closes then, and what that proves.
type Case<'case> = (&'case str, &'case [Vec<u8>], bool, (Failure, Progress, bool));

#[test]
fn only_refusals_and_goaways_below_prove_anything() {
    on_worker(async {
        let refused = frame(RST_STREAM, 0, 1, &REFUSED);
        let hinted = frame(HEADERS, END_HEADERS, 1, EARLY_HINTS);
        let reset = |code: u32| frame(RST_STREAM, 0, 1, &code.to_be_bytes());
        let (sent, not_sent) = (Progress::Sent, Progress::NotSent);
        let once = std::slice::from_ref(&refused);
        let table: [Case<'_>; 9] = [
            ("refused", once, false, (Failure::RefusedStream, not_sent, true)),
            (
                "refused after a hint",
                &[hinted.clone(), refused.clone()],
                false,
                (Failure::RefusedStream, sent, true),
            ),
            ("reset", &[reset(2)], false, (Failure::Reset, sent, true)),
            ("cancelled", &[reset(8)], false, (Failure::Reset, sent, true)),
            ("goodbye, not seen", &[goaway(0, 0)], false, (Failure::GoAway, not_sent, false)),
            ("goodbye in anger", &[goaway(0, 11)], false, (Failure::GoAway, not_sent, true)),
            (
                "goodbye, not seen, after a hint",
                &[hinted, goaway(0, 0)],
                false,
                (Failure::GoAway, sent, false),
            ),
            ("goodbye, perhaps seen", &[goaway(1, 0)], true, (Failure::ClosedBeforeAnswer, sent, true)),
            ("end", &[], true, (Failure::ClosedBeforeAnswer, sent, true)),
        ];
        for (name, frames, close, expected) in table {
            assert_eq!(after_head(frames, close).await, expected, "{name}");
        }
    });
}

#[test]
fn what_breaks_the_protocol_is_the_endpoints_fault() {
    on_worker(async {
        // `connection: close` (literal, new name) after an indexed `:status: 200`; a stream that was never opened; no status at all.
        let specific = frame(HEADERS, END_HEADERS, 1, b"\x88\x00\x0aconnection\x05close");
        let foreign = frame(HEADERS, END_HEADERS, 9, b"\x88");
        let upgrade = frame(HEADERS, END_HEADERS, 1, b"\x08\x03101");
        for frames in [specific, foreign, upgrade] {
            let (reason, progress, fault) = after_head(&[frames], false).await;
            assert!(matches!(reason, Failure::MalformedAnswer(_)), "{reason:?}");
            assert_eq!((progress, fault), (Progress::Sent, true));
        }
    });
}

#[test]
fn too_many_headers_are_no_answer() {
    on_worker(async {
        let connection = served(|_, mut respond| async move {
            let mut answer = status(200);
            for number in 0..200 {
                answer.headers_mut().append("x-many", number.into());
            }
            respond.send_response(answer, true).unwrap();
        })
        .await;
        let failed = failure(&connection).await;
        assert_eq!(failed, (Failure::MalformedAnswer("too many headers"), Progress::Sent, true));
    });
}

#[test]
fn what_never_left_is_not_sent_when_the_connection_dies() {
    on_worker(async {
        let (connection, peer) = framed().await;
        let asking = send(&connection, post(Body::Whole(Bytes::from_static(b"once"))));
        // Queued, and the peer is gone before the connection's task had its turn.
        drop(peer);
        let (reason, progress, _) = proves(&asking.await.err().unwrap());
        assert_eq!((reason, progress), (Failure::ClosedBeforeAnswer, Progress::NotSent));
        assert!(!connection.is_usable(0) && !connection.has_room());
    });
}

#[test]
fn after_a_goodbye_no_request_begins() {
    on_worker(async {
        let (connection, mut peer) = framed().await;
        peer.write_all(&goaway(0, 0)).await.unwrap();
        sleep(Duration::from_millis(50)).await;
        assert!(!connection.is_usable(0));
        let (reason, progress, fault) = failure(&connection).await;
        assert_eq!((reason, progress, fault), (Failure::GoAway, Progress::NotSent, false));
    });
}

#[test]
fn a_reset_behind_the_head_breaks_the_body() {
    on_worker(async {
        let connection = served(|_, mut respond| async move {
            let mut send = respond.send_response(status(200), false).unwrap();
            send.send_data(Bytes::from_static(b"half"), false).unwrap();
            sleep(Duration::from_millis(50)).await;
            send.send_reset(h2::Reason::INTERNAL_ERROR);
        })
        .await;
        let mut answer = send(&connection, get("/")).await.unwrap();
        let (content, _, error) = read(answer.response.body_mut()).await;
        assert_eq!(content, b"half");
        assert_eq!(error, Some(BodyError::Cut("the endpoint reset the stream")));
    });
}

#[test]
fn a_client_that_breaks_off_is_no_endpoints_fault_and_no_end() {
    on_worker(async {
        let resets = Rc::new(RefCell::new(Vec::new()));
        let seen = Rc::clone(&resets);
        let connection = served(move |request, mut respond| {
            let seen = Rc::clone(&seen);
            async move {
                let reason = poll_fn(|context| respond.poll_reset(context)).await.unwrap();
                seen.borrow_mut().push(reason);
                drop(request);
            }
        })
        .await;
        let feed = Feed::default();
        feed.data("begun");
        feed.give(Err(BodyError::Cut("gone")));
        let failed = send(&connection, post(feed.body())).await.err().unwrap();
        assert_eq!(failed, SendError::body(BodyError::Cut("gone")));
        // An attempt that is dropped while it waits.
        assert!(timeout(Duration::from_millis(50), send(&connection, get("/"))).await.is_err());
        sleep(Duration::from_millis(50)).await;
        assert_eq!(*resets.borrow(), [h2::Reason::CANCEL, h2::Reason::CANCEL]);
        assert_eq!(Tunnel::streams(&connection.tunnel), 0);
    });
}

#[test]
fn who_does_not_speak_http2_is_found_out_before_anything_is_sent() {
    on_worker(async {
        let answers: [(&[u8], Failure); 3] = [
            (b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n", Failure::NotHttp2),
            (b"220 mail.example.com ESMTP\r\n", Failure::NotHttp2),
            (b"", Failure::Handshake),
        ];
        for (answer, reason) in answers {
            let (ours, mut theirs) = duplex(4096);
            theirs.write_all(answer).await.unwrap();
            drop(theirs);
            let error = connect(ours, KeepAlive::default()).await.err().unwrap();
            assert_eq!(proves(&error), (reason, Progress::NotSent, true));
        }
    });
}
