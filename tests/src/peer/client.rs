//! Clients with one odd behaviour each; the answer says how it went, a failed connection included.

use super::{crowd, drip, load, pattern, server};
use serde_json::{Value, json};
use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

/// Prints one line of JSON.
pub fn say(value: &Value) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{value}").and_then(|()| out.flush());
}

/// Calls `to` and says how it went.
///
/// # Errors
/// The behaviour is unknown.
pub fn run(behaviour: &str, to: SocketAddr, arguments: &[String]) -> io::Result<()> {
    let number =
        |at: usize, default: u64| arguments.get(at).and_then(|text| text.parse().ok()).unwrap_or(default);
    let text = |at: usize| arguments.get(at).map_or("", String::as_str);
    let result = match behaviour {
        "exchange" => exchange(to, text(0).as_bytes()),
        "both-ways" => both_ways(to, number(0, 1 << 20)),
        "flood" => flood(to, number(0, 1 << 30), Duration::from_secs(number(1, 600))),
        "never-read" => never_read(to),
        "drip" => drip::ask(to, text(0)),
        "drip-http2" => drip::ask_http2(to, text(0), number(1, 1)),
        "leave" => leave(to, text(0)),
        "keep" => keep(to, Duration::from_millis(number(0, 100))),
        "read-after-reset" => read_after_reset(to),
        "udp" => udp(to, text(0).as_bytes()),
        "load" => load::run(to, text(0)),
        "raw" => raw(to, text(0), Duration::from_millis(number(1, 3000))),
        "switch" => switch(to, text(0), Duration::from_millis(number(1, 1000))),
        "crowd" => crowd::talk(to, number(0, 100), number(1, 3)),
        "idle" => crowd::idle(to, number(0, 100)),
        "repeat" => crowd::repeat(to, Duration::from_millis(number(0, 1000))),
        other => return Err(io::Error::other(format!("unknown behaviour `{other}`"))),
    };
    say(&result.unwrap_or_else(|error| failure(&error)));
    Ok(())
}

/// How an error reads in an answer.
#[must_use]
pub fn failure(error: &io::Error) -> Value {
    json!({"error": format!("{:?}", error.kind()), "text": error.to_string()})
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, Duration::from_secs(20))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

/// Sends, closes its direction, reads to the end.
fn exchange(to: SocketAddr, bytes: &[u8]) -> io::Result<Value> {
    let start = Instant::now();
    let mut stream = connect(to)?;
    let connected = start.elapsed().as_micros();
    let (peer, local) = (stream.peer_addr()?.to_string(), stream.local_addr()?.to_string());
    stream.write_all(bytes)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    let end = stream.read_to_end(&mut answer);
    Ok(json!({
        "answer": String::from_utf8_lossy(&answer), "getpeername": peer, "getsockname": local,
        "connect_us": connected, "end": end.map_or_else(|error| format!("{:?}", error.kind()), |_| "eof".to_owned()),
    }))
}

fn bytes_of(hexadecimal: &str) -> io::Result<Vec<u8>> {
    let digits = hexadecimal.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap_or("??"));
    let bytes: Result<Vec<u8>, _> = digits.map(|pair| u8::from_str_radix(pair, 16)).collect();
    bytes.map_err(io::Error::other)
}

/// Sends bytes as they are (given in hexadecimal) and says what comes back within a time, as text: requests that no client
/// library would write.
fn raw(to: SocketAddr, hexadecimal: &str, patience: Duration) -> io::Result<Value> {
    let mut stream = connect(to)?;
    stream.write_all(&bytes_of(hexadecimal)?)?;
    stream.set_read_timeout(Some(patience))?;
    let mut answer = Vec::new();
    let end = stream.read_to_end(&mut answer);
    let end = end.map_or_else(|error| format!("{:?}", error.kind()), |_| "eof".to_owned());
    Ok(json!({"answer": String::from_utf8_lossy(&answer), "end": end}))
}

