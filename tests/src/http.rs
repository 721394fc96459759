//! The smallest HTTP client that asks an agent for its metrics and health, from inside a namespace.

use crate::{Doing, Fault, namespace::Namespace};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

/// Status and body of `GET path`, asked from inside `namespace`.
///
/// # Errors
/// No connection, or an answer that is not HTTP.
pub fn fetch(namespace: &Namespace, address: SocketAddr, path: &str) -> Result<(u16, String), Fault> {
    let answer =
        namespace.inside(|| exchange(address, path))?.doing(format!("ask http://{address}{path}"))?;
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    status.zip(body).ok_or_else(|| Fault::new(format!("http://{address}{path} answered `{answer}`")))
}

/// Status and body of `GET target` at a Unix socket, as the admin socket of an agent.
///
/// # Errors
/// Nobody listens, or the answer is not HTTP.
pub fn fetch_unix(socket: &Path, target: &str) -> Result<(u16, String), Fault> {
    let ask = || {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET {target} HTTP/1.0\r\nHost: agent\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = ask().doing(format!("ask {} for {target}", socket.display()))?;
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    status.zip(body).ok_or_else(|| Fault::new(format!("{target} answered `{answer}`")))
}

fn exchange(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let limit = Duration::from_secs(3);
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    // HTTP/1.0 keeps the body free of chunks.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
