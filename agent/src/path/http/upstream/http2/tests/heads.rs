//! Heads both ways, and what comes between them.

use super::*;
use crate::http1::{Sink, Source};

#[test]
fn a_request_arrives_as_it_was_meant_and_its_answer_too() {
    on_worker(async {
        let connection = served(|request, mut respond| async move {
            assert_eq!(request.uri(), "http://shop/a?b=c");
            assert_eq!(request.headers()["te"], "trailers");
            assert!(!request.headers().contains_key("host"));
            let (content, trailers) = collected(request.into_body()).await;
            assert_eq!(trailers.unwrap()["x-sum"], "7");
            let mut send = respond.send_response(status(201), false).unwrap();
            send.send_data(content.into(), false).unwrap();
            send.send_trailers(fields(&[("grpc-status", "0"), ("content-length", "9")])).unwrap();
        })
        .await;
        let feed = Feed::default();
        feed.data("hello ");
        feed.data("world");
        feed.give(Ok(Frame::Trailers(fields(&[("x-sum", "7")]))));
        let request = Request::post("/a?b=c").header("host", "shop").header("te", "trailers");
        let mut answer = send(&connection, request.body(feed.body()).unwrap()).await.unwrap();
        assert_eq!((answer.response.status(), answer.reused), (StatusCode::CREATED, false));
        let (content, trailers, error) = read(answer.response.body_mut()).await;
        assert_eq!((content, error), (b"hello world".to_vec(), None));
        assert_eq!(trailers.unwrap(), fields(&[("grpc-status", "0")]), "a length in trailers is no length");
    });
}

#[test]
fn answers_without_a_body_have_none() {
    on_worker(async {
        let connection = served(|request, mut respond| async move {
            let length =
                |code| Response::builder().status(code).header("content-length", "42").body(()).unwrap();
            let answer = match (request.method().as_str(), request.uri().path()) {
                ("HEAD", _) => length(200),
                (_, "/none") => status(204),
                (_, "/cached") => length(304),
                _ => status(200),
            };
            respond.send_response(answer, true).unwrap();
        })
        .await;
        for (method, path, code) in
            [("HEAD", "/", 200), ("GET", "/none", 204), ("GET", "/cached", 304), ("GET", "/", 200)]
        {
            let request = Request::builder().method(method).uri(path).header("host", "shop");
            let answer = send(&connection, request.body(Body::Empty).unwrap()).await.unwrap();
            assert_eq!(answer.response.status(), code);
            assert!(matches!(answer.response.body(), Body::Empty), "{method} {path}");
            let said = answer.response.headers().contains_key("content-length");
            assert_eq!(said, method == "HEAD" || code == 304, "{method} {path}");
        }
    });
}

#[test]
fn a_small_answer_needs_no_source() {
    on_worker(async {
        let connection = served(|_, mut respond| async move {
            let mut send = respond.send_response(status(200), false).unwrap();
            send.send_data(Bytes::from_static(b"small"), true).unwrap();
        })
        .await;
        let answer = send(&connection, get("/")).await.unwrap();
        assert!(
            matches!(answer.response.body(), Body::Whole(data) if data == "small"),
            "{:?}",
            answer.response
        );
    });
}

#[test]
fn hints_come_before_the_answer() {
    on_worker(async {
        let connection = served(|_, mut respond| async move {
            for link in ["a", "b"] {
                let hint = Response::builder().status(103).header("link", link).body(()).unwrap();
                respond.send_informational(hint).unwrap();
            }
            respond.send_response(status(200), true).unwrap();
        })
        .await;
        let lane = Lane { connection, connect_ns: 5, alone: false };
        let mut seen = Vec::new();
        let mut inform = |status: StatusCode, headers: HeaderMap| {
            seen.push((status.as_u16(), headers["link"].to_str().unwrap().to_owned()));
        };
        assert_eq!(exchange(lane, get("/"), &mut inform).await.unwrap().connect_ns, 5);
        assert_eq!(seen, [(103, "a".to_owned()), (103, "b".to_owned())]);
    });
}

#[test]
fn a_body_waits_for_100_where_the_client_does() {
    on_worker(async {
        let go = Rc::new(tokio::sync::Notify::new());
        let when = Rc::clone(&go);
        let connection = served(move |request, mut respond| {
            let when = Rc::clone(&when);
            async move {
                assert_eq!(request.headers()["expect"], "100-continue");
                when.notified().await;
                respond.send_informational(status(100)).unwrap();
                let (content, _) = collected(request.into_body()).await;
                let mut send = respond.send_response(status(200), false).unwrap();
                send.send_data(content.into(), true).unwrap();
            }
        })
        .await;
        let feed = Feed::default();
        feed.data("big");
        feed.end();
        let request = Request::put("/").header("host", "shop").header("expect", "100-continue");
        let sending = send(&connection, request.body(feed.body()).unwrap());
        let watching = async {
            sleep(Duration::from_millis(200)).await;
            assert_eq!(feed.0.taken.get(), 0, "nothing is taken from the client before");
            go.notify_one();
        };
        let (answer, ()) = tokio::join!(sending, watching);
        assert_eq!(read(answer.unwrap().response.body_mut()).await.0, b"big");
    });
}

#[test]
fn a_body_that_was_not_asked_for_stays_with_the_client() {
    on_worker(async {
        let connection = served(|_, mut respond| async move {
            respond.send_response(status(417), true).unwrap();
        })
        .await;
        let feed = Feed::default();
        feed.data("big");
        let request = Request::put("/").header("host", "shop").header("expect", "100-continue");
        let answer = send(&connection, request.body(feed.body()).unwrap()).await.unwrap();
        assert_eq!(answer.response.status(), 417);
        assert!(answer.sending.is_none());
        assert_eq!(feed.0.taken.get(), 0);
    });
}

#[test]
fn connect_opens_both_ways() {
    on_worker(async {
        let connection = served(|request, mut respond| async move {
            assert_eq!(
                (request.method().as_str(), request.uri().to_string()),
                ("CONNECT", "db:5432".to_owned())
            );
            let mut send = respond.send_response(status(200), false).unwrap();
            send.send_data(Bytes::from_static(b"welcome "), false).unwrap();
            let (content, _) = collected(request.into_body()).await;
            send.send_data(content.into(), true).unwrap();
        })
        .await;
        let request = Request::connect("db:5432").header("host", "db:5432").body(Body::Empty).unwrap();
        let answer = send(&connection, request).await.unwrap();
        let mut wire = answer.upgraded.unwrap().wire;
        let mut queue = VecDeque::from([Bytes::from_static(b"guest")]);
        poll_fn(|context| wire.sink.poll_write(context, &mut queue)).await.unwrap();
        wire.sink.finish().unwrap();
        let mut heard = Vec::new();
        loop {
            let data = poll_fn(|context| wire.source.poll_read(context)).await.unwrap();
            if data.is_empty() {
                break;
            }
            wire.source.taken(data.len());
            heard.extend_from_slice(&data);
        }
        assert_eq!(heard, b"welcome guest");
        assert_eq!(Tunnel::streams(&connection.tunnel), 1, "the stream counts while it is held");
        drop(wire);
        assert_eq!(Tunnel::streams(&connection.tunnel), 0);
    });
}
