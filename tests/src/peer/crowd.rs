//! Many connections: all open at once, or one after the other for a while.

use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

/// Connections that are opened before the first of them is answered. All of a large crowd at once would take a slow machine longer than
/// an agent tries to reach an endpoint.
const WAVE: u64 = 200;

/// Opens `count` connections to an echo server, and with all of them open exchanges `rounds` messages on each.
///
/// # Errors
/// A connection that fails; the text says which.
pub fn talk(to: SocketAddr, count: u64, rounds: u64) -> io::Result<Value> {
    let mut streams = Vec::new();
    while (streams.len() as u64) < count {
        let mut wave = open(to, WAVE.min(count - streams.len() as u64))?;
        exchange(&mut wave, "open")?;
        streams.append(&mut wave);
    }
    for round in 0..rounds {
        exchange(&mut streams, &format!("{round:08}"))?;
        super::client::say(&json!({"round": round, "open": streams.len()}));
    }
    Ok(json!({"right": count, "rounds": rounds}))
}

/// A message on each of them, and then the answers.
fn exchange(streams: &mut [TcpStream], what: &str) -> io::Result<()> {
    for (number, stream) in streams.iter_mut().enumerate() {
        stream.write_all(format!("{number:08}{what}").as_bytes())?;
    }
    for (number, stream) in streams.iter_mut().enumerate() {
        let expected = format!("{number:08}{what}");
        let mut answer = vec![0_u8; expected.len()];
        stream.read_exact(&mut answer)?;
        if answer != expected.as_bytes() {
            return Err(io::Error::other(format!("connection {number} got what was not its own")));
        }
    }
    Ok(())
}

/// Opens `count` connections, exchanges one byte on each, says `idle`, and holds them until it is killed.
///
/// # Errors
/// A connection that fails.
pub fn idle(to: SocketAddr, count: u64) -> io::Result<Value> {
    let streams = open_each(to, count, |stream| {
        let mut byte = [b'i'];
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)
    })?;
    super::client::say(&json!({"idle": streams.len()}));
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

/// One short exchange after the other for a while; counts the answers and each kind of failure.
///
/// # Errors
/// None: failures are counted.
pub fn repeat(to: SocketAddr, how_long: Duration) -> io::Result<Value> {
    let (start, mut right, mut failures) = (Instant::now(), 0_u64, BTreeMap::<String, u64>::new());
    let mut longest = Duration::ZERO;
    while start.elapsed() < how_long {
        let began = Instant::now();
        match once(to) {
            Ok(()) => right += 1,
            Err(error) => *failures.entry(format!("{:?}", error.kind())).or_default() += 1,
        }
        longest = longest.max(began.elapsed());
        thread::sleep(Duration::from_millis(5));
    }
    Ok(json!({"right": right, "failures": failures, "longest_ms": longest.as_millis()}))
}

fn once(to: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"repeat")?;
    let mut answer = [0_u8; 6];
    stream.read_exact(&mut answer)?;
    if &answer == b"repeat" { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

fn open(to: SocketAddr, count: u64) -> io::Result<Vec<TcpStream>> {
    open_each(to, count, |_| Ok(()))
}

fn open_each(
    to: SocketAddr,
    count: u64,
    first: impl Fn(&mut TcpStream) -> io::Result<()>,
) -> io::Result<Vec<TcpStream>> {
    let mut streams = Vec::new();
    for number in 0..count {
        let explain =
            |error: io::Error| io::Error::new(error.kind(), format!("connection {number}: {error}"));
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(20)).map_err(explain)?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        first(&mut stream).map_err(explain)?;
        streams.push(stream);
    }
    Ok(streams)
}
