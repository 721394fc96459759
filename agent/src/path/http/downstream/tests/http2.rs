//! What a client of HTTP/2 gets for what it asks.

use std::future::poll_fn;

use h2::{
    Reason, RecvStream,
    client::{ResponseFuture, SendRequest},
};
use http::{Method, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// A client and what serves it.
pub(super) async fn begun() -> (SendRequest<Bytes>, Served) {
    let (client, near) = pair().await;
    let served = Served::http2(near);
    let (send, connection) = h2::client::handshake(client).await.unwrap();
    spawn_local(async move { drop(connection.await) });
    (send, served)
}

pub(super) fn request(method: Method, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("http://shop{path}")).body(()).unwrap()
}

pub(super) async fn ask(client: &SendRequest<Bytes>, request: Request<()>) -> ResponseFuture {
    client.clone().ready().await.unwrap().send_request(request, true).unwrap().0
}

/// Content and trailers.
async fn all(body: &mut RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut content = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        content.extend_from_slice(&data);
    }
    (content, body.trailers().await.unwrap())
}

#[test]
fn a_request_has_one_form_and_its_answer_a_length() {
    on_worker(async {
        let (client, served) = begun().await;
        let mut asked = request(Method::GET, "/a?b=c");
        for crumb in ["a=1", "b=2"] {
            asked.headers_mut().append("cookie", crumb.parse().unwrap());
        }
        asked.headers_mut().insert("te", "trailers".parse().unwrap());
        let mut response = ask(&client, asked).await.await.unwrap();
        let headers = response.headers();
        assert_eq!(
            (&headers["x-target"], &headers["x-host"]),
            (&"/a?b=c".parse().unwrap(), &"shop".parse().unwrap())
        );
        assert_eq!(
            (&headers["x-cookie"], &headers["x-te"]),
            (&"a=1; b=2".parse().unwrap(), &"trailers".parse().unwrap())
        );
        assert_eq!(headers["content-length"], "5");
        assert_eq!(all(response.body_mut()).await, (b"hello".to_vec(), None));
        // What is only for one hop of HTTP/1 does not come through.
        let response = ask(&client, request(Method::GET, "/connection")).await.await.unwrap();
        assert!(
            !response.headers().contains_key("connection") && !response.headers().contains_key("upgrade")
        );
        assert_eq!(
            served.site.outcomes.borrow().as_slice(),
            [ReplyOutcome::Finished, ReplyOutcome::Finished]
        );
        assert_eq!(served.site.running.get(), 0);
    });
}

#[test]
fn bodies_and_trailers_go_both_ways_piece_by_piece() {
    on_worker(async {
        let (client, _served) = begun().await;
        let mut client = client.ready().await.unwrap();
        let (response, mut send) = client.send_request(request(Method::POST, "/echo"), false).unwrap();
        let mut response = response.await.unwrap();
        assert_eq!(response.headers()["x-whole"], "no");
        for piece in [&b"one"[..], b"two"] {
            send.send_data(Bytes::from_static(piece), false).unwrap();
            let back = response.body_mut().data().await.unwrap().unwrap();
            assert_eq!(back, piece);
        }
        let trailers = [("grpc-status", "0"), ("content-length", "9")];
        let trailers = trailers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        send.send_trailers(HeaderMap::from_iter(trailers)).unwrap();
        let (content, trailers) = all(response.body_mut()).await;
        // One that would deceive whoever merges it into the head is left out.
        assert_eq!((content.len(), trailers.unwrap().len()), (0, 1));
    });
}

#[test]
fn content_keeps_its_order_however_much_of_it_is_here_at_first() {
    on_worker(async {
        let (client, _served) = begun().await;
        for (path, pieces) in [("/echo", 2_u8), ("/echo", 3), ("/whole", 9)] {
            let mut client = client.clone().ready().await.unwrap();
            let (response, mut send) = client.send_request(request(Method::POST, path), false).unwrap();
            for piece in 0..pieces {
                send.send_data(Bytes::from(vec![piece; 300]), piece + 1 == pieces).unwrap();
            }
            let (content, _) = all(response.await.unwrap().body_mut()).await;
            assert_eq!(content.len(), 300 * usize::from(pieces));
            assert!(content.is_sorted(), "{path} {pieces}");
        }
    });
}

#[test]
fn a_small_body_is_there_with_its_head() {
    on_worker(async {
        let (client, _served) = begun().await;
        for ended_apart in [false, true] {
            let mut client = client.clone().ready().await.unwrap();
            let (response, mut send) = client.send_request(request(Method::POST, "/echo"), false).unwrap();
            send.send_data(Bytes::from_static(b"small"), !ended_apart).unwrap();
            if ended_apart {
                send.send_data(Bytes::new(), true).unwrap();
            }
            let mut response = response.await.unwrap();
            assert_eq!(
                (&response.headers()["x-whole"], &response.headers()["content-length"]),
                (&"yes".parse().unwrap(), &"5".parse().unwrap())
            );
            assert_eq!(all(response.body_mut()).await.0, b"small");
        }
    });
}

#[test]
fn answers_without_content_end_with_their_head() {
    on_worker(async {
        let (client, _served) = begun().await;
        for (method, path, length) in [
            (Method::HEAD, "/hello", None),
            (Method::GET, "/empty", None),
            (Method::GET, "/connection", Some("0")),
        ] {
            let response = ask(&client, request(method, path)).await.await.unwrap();
            assert!(response.body().is_end_stream(), "{path}");
            let said = response.headers().get("content-length").map(|length| length.to_str().unwrap());
            assert_eq!(said, length, "{path}");
        }
    });
}

