//! What is held, and how much leaves at once.

use std::{io, pin::Pin};

use h2::RecvStream;
use http::Method;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    http2::{ask, begun, request},
    *,
};

/// A socket that counts writes.
struct Counting(TcpStream, Rc<Cell<usize>>);

impl AsyncRead for Counting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, out)
    }
}

impl AsyncWrite for Counting {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.1.set(self.1.get() + 1);
        Pin::new(&mut self.0).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[test]
fn answers_of_many_streams_leave_together() {
    on_worker(async {
        let writes = Rc::new(Cell::new(0));
        let (client, near) = pair().await;
        let served = Served::http2(Counting(near, Rc::clone(&writes)));
        let (client, connection) = h2::client::handshake(client).await.unwrap();
        spawn_local(async move { drop(connection.await) });
        ask(&client, request(Method::GET, "/")).await.await.unwrap();
        let before = writes.get();
        let mut asked = Vec::new();
        for _ in 0..100 {
            asked.push(ask(&client, request(Method::GET, "/")).await);
        }
        for response in asked {
            let mut response = response.await.unwrap();
            assert_eq!(response.body_mut().data().await.unwrap().unwrap(), "hello");
        }
        let writes = writes.get() - before;
        assert!(writes <= 10, "{writes} writes for 100 answers");
        assert_eq!(served.site.outcomes.borrow().len(), 101);
    });
}

#[test]
fn a_client_that_does_not_read_holds_its_answer_back_and_no_other() {
    on_worker(async {
        let (client, served) = begun().await;
        let mut response = ask(&client, request(Method::GET, "/endless")).await.await.unwrap();
        let pulled = Rc::clone(&served.site.pulled);
        settled(&pulled).await;
        // The window of a stream is 64 KiB, and as much may be queued.
        assert!(pulled.get() <= 2 * 64 + 1, "{} KiB", pulled.get());
        let other = request(Method::HEAD, "/");
        assert_eq!(ask(&client, other).await.await.unwrap().status(), 200);
        let before = pulled.get();
        take(response.body_mut(), 64 * 1024).await;
        settled(&pulled).await;
        assert!(pulled.get() > before);
    });
}

/// Waits until nothing changes any more.
async fn settled(count: &Cell<usize>) {
    let mut before = usize::MAX;
    while before != count.get() {
        before = count.get();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn take(body: &mut RecvStream, bytes: usize) {
    let mut taken = 0;
    while taken < bytes {
        let data = body.data().await.unwrap().unwrap();
        taken += data.len();
        body.flow_control().release_capacity(data.len()).unwrap();
    }
}

#[test]
fn a_body_that_nobody_reads_holds_its_client_back_and_no_other_stream() {
    on_worker(async {
        let (client, served) = begun().await;
        let mut ready = client.clone().ready().await.unwrap();
        let (_response, mut send) = ready.send_request(request(Method::POST, "/unread"), false).unwrap();
        let mut sent = 0;
        loop {
            send.reserve_capacity(16 * 1024);
            let capacity = std::future::poll_fn(|context| send.poll_capacity(context));
            let Ok(Some(Ok(_))) = timeout(Duration::from_millis(300), capacity).await else { break };
            let room = send.capacity();
            sent += room;
            send.send_data(Bytes::from(vec![0; room]), false).unwrap();
        }
        let windows = Windows::of_one_in(1);
        assert_eq!(sent, windows.stream as usize);
        assert_eq!(served.site.kept.borrow().len(), 1);

        let (response, mut send) = ready.send_request(request(Method::POST, "/echo"), false).unwrap();
        send.send_data(Bytes::from_static(b"small"), true).unwrap();
        assert_eq!(response.await.unwrap().body_mut().data().await.unwrap().unwrap(), "small");
    });
}

#[test]
fn stalled_streams_of_small_messages_do_not_end_the_connection() {
    on_worker(async {
        let (client, served) = begun().await;
        let mut stalled = Vec::new();
        for _ in 0..4 {
            let mut ready = client.clone().ready().await.unwrap();
            let (response, mut send) = ready.send_request(request(Method::POST, "/unread"), false).unwrap();
            for _ in 0..30_000 {
                send.send_data(Bytes::from_static(&[0; 5]), false).unwrap();
            }
            stalled.push((response, send));
        }
        until(|| served.site.kept.borrow().len() == 4).await;
        for _ in 0..10 {
            assert_eq!(ask(&client, request(Method::GET, "/")).await.await.unwrap().status(), 200);
        }
        assert!(!served.ended.is_finished());
    });
}

#[test]
fn content_of_requests_under_way_does_not_use_the_connection_up() {
    on_worker(async {
        let (client, served) = begun().await;
        let body = Bytes::from(vec![0; 16 * 1024]);
        // More than the connection's window, held by handlers that took all of it and have not answered.
        let many = (Windows::of_one_in(1).connection as usize / body.len()) + 64;
        let mut waiting = Vec::new();
        for _ in 0..many {
            let mut ready = client.clone().ready().await.unwrap();
            let (response, mut send) = ready.send_request(request(Method::POST, "/never"), false).unwrap();
            send.send_data(body.clone(), true).unwrap();
            waiting.push((response, send));
        }
        until(|| served.site.running.get() == many).await;
        let mut ready = client.clone().ready().await.unwrap();
        let (response, mut send) = ready.send_request(request(Method::POST, "/echo"), false).unwrap();
        send.send_data(body.clone(), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
    });
}

#[test]
fn windows_are_a_share_of_the_pods() {
    let table = [
        (0, (256 << 10, 8 << 20)),
        (1, (256 << 10, 8 << 20)),
        (64, (256 << 10, 1 << 20)),
        (512, (128 << 10, 128 << 10)),
        (10_000, (65_535, 65_535)),
    ];
    for (connections, expected) in table {
        let windows = Windows::of_one_in(connections);
        assert_eq!((windows.stream, windows.connection), expected, "{connections}");
    }
}
