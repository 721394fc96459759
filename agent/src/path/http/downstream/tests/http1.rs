//! What a client of HTTP/1 gets for what it asks.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Sends, ends, and reads to the end: what came, or the error.
async fn exchange(client: &mut TcpStream, sent: &[u8]) -> Result<String, std::io::ErrorKind> {
    client.write_all(sent).await.unwrap();
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).await.map_err(|error| error.kind())?;
    Ok(String::from_utf8(heard).unwrap())
}

#[test]
fn one_request_after_the_other() {
    on_worker(async {
        let (mut client, near) = pair().await;
        let served = Served::http1(near);
        let requests = b"GET / HTTP/1.1\r\nhost: shop\r\n\r\nPOST /echo HTTP/1.1\r\nhost: shop\r\ncontent-length: 3\r\n\r\nabc\
            HEAD / HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n";
        let heard = exchange(&mut client, requests).await.unwrap();
        assert_eq!(heard.matches("HTTP/1.1 200 OK").count(), 3);
        assert!(
            heard.contains("\r\n\r\nhello") && heard.contains("\r\n\r\nabc") && heard.ends_with("\r\n\r\n"),
            "{heard}"
        );
        assert_eq!(served.site.outcomes.borrow().as_slice(), [const { ReplyOutcome::Finished }; 3]);
        served.ended.await.unwrap();
    });
}

#[test]
fn what_is_malformed_is_answered_counted_and_closed() {
    on_worker(async {
        for (sent, status, what) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], "400", "no Host"),
            (
                b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
                "400",
                "both Transfer-Encoding and Content-Length",
            ),
            (b"GET / HTTP/3.0\r\nhost: a\r\n\r\n", "505", "unknown HTTP version"),
        ] {
            let (mut client, near) = pair().await;
            let served = Served::http1(near);
            let heard = exchange(&mut client, sent).await.unwrap();
            assert!(heard.starts_with(&format!("HTTP/1.1 {status} ")), "{heard}");
            assert_eq!(served.site.malformed.borrow().as_slice(), [what]);
            assert!(served.site.outcomes.borrow().is_empty());
        }
    });
}

#[test]
fn a_head_that_has_begun_comes_in_time() {
    on_worker(async {
        let limited = |near, time| {
            let served = Served::http1(near);
            served.site.head_time.set(time);
            served
        };
        let short = Some(Duration::from_millis(20));
        let whole = b"GET / HTTP/1.1\r\nhost: shop\r\n\r\n";
        // Also after a request that was in time.
        for before in [&b""[..], whole] {
            let (mut client, near) = pair().await;
            let served = limited(near, short);
            client.write_all(before).await.unwrap();
            client.write_all(b"GET /half HTTP/1.1\r\nhost: sh").await.unwrap();
            let mut heard = String::new();
            client.read_to_string(&mut heard).await.unwrap();
            let answers = heard.matches("HTTP/1.1 ").count();
            assert_eq!(answers, 1 + usize::from(!before.is_empty()), "{heard}");
            assert!(
                heard.contains("HTTP/1.1 408 Request Timeout\r\n") && heard.contains("connection: close"),
                "{heard}"
            );
            assert_eq!((served.site.late.get(), served.site.malformed.borrow().len()), (1, 0));
        }
        // Who has not begun may wait, before the first request and between two; and where there is no limit, who has begun.
        for (time, begin) in [(short, 0), (None, 7)] {
            let (mut client, near) = pair().await;
            let served = limited(near, time);
            for _ in 0..2 {
                client.write_all(&whole[..begin]).await.unwrap();
                tokio::time::sleep(Duration::from_millis(100)).await;
                client.write_all(&whole[begin..]).await.unwrap();
                let mut heard = Vec::new();
                while !heard.ends_with(b"hello") {
                    assert!(client.read_buf(&mut heard).await.unwrap() > 0, "{heard:?}");
                }
                assert!(heard.starts_with(b"HTTP/1.1 200 OK"), "{heard:?}");
            }
            assert_eq!(served.site.late.get(), 0);
        }
    });
}

#[test]
fn what_is_not_whole_is_reset() {
    on_worker(async {
        for path in ["/broken", "/unused"] {
            let (mut client, near) = pair().await;
            let _served = Served::http1(near);
            let request = format!("GET {path} HTTP/1.1\r\nhost: shop\r\n\r\n");
            let error = exchange(&mut client, request.as_bytes()).await.unwrap_err();
            assert_eq!(error, std::io::ErrorKind::ConnectionReset, "{path}");
        }
    });
}

#[test]
fn a_client_that_goes_away_ends_the_work_for_it() {
    on_worker(async {
        let (mut client, near) = pair().await;
        let served = Served::http1(near);
        client.write_all(b"GET /never HTTP/1.1\r\nhost: shop\r\n\r\n").await.unwrap();
        until(|| served.site.running.get() == 1).await;
        drop(client);
        until(|| served.site.dropped.get() == 1).await;
        served.ended.await.unwrap();
    });
}

#[test]
fn who_leaves_finishes_what_runs() {
    on_worker(async {
        let (mut client, near) = pair().await;
        let mut served = Served::http1(near);
        client.write_all(b"POST /echo HTTP/1.1\r\nhost: shop\r\ncontent-length: 4\r\n\r\n").await.unwrap();
        until(|| served.site.running.get() == 1).await;
        served.leave();
        let heard = exchange(&mut client, b"last").await.unwrap();
        assert!(heard.contains("connection: close") && heard.ends_with("last"), "{heard}");
        served.ended.await.unwrap();

        // One that only waits is closed, though not at once: what is on its way is answered.
        for request in ["", "GET / HTTP/1.1\r\nhost: shop\r\n\r\n"] {
            let (mut client, near) = pair().await;
            let mut served = Served::http1(near);
            served.leave();
            tokio::time::sleep(Duration::from_millis(50)).await;
            let heard = exchange(&mut client, request.as_bytes()).await.unwrap();
            assert_eq!(
                heard.contains("connection: close") && heard.ends_with("hello"),
                !request.is_empty(),
                "{heard}"
            );
            served.ended.await.unwrap();
        }
    });
}

#[test]
fn a_client_that_waits_for_100_gets_it() {
    on_worker(async {
        // To `/echo` the answer begins before the body is asked for, and after its beginning there is no 100 any more.
        for (path, begins) in [("/whole", "HTTP/1.1 100 Continue\r\n\r\n"), ("/echo", "HTTP/1.1 200 OK\r\n")]
        {
            let (mut client, near) = pair().await;
            let _served = Served::http1(near);
            let fields =
                "host: shop\r\nexpect: 100-continue\r\nconnection: close\r\ncontent-length: 3\r\n\r\n";
            client.write_all(format!("POST {path} HTTP/1.1\r\n{fields}").as_bytes()).await.unwrap();
            let mut first = vec![0; begins.len()];
            client.read_exact(&mut first).await.unwrap();
            assert_eq!(String::from_utf8(first).unwrap(), begins);
            let rest = exchange(&mut client, b"now").await.unwrap();
            assert!(rest.ends_with("\r\n\r\nnow"), "{rest}");
        }
    });
}