#[test]
fn answers_before_the_answer() {
    on_worker(async {
        let (client, _served) = begun().await;
        let mut hinted = ask(&client, request(Method::GET, "/hints")).await;
        let first = poll_fn(|context| hinted.poll_informational(context)).await.unwrap().unwrap();
        assert_eq!((first.status().as_u16(), &first.headers()["link"]), (103, &"</a>".parse().unwrap()));
        assert_eq!(all(hinted.await.unwrap().body_mut()).await.0, b"hinted");

        let mut expecting = request(Method::POST, "/whole");
        expecting.headers_mut().insert("expect", "100-continue".parse().unwrap());
        let mut client = client.ready().await.unwrap();
        let (mut response, mut send) = client.send_request(expecting, false).unwrap();
        let first = poll_fn(|context| response.poll_informational(context)).await.unwrap().unwrap();
        assert_eq!(first.status(), StatusCode::CONTINUE);
        send.send_data(Bytes::from_static(b"now"), true).unwrap();
        assert_eq!(all(response.await.unwrap().body_mut()).await.0, b"now");
    });
}

#[test]
fn a_reset_of_the_client_ends_the_work_for_it_and_nothing_else() {
    on_worker(async {
        let (client, served) = begun().await;
        let mut ready = client.clone().ready().await.unwrap();
        let (_, mut first) = ready.send_request(request(Method::GET, "/never"), true).unwrap();
        let second = ask(&client, request(Method::GET, "/never")).await;
        until(|| served.site.running.get() == 2).await;
        first.send_reset(Reason::CANCEL);
        until(|| served.site.running.get() == 1).await;
        assert_eq!(ask(&client, request(Method::GET, "/")).await.await.unwrap().status(), 200);
        // And in the midst of an answer.
        let endless = ask(&client, request(Method::GET, "/endless")).await.await.unwrap();
        drop(endless);
        until(|| served.site.outcomes.borrow().last() == Some(&ReplyOutcome::ClientGone)).await;
        assert_eq!(served.site.running.get(), 1);
        drop((first, second, ready, client));
        until(|| served.site.dropped.get() == 2).await;
        served.ended.await.unwrap();
    });
}

#[test]
fn what_is_not_whole_is_reset() {
    on_worker(async {
        let (client, served) = begun().await;
        let error = ask(&client, request(Method::GET, "/unused")).await.await.unwrap_err();
        assert_eq!((error.is_reset(), error.reason()), (true, Some(Reason::INTERNAL_ERROR)));
        // What has not left yet goes with it.
        let error = ask(&client, request(Method::GET, "/broken")).await.await.unwrap_err();
        assert_eq!((error.is_reset(), error.reason()), (true, Some(Reason::INTERNAL_ERROR)));
        let outcome = served.site.outcomes.borrow()[0].clone();
        assert_eq!(outcome, ReplyOutcome::BodyFailed(BodyError::Cut("in a test")));
    });
}

#[test]
fn an_answer_need_not_wait_for_its_request() {
    on_worker(async {
        let (client, _served) = begun().await;
        let mut client = client.ready().await.unwrap();
        let (response, mut send) = client.send_request(request(Method::POST, "/hello"), false).unwrap();
        send.send_data(Bytes::from_static(b"more will come"), false).unwrap();
        assert_eq!(all(response.await.unwrap().body_mut()).await.0, b"hello");
        // RFC 9113, section 8.1: the rest is not wanted, which is no error.
        let reason = poll_fn(|context| send.poll_reset(context)).await.unwrap();
        assert_eq!(reason, Reason::NO_ERROR);
    });
}

#[test]
fn who_leaves_finishes_what_runs() {
    on_worker(async {
        let (client, mut served) = begun().await;
        let mut ready = client.clone().ready().await.unwrap();
        let (response, mut send) = ready.send_request(request(Method::POST, "/echo"), false).unwrap();
        let mut response = response.await.unwrap();
        served.leave();
        // GOAWAY comes, after which the client begins nothing more.
        let refused = async {
            while let Ok(mut ready) = client.clone().ready().await {
                let Ok((response, _)) = ready.send_request(request(Method::GET, "/"), true) else { return };
                let _ = response.await;
            }
        };
        refused.await;
        assert!(!served.ended.is_finished());
        send.send_data(Bytes::from_static(b"last"), true).unwrap();
        assert_eq!(all(response.body_mut()).await.0, b"last");
        served.ended.await.unwrap();
    });
}

#[test]
fn connect_carries_bytes_both_ways() {
    on_worker(async {
        let (client, served) = begun().await;
        let (mut server, far) = pair().await;
        served.site.tunnel.replace(Some(far));
        let asked = Request::builder().method(Method::CONNECT).uri("shop:7").body(()).unwrap();
        let mut client = client.ready().await.unwrap();
        let (response, mut send) = client.send_request(asked, false).unwrap();
        let mut response = response.await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-target"]),
            (200, &"shop:7".parse().unwrap())
        );
        send.send_data(Bytes::from_static(b"ping"), true).unwrap();
        let mut heard = Vec::new();
        server.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"ping");
        server.write_all(b"pong").await.unwrap();
        drop(server);
        assert_eq!(all(response.body_mut()).await.0, b"pong");
        until(|| served.site.outcomes.borrow().len() == 1).await;
        assert_eq!(served.site.outcomes.borrow()[0], ReplyOutcome::Finished);
    });
}
