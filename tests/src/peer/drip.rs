//! Very many small pieces of messages, to readers that stop: each piece is noted by whoever keeps it until it is read.

use super::client::say;
use bytes::Bytes;
use h2::{RecvStream, SendStream, client, server};
use http::{Method, Request, Response};
use serde_json::{Value, json};
use std::{
    future::poll_fn,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};
use tokio::{task::LocalSet, time::timeout};

/// More than sockets take, so that what follows waits behind it, bytes.
const BULK: usize = 1 << 20;
/// Chunks of one message that follow.
const CHUNKS: u32 = 50_000;
/// A chunk with an event that says nothing.
const CHUNK: &[u8] = b"3\r\n:\n\n\r\n";
/// The smallest message of gRPC.
const MESSAGE: &[u8] = &[0; 5];
/// What this program's own ends of HTTP/2 bear to note of small frames; without it they would be the first to close.
const NOTED: usize = 1 << 30;
/// A writer that can write nothing for so long is stopped.
const STOPPED: Duration = Duration::from_secs(1);

/// Answers with a stream of events; says how many chunks it could write.
pub(super) fn answer(stream: &mut TcpStream) -> io::Result<Value> {
    let (mut head, mut byte) = (Vec::new(), [0_u8; 1]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    stream.write_all(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    )?;
    drip(stream)
}

/// Sends a request whose body comes in small chunks, or one whose answer it does not read.
pub(super) fn ask(to: SocketAddr, method: &str) -> io::Result<Value> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None)?;
    // The kernel would keep much of what nobody reads.
    socket.set_recv_buffer_size(64 << 10)?;
    socket.connect(&to.into())?;
    let mut stream = TcpStream::from(socket);
    if method == "POST" {
        stream.write_all(b"POST / HTTP/1.1\r\nhost: drip\r\ntransfer-encoding: chunked\r\n\r\n")?;
        return drip(&mut stream);
    }
    stream.write_all(b"GET / HTTP/1.1\r\nhost: drip\r\n\r\n")?;
    stay()
}

fn drip(stream: &mut TcpStream) -> io::Result<Value> {
    stream.set_nodelay(true)?;
    stream.write_all(format!("{BULK:x}\r\n").as_bytes())?;
    stream.write_all(&vec![b'b'; BULK])?;
    stream.write_all(b"\r\n")?;
    // Nothing of it is on its way any more that could take chunks along.
    thread::sleep(STOPPED);
    stream.set_write_timeout(Some(STOPPED))?;
    for dripped in 0..CHUNKS {
        if let Err(error) = stream.write_all(CHUNK) {
            say(&json!({"dripped": dripped, "end": format!("{:?}", error.kind())}));
            return stay();
        }
        // Whoever reads reads each alone.
        thread::sleep(Duration::from_micros(300));
    }
    say(&json!({"dripped": CHUNKS}));
    stay()
}

fn stay() -> io::Result<Value> {
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

/// Serves HTTP/2: `/drip` is answered with small messages for as long as the client takes them, `/swallow` reads nothing, `/live` says
/// a byte again and again.
pub(super) fn serve_http2(listener: &TcpListener) -> io::Result<()> {
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || on_runtime(stream, connection));
    }
    Ok(())
}

fn on_runtime<F: Future<Output = io::Result<Value>>>(
    stream: TcpStream,
    work: impl FnOnce(tokio::net::TcpStream) -> F,
) -> io::Result<Value> {
    stream.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let work = async { work(tokio::net::TcpStream::from_std(stream)?).await };
    LocalSet::new().block_on(&runtime, work)
}

