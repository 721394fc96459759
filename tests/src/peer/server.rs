//! Servers with one odd behaviour each; a thread for every connection.

use super::pattern::{Hash, Pattern};
use serde_json::{Value, json};
use std::{
    io::{self, Read, Write},
    net::{Ipv6Addr, Shutdown, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

type Serve = fn(&mut TcpStream) -> io::Result<Value>;

/// Listens on all addresses (both families) and serves until it is killed.
///
/// # Errors
/// The behaviour is unknown, or the port is taken.
pub fn run(behaviour: &str, port: u16, arguments: &[String]) -> io::Result<()> {
    match behaviour {
        "http" => return super::faulty::run(port, arguments.first().map_or("server", String::as_str)),
        "udp-echo" => return udp_echo(port),
        "hold" => return hold(port),
        "drip-http2" => return super::drip::serve_http2(&listen(port)?),
        _ => {}
    }
    let serve: Serve = match behaviour {
        "echo" => echo,
        "address" => address,
        "both-ways" => both_ways,
        "count" => count,
        "slow" => slow,
        "stuck" => stuck,
        "flood" => flood,
        "drip" => super::drip::answer,
        "reset" => reset,
        "half-close" => half_close,
        "speak-then-read" => speak_then_read,
        other => return Err(io::Error::other(format!("unknown behaviour `{other}`"))),
    };
    let listener = listen(port)?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        let small = thread::Builder::new().stack_size(256 << 10);
        small.spawn(move || {
            let peer = stream.peer_addr().map(|peer| peer.to_string()).unwrap_or_default();
            match serve(&mut stream) {
                Ok(Value::Null) => {}
                Ok(answer) => super::client::say(&json!({"peer": peer, "served": answer})),
                Err(error) => {
                    super::client::say(&json!({"peer": peer, "failed": format!("{:?}", error.kind())}))
                }
            }
        })?;
    }
    Ok(())
}

/// All addresses of both families.
///
/// # Errors
/// The port is taken.
pub(super) fn listen(port: u16) -> io::Result<TcpListener> {
    let domain = socket2::Domain::IPV6;
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    socket.set_only_v6(false)?;
    socket.set_reuse_address(true)?;
    socket.bind(&std::net::SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    socket.listen(4096)?;
    super::client::say(&json!({"listening": port}));
    Ok(socket.into())
}

/// Sends everything back; the end of the input is answered with the end of the output.
fn echo(stream: &mut TcpStream) -> io::Result<Value> {
    let mut buffer = [0_u8; 16 << 10];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(Value::Null);
        }
        stream.write_all(buffer.get(..length).unwrap_or_default())?;
    }
}

/// Says both addresses first, then ends: a server that speaks before it is asked.
fn address(stream: &mut TcpStream) -> io::Result<Value> {
    writeln!(stream, "peer={} local={}", stream.peer_addr()?, stream.local_addr()?)?;
    Ok(Value::Null)
}

/// Reads a seed and a length (two 64-bit numbers), then sends that pattern while it hashes what comes.
fn both_ways(stream: &mut TcpStream) -> io::Result<Value> {
    let mut head = [0_u8; 16];
    stream.read_exact(&mut head)?;
    let number =
        |at: usize| head.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
    let (seed, length) = (number(0), number(8));
    let writer = stream.try_clone()?;
    let sender = thread::spawn(move || send_pattern(writer, seed, length));
    let answer = receive_hash(stream)?;
    sender.join().map_err(|_| io::Error::other("the sender panicked"))??;
    Ok(answer)
}

/// Sends `length` bytes of the pattern of `seed` and shuts the direction.
///
/// # Errors
/// The connection broke.
pub fn send_pattern(mut stream: TcpStream, seed: u64, length: u64) -> io::Result<()> {
    let (mut pattern, mut buffer) = (Pattern::new(seed), vec![0_u8; 1 << 16]);
    let mut left = length;
    while left > 0 {
        pattern.fill(&mut buffer);
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        stream.write_all(buffer.get(..take).unwrap_or_default())?;
        left -= take as u64;
    }
    stream.shutdown(Shutdown::Write)
}

