//! Bodies: who holds whom back, what goes on after an answer has begun.

use super::*;

const PIECE: usize = 16 << 10;

#[test]
fn an_endpoint_that_reads_nothing_holds_the_client_back() {
    on_worker(async {
        let go = Rc::new(tokio::sync::Notify::new());
        let when = Rc::clone(&go);
        let connection = served(move |request, mut respond| {
            let when = Rc::clone(&when);
            async move {
                when.notified().await;
                let (content, _) = collected(request.into_body()).await;
                let size = Response::builder().header("x-size", content.len()).body(()).unwrap();
                respond.send_response(size, true).unwrap();
            }
        })
        .await;
        let feed = Feed::default();
        for _ in 0..200 {
            feed.give(Ok(Frame::Data(vec![b'x'; PIECE].into())));
        }
        feed.end();
        let sending = send(&connection, post(feed.body()));
        let watching = async {
            sleep(Duration::from_millis(300)).await;
            // The window of a server that says nothing else is 64 KiB, and a piece may wait.
            let taken = feed.0.taken.get() * PIECE;
            assert!(taken <= (64 << 10) + 2 * PIECE, "{taken} bytes were taken");
            go.notify_one();
        };
        let (answer, ()) = tokio::join!(sending, watching);
        assert_eq!(answer.unwrap().response.headers()["x-size"], (200 * PIECE).to_string());
    });
}

#[test]
fn an_answer_that_nobody_reads_is_held_back() {
    on_worker(async {
        let sent = Rc::new(Cell::new(0));
        let count = Rc::clone(&sent);
        let connection = served(move |_, mut respond| {
            let count = Rc::clone(&count);
            async move {
                let mut send = respond.send_response(status(200), false).unwrap();
                for _ in 0..200 {
                    send.reserve_capacity(PIECE);
                    while send.capacity() < PIECE {
                        poll_fn(|context| send.poll_capacity(context)).await.unwrap().unwrap();
                    }
                    send.send_data(vec![b'y'; PIECE].into(), false).unwrap();
                    count.set(count.get() + PIECE);
                }
                send.send_data(Bytes::new(), true).unwrap();
            }
        })
        .await;
        let mut answer = send(&connection, get("/")).await.unwrap();
        sleep(Duration::from_millis(300)).await;
        assert!(sent.get() <= (512 << 10) + PIECE, "{} bytes came unasked", sent.get());
        // Another one on the same connection is not held up.
        let small = send(&connection, get("/")).await.unwrap();
        drop(small);
        let (content, _, error) = read(answer.response.body_mut()).await;
        assert_eq!((content.len(), error), (200 * PIECE, None));
    });
}

#[test]
fn small_messages_that_nobody_reads_do_not_end_the_connection() {
    const STREAMS: usize = 4;
    const MESSAGES: usize = 80_000;
    on_worker(async {
        let connection = served(|_, mut respond| async move {
            let mut send = respond.send_response(status(200), false).unwrap();
            for _ in 0..MESSAGES {
                send.reserve_capacity(5);
                while send.capacity() < 5 {
                    poll_fn(|context| send.poll_capacity(context)).await.unwrap().unwrap();
                }
                send.send_data(Bytes::from_static(&[0; 5]), false).unwrap();
            }
            send.send_trailers(HeaderMap::new()).unwrap();
        })
        .await;
        let mut answers = Vec::new();
        for _ in 0..STREAMS {
            answers.push(send(&connection, get("/")).await.unwrap());
        }
        for mut answer in answers {
            let (content, trailers, error) = read(answer.response.body_mut()).await;
            assert_eq!((content.len(), trailers.is_some(), error), (5 * MESSAGES, true, None));
        }
    });
}

#[test]
fn a_known_length_is_kept_and_counted() {
    on_worker(async {
        let connection = served(|_, mut respond| async move {
            let head = Response::builder().header("content-length", "10").body(()).unwrap();
            let mut send = respond.send_response(head, false).unwrap();
            send.send_data(Bytes::from_static(b"01234"), false).unwrap();
            sleep(Duration::from_millis(50)).await;
            send.send_data(Bytes::from_static(b"56789"), true).unwrap();
        })
        .await;
        let mut answer = send(&connection, get("/")).await.unwrap();
        assert_eq!(answer.response.body().remaining(), Some(10));
        let first = poll_fn(|context| answer.response.body_mut().poll_frame(context)).await;
        assert_eq!(first, Some(Ok(Frame::Data(Bytes::from_static(b"01234")))));
        assert_eq!(answer.response.body().remaining(), Some(5));
        assert_eq!(read(answer.response.body_mut()).await.0, b"56789");
        assert!(answer.response.body().is_end());
        assert_eq!(answer.response.body().remaining(), Some(0));
    });
}

#[test]
fn an_answer_may_begin_before_the_request_ends() {
    on_worker(async {
        let connection = served(|request, mut respond| async move {
            let mut send = respond.send_response(status(200), false).unwrap();
            let mut body = request.into_body();
            while let Some(Ok(data)) = body.data().await {
                body.flow_control().release_capacity(data.len()).unwrap();
                send.send_data(data, false).unwrap();
            }
            send.send_data(Bytes::new(), true).unwrap();
        })
        .await;
        let feed = Feed::default();
        let mut answer = send(&connection, post(feed.body())).await.unwrap();
        let mut sending = answer.sending.take().expect("the request goes on");
        for word in ["one", "two"] {
            feed.data(word);
            let heard = poll_fn(|context| {
                let _ = sending.poll_sending(context);
                answer.response.body_mut().poll_frame(context)
            });
            assert_eq!(heard.await, Some(Ok(Frame::Data(Bytes::from_static(word.as_bytes())))));
        }
        feed.end();
        poll_fn(|context| sending.poll_sending(context)).await.unwrap();
        assert_eq!(read(answer.response.body_mut()).await, (Vec::new(), None, None));
    });
}

#[test]
fn an_endpoint_that_wants_no_more_ends_the_sending() {
    on_worker(async {
        let connection = served(|_, mut respond| async move {
            let mut send = respond.send_response(status(200), true).unwrap();
            sleep(Duration::from_millis(50)).await;
            send.send_reset(h2::Reason::NO_ERROR);
        })
        .await;
        let feed = Feed::default();
        let mut answer = send(&connection, post(feed.body())).await.unwrap();
        assert!(answer.response.body().is_end());
        let mut sending = answer.sending.take().expect("the request goes on");
        poll_fn(|context| sending.poll_sending(context)).await.unwrap();
        assert!(poll_fn(|context| Poll::Ready(sending.poll_sending(context))).await.is_ready());
    });
}

#[test]
fn an_answer_that_is_given_up_is_cancelled() {
    on_worker(async {
        let reset = Rc::new(Cell::new(None));
        let seen = Rc::clone(&reset);
        let connection = served(move |_, mut respond| {
            let seen = Rc::clone(&seen);
            async move {
                let mut send = respond.send_response(status(200), false).unwrap();
                seen.set(poll_fn(|context| send.poll_reset(context)).await.ok());
            }
        })
        .await;
        let answer = send(&connection, get("/")).await.unwrap();
        drop(answer);
        sleep(Duration::from_millis(50)).await;
        assert_eq!(reset.get(), Some(h2::Reason::CANCEL));
    });
}