async fn connection(stream: tokio::net::TcpStream) -> io::Result<Value> {
    let mut builder = server::Builder::new();
    let mut connection =
        builder.data_frame_budget(NOTED).handshake(stream).await.map_err(io::Error::other)?;
    while let Some(accepted) = connection.accept().await {
        let (request, mut respond) = accepted.map_err(io::Error::other)?;
        let mut send = respond.send_response(Response::new(()), false).map_err(io::Error::other)?;
        tokio::task::spawn_local(async move {
            match request.uri().path() {
                "/drip" => messages(&mut send).await,
                "/live" => live(&mut send).await,
                _ => {}
            }
            // Its body is not read, and its answer does not end.
            std::future::pending::<()>().await;
            drop((request, send));
        });
    }
    Ok(Value::Null)
}

/// Sends small messages until none is taken any more; says how many.
async fn messages(send: &mut SendStream<Bytes>) {
    let mut dripped = 0_u64;
    let mut writing = async || -> Result<(), h2::Error> {
        while let Ok(room) = timeout(STOPPED, room(send)).await {
            for _ in 0..room? {
                send.send_data(Bytes::from_static(MESSAGE), false)?;
                dripped += 1;
            }
        }
        Ok(())
    };
    let end = writing().await.map_or_else(|error| error.to_string(), |()| "stopped".to_owned());
    say(&json!({"dripped": dripped, "end": end}));
}

/// For how many messages there is room.
async fn room(send: &mut SendStream<Bytes>) -> Result<usize, h2::Error> {
    send.reserve_capacity(64 << 10);
    while send.capacity() < MESSAGE.len() {
        // None where the stream has ended.
        let room = poll_fn(|context| send.poll_capacity(context)).await;
        room.unwrap_or_else(|| Err(h2::Reason::STREAM_CLOSED.into()))?;
    }
    Ok(send.capacity() / MESSAGE.len())
}

async fn live(send: &mut SendStream<Bytes>) {
    while send.send_data(Bytes::from_static(b"l"), false).is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Begins `count` requests to a path and reads none of the answers, then reads `/live` on the same connection until it breaks.
pub(super) fn ask_http2(to: SocketAddr, path: &str, count: u64) -> io::Result<Value> {
    on_runtime(TcpStream::connect(to)?, async |stream| {
        let mut builder = client::Builder::new();
        builder.initial_connection_window_size(4 << 20).data_frame_budget(NOTED);
        let (mut requests, connection) =
            builder.handshake::<_, Bytes>(stream).await.map_err(io::Error::other)?;
        tokio::task::spawn_local(connection);
        let mut kept = Vec::new();
        for _ in 0..count {
            kept.push(begin(&mut requests, Method::POST, path).await.map_err(io::Error::other)?);
        }
        if path == "/swallow" {
            for (mut send, receive) in kept.drain(..) {
                tokio::task::spawn_local(async move {
                    messages(&mut send).await;
                    std::future::pending::<()>().await;
                    drop(receive);
                });
            }
        }
        let (_, live) = begin(&mut requests, Method::GET, "/live").await.map_err(io::Error::other)?;
        Ok(listen(live).await)
    })
}

async fn begin(
    requests: &mut client::SendRequest<Bytes>,
    method: Method,
    path: &str,
) -> Result<(SendStream<Bytes>, RecvStream), h2::Error> {
    let mut request = Request::new(());
    let ends = method == Method::GET;
    *request.method_mut() = method;
    *request.uri_mut() = format!("http://drip{path}").parse().unwrap_or_default();
    poll_fn(|context| requests.poll_ready(context)).await?;
    let (response, send) = requests.send_request(request, ends)?;
    Ok((send, response.await?.into_body()))
}

/// As [`super::client`]'s `keep` says it.
async fn listen(mut live: RecvStream) -> Value {
    let mut rounds = 0_u64;
    loop {
        let heard = match live.data().await {
            Some(heard) => heard.and_then(|data| live.flow_control().release_capacity(data.len())),
            None => return json!({"rounds": rounds, "end": "eof"}),
        };
        if let Err(error) = heard {
            return json!({"rounds": rounds, "end": error.to_string()});
        }
        rounds += 1;
        if rounds % 10 == 1 {
            say(&json!({"open": true, "rounds": rounds}));
        }
    }
}
