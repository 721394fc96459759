//! Relays over real loopback sockets, and over a real tunnel in this process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod sockets;
mod tunnels;

use std::{future::Future, io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::LocalSet,
    time::{sleep, timeout},
};

use super::{Count, End};

/// Runs a test as a worker thread would, and not for ever.
fn on_worker(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let within = async { timeout(Duration::from_secs(30), test).await.expect("the test hangs") };
    LocalSet::new().block_on(&runtime, within);
}

/// Two ends of one connection.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (one, other) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (one.unwrap(), other.unwrap().0)
}

struct Nothing;

impl Count for Nothing {
    fn towards_far(&self, _: usize) {}
    fn towards_near(&self, _: usize) {}
}

/// Reads to the end: what came, and whether the end was one.
async fn rest(socket: &mut TcpStream) -> (Vec<u8>, Option<io::ErrorKind>) {
    let mut all = Vec::new();
    let mut piece = vec![0; 64 * 1024];
    loop {
        match socket.read(&mut piece).await {
            Ok(0) => return (all, None),
            Ok(count) => all.extend_from_slice(&piece[..count]),
            Err(error) => return (all, Some(error.kind())),
        }
    }
}

fn reset(socket: TcpStream) {
    super::reset_on_drop(&socket);
    drop(socket);
}

/// Writes until nobody takes any more.
async fn stuff(socket: &mut TcpStream) -> usize {
    let mut sent = 0;
    while let Ok(Ok(count)) = timeout(Duration::from_millis(200), socket.write(&[7; 64 * 1024])).await {
        sent += count;
    }
    sent
}

/// The cases that must hold whatever is between `client` and `server`.
async fn both_ways_and_half_close(mut client: TcpStream, mut server: TcpStream) {
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut server).await, (b"question".to_vec(), None));
    sleep(Duration::from_millis(20)).await;
    server.write_all(b"a late answer").await.unwrap();
    drop(server);
    assert_eq!(rest(&mut client).await, (b"a late answer".to_vec(), None));
}

async fn half_close_by_the_server(mut client: TcpStream, mut server: TcpStream) {
    server.write_all(b"banner").await.unwrap();
    server.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await, (b"banner".to_vec(), None));
    client.write_all(b"still heard").await.unwrap();
    drop(client);
    assert_eq!(rest(&mut server).await, (b"still heard".to_vec(), None));
}

async fn much_both_ways(mut client: TcpStream, mut server: TcpStream) {
    let data: Vec<u8> = (0..12_000_000_u32).map(|number| (number % 251) as u8).collect();
    async fn both(socket: &mut TcpStream, data: &[u8]) -> Vec<u8> {
        let (mut read, mut write) = socket.split();
        let mut all = Vec::new();
        let sending = async {
            write.write_all(data).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let (_, got) = tokio::join!(sending, read.read_to_end(&mut all));
        got.unwrap();
        all
    }
    let (one, other) = tokio::join!(both(&mut client, &data), both(&mut server, &data));
    assert!(one == data && other == data);
}

/// The end of file waits behind bytes that nobody reads yet.
async fn end_behind_a_slow_reader(mut client: TcpStream, mut server: TcpStream) {
    let sent = stuff(&mut client).await;
    client.shutdown().await.unwrap();
    let (got, end) = rest(&mut server).await;
    assert_eq!((got.len(), end), (sent, None));
    drop(server);
    assert_eq!(rest(&mut client).await, (Vec::new(), None));
}

async fn reset_passes(from: TcpStream, mut to: TcpStream) {
    reset(from);
    assert_eq!(rest(&mut to).await.1, Some(io::ErrorKind::ConnectionReset));
}

/// The other side takes nothing, so nobody reads the one that is reset.
async fn reset_passes_a_stuck_reader(mut from: TcpStream, to: TcpStream) {
    assert!(stuff(&mut from).await > 0);
    reset(from);
    let broken = timeout(Duration::from_secs(5), to.ready(tokio::io::Interest::ERROR)).await;
    assert!(broken.is_ok(), "the reset did not arrive");
}

fn is_finished(end: &End) -> bool {
    matches!(end, End::Finished)
}