/// Sends a head (given in hexadecimal) that asks for another protocol, falls silent, then says something and waits for its echo.
fn switch(to: SocketAddr, hexadecimal: &str, silence: Duration) -> io::Result<Value> {
    let mut stream = connect(to)?;
    stream.write_all(&bytes_of(hexadecimal)?)?;
    let (mut head, mut byte) = (Vec::new(), [0_u8; 1]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    thread::sleep(silence);
    let mut echo = [0_u8; 5];
    stream.write_all(b"again")?;
    stream.read_exact(&mut echo)?;
    Ok(json!({"head": String::from_utf8_lossy(&head), "echo": String::from_utf8_lossy(&echo)}))
}

/// Sends one pattern while it receives another, and compares both hashes.
fn both_ways(to: SocketAddr, length: u64) -> io::Result<Value> {
    let mut stream = connect(to)?;
    let (ours, theirs) = (0xabcd_u64, 0x1234_u64);
    stream.write_all(&[theirs.to_le_bytes(), length.to_le_bytes()].concat())?;
    let writer = stream.try_clone()?;
    let start = Instant::now();
    let sender = thread::spawn(move || server::send_pattern(writer, ours, length));
    let mut answer = server::receive_hash(&mut stream)?;
    sender.join().map_err(|_| io::Error::other("the sender panicked"))??;
    answer["right"] = json!(answer["hash"] == pattern::expected(theirs, length));
    answer["sent_hash"] = json!(pattern::expected(ours, length));
    answer["seconds"] = json!(start.elapsed().as_secs_f64());
    Ok(answer)
}

fn flood(to: SocketAddr, length: u64, limit: Duration) -> io::Result<Value> {
    flood_into(&mut connect(to)?, length, limit)
}

/// Writes as much as it can for a while and says how far it came, at least every 200 ms.
///
/// # Errors
/// The connection is broken from the start.
pub(super) fn flood_into(stream: &mut TcpStream, length: u64, limit: Duration) -> io::Result<Value> {
    stream.set_write_timeout(Some(Duration::from_millis(200)))?;
    let peer = stream.peer_addr()?.to_string();
    let (buffer, start, mut written) = (vec![7_u8; 1 << 16], Instant::now(), 0_u64);
    while written < length && start.elapsed() < limit {
        match stream.write(&buffer) {
            Ok(more) => written += more as u64,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                say(&json!({"peer": peer, "written": written}));
            }
            Err(error) => return Ok(json!({"written": written, "end": format!("{:?}", error.kind())})),
        }
    }
    Ok(json!({"written": written, "end": "enough"}))
}

/// Goes away at one moment of the set-up, a hundred times.
fn leave(to: SocketAddr, moment: &str) -> io::Result<Value> {
    for _ in 0..100 {
        leave_once(to, moment)?;
    }
    Ok(json!({"left": moment}))
}

fn leave_once(to: SocketAddr, moment: &str) -> io::Result<()> {
    if moment == "connecting" {
        let domain = socket2::Domain::for_address(to);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        let _ = socket.connect(&to.into());
        return Ok(());
    }
    let Ok(mut stream) = connect(to) else { return Ok(()) };
    match moment {
        "connected" => {}
        "connected-reset" => socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?,
        "first-byte" => stream.write_all(b"x")?,
        "first-byte-reset" => {
            stream.write_all(b"x")?;
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        }
        "half-closed" => stream.shutdown(Shutdown::Write)?,
        "unread" => {
            stream.write_all(&[1_u8; 4096])?;
            stream.read_exact(&mut [0_u8; 1])?;
        }
        other => return Err(io::Error::other(format!("unknown moment `{other}`"))),
    }
    Ok(())
}

/// Connects, never reads, never writes, never closes.
fn never_read(to: SocketAddr) -> io::Result<Value> {
    let _kept = connect(to)?;
    say(&json!({"connected": true}));
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

/// Keeps one connection to an echo server busy until it breaks, a byte at every interval; says when it opened, and how far it
/// is after every ten.
fn keep(to: SocketAddr, interval: Duration) -> io::Result<Value> {
    let mut stream = connect(to)?;
    let mut rounds = 0_u64;
    loop {
        let mut byte = [b'k'];
        if let Err(error) = stream.write_all(&byte).and_then(|()| stream.read_exact(&mut byte)) {
            return Ok(json!({"rounds": rounds, "end": format!("{:?}", error.kind())}));
        }
        rounds += 1;
        if rounds % 10 == 1 {
            say(&json!({"open": true, "rounds": rounds}));
        }
        thread::sleep(interval);
    }
}

/// Sends a byte and says what the next reading brings: the data, the end or the reset.
fn read_after_reset(to: SocketAddr) -> io::Result<Value> {
    let mut stream = connect(to)?;
    stream.write_all(b"x")?;
    let mut rest = Vec::new();
    let end = stream.read_to_end(&mut rest);
    Ok(json!({"end": end.map_or_else(|error| format!("{:?}", error.kind()), |_| "eof".to_owned())}))
}

fn udp(to: SocketAddr, bytes: &[u8]) -> io::Result<Value> {
    let own: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(own)?;
    socket.set_read_timeout(Some(Duration::from_secs(3)))?;
    socket.connect(to)?;
    socket.send(bytes)?;
    let mut buffer = [0_u8; 2048];
    let length = socket.recv(&mut buffer)?;
    let answer = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
    Ok(json!({"answer": answer, "getpeername": socket.peer_addr()?.to_string()}))
}