/// Reads to the end and says how much it was and its hash.
///
/// # Errors
/// The connection broke.
pub fn receive_hash(stream: &mut TcpStream) -> io::Result<Value> {
    let (mut hash, mut buffer, mut total) = (Hash::default(), vec![0_u8; 1 << 17], 0_u64);
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(json!({"bytes": total, "hash": hash.value()}));
        }
        total += length as u64;
        hash.add(buffer.get(..length).unwrap_or_default());
    }
}

/// Reads to the end, never writes, and says how the connection ended.
fn count(stream: &mut TcpStream) -> io::Result<Value> {
    let (mut buffer, mut total) = (vec![0_u8; 1 << 17], 0_u64);
    say_accepted(stream);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(json!({"bytes": total, "end": "eof"})),
            Ok(length) => total += length as u64,
            Err(error) => return Ok(json!({"bytes": total, "end": format!("{:?}", error.kind())})),
        }
    }
}

/// Reads 64 KiB, pauses ten seconds, then reads to the end with a hash.
fn slow(stream: &mut TcpStream) -> io::Result<Value> {
    let mut hash_input = vec![0_u8; 64 << 10];
    stream.read_exact(&mut hash_input)?;
    super::client::say(&json!({"paused": true}));
    thread::sleep(Duration::from_secs(10));
    let rest = receive_hash(stream)?;
    Ok(json!({"rest": rest}))
}

/// Accepts, never reads, never writes, never closes.
fn stuck(stream: &mut TcpStream) -> io::Result<Value> {
    say_accepted(stream);
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

/// Writes as much as the client takes, never reads, and says how far it came while it waits.
fn flood(stream: &mut TcpStream) -> io::Result<Value> {
    super::client::flood_into(stream, u64::MAX, Duration::from_secs(3600))
}

/// Reads one byte, then resets.
fn reset(stream: &mut TcpStream) -> io::Result<Value> {
    stream.read_exact(&mut [0_u8; 1])?;
    socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO))?;
    Ok(json!({"reset": true}))
}

/// A connection that both sides have ended by now has no peer any more (getpeername(2)), and is served all the same.
fn say_accepted(stream: &TcpStream) {
    let peer = stream.peer_addr().map(|peer| peer.to_string()).unwrap_or_default();
    super::client::say(&json!({"accepted": peer}));
}

/// Reads to the end, and only then answers with what it counted.
fn half_close(stream: &mut TcpStream) -> io::Result<Value> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all)?;
    thread::sleep(Duration::from_millis(200));
    writeln!(stream, "after the end: {} bytes", all.len())?;
    Ok(json!({"bytes": all.len()}))
}

/// Says a line, closes its own direction at once, then reads to the end and counts.
fn speak_then_read(stream: &mut TcpStream) -> io::Result<Value> {
    writeln!(stream, "done speaking")?;
    stream.shutdown(Shutdown::Write)?;
    count(stream)
}

/// Echoes one byte for each connection and keeps it open; no thread, no buffer.
fn hold(port: u16) -> io::Result<()> {
    let listener = listen(port)?;
    let mut kept = Vec::new();
    for stream in listener.incoming() {
        let mut stream = stream?;
        let mut byte = [0_u8; 1];
        if stream.read_exact(&mut byte).and_then(|()| stream.write_all(&byte)).is_ok() {
            kept.push(stream);
        }
        if kept.len().is_multiple_of(1000) {
            super::client::say(&json!({"held": kept.len()}));
        }
    }
    Ok(())
}

fn udp_echo(port: u16) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port))?;
    super::client::say(&json!({"listening": port}));
    let mut buffer = [0_u8; 2048];
    loop {
        let (length, from) = socket.recv_from(&mut buffer)?;
        socket.send_to(buffer.get(..length).unwrap_or_default(), from)?;
    }
}
