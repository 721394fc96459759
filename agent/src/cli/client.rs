//! Asks an agent, over its Unix socket or through a cluster: one HTTP/1.0 request, one bounded answer.

use serde::de::DeserializeOwned;
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

use super::cluster::{ClusterError, forward, place::Place};
use crate::observe::{http::VERSION_HEADER, views::ADMIN_VERSION};

/// Bytes of an answer.
const ANSWER: u64 = 64 * 1024 * 1024;
/// Bytes of the head of an answer.
const HEAD: u64 = 64 * 1024;
/// For each read and write.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no agent at {0}: start `posthaste agent`, or name its socket with --admin-socket")]
    NoAgent(String),
    /// Not ours.
    #[error("no permission for {0}: the socket belongs to the agent's user; try sudo")]
    Permission(String),
    /// Broken on the way.
    #[error("the agent at {path} did not answer: {source}")]
    Broken {
        /// Where it is.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// There is no way to it.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Something else listens there.
    #[error("what listens at {0} is not a posthaste agent")]
    NotAnAgent(String),
    /// The agent said no.
    #[error("the agent answered {status}: {body}")]
    Status {
        /// HTTP status.
        status: u16,
        /// What it said.
        body: String,
    },
    /// The agent is older or newer.
    #[error(
        "the agent speaks version {theirs} of the admin answers, this command {ADMIN_VERSION}: use the posthaste of the agent"
    )]
    OtherVersion {
        /// Theirs.
        theirs: String,
    },
    /// The answer has another shape.
    #[error("the agent's answer does not fit: {0}: use the posthaste of the agent")]
    Shape(serde_json::Error),
}

/// Asks for `target` (path and query) and reads the answer's JSON.
///
/// # Errors
/// See [`ClientError`].
pub fn ask<T: DeserializeOwned>(place: &Place, target: &str) -> Result<T, ClientError> {
    serde_json::from_slice(&fetch(place, target)?).map_err(ClientError::Shape)
}

/// Asks for `target` and gives the answer's bytes.
///
/// # Errors
/// See [`ClientError`].
pub fn fetch(place: &Place, target: &str) -> Result<Vec<u8>, ClientError> {
    let mut answer = Vec::new();
    let read = connect(place, target)?.take(ANSWER).read_to_end(&mut answer);
    read.map_err(|source| broken(place, source))?;
    check(place, &answer).map(<[u8]>::to_vec)
}

/// Asks for `target` and gives each line of the answer to `take` as it comes, until it wants no more (false) or the agent ends
/// the answer. The time between lines is not bounded.
///
/// # Errors
/// See [`ClientError`]; what `take` could not write comes back in the answer.
pub fn follow(
    place: &Place,
    target: &str,
    take: &mut dyn FnMut(&str) -> io::Result<bool>,
) -> Result<io::Result<()>, ClientError> {
    let failed = |source| broken(place, source);
    let stream = connect(place, target)?;
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let read = reader.by_ref().take(HEAD).read_until(b'\n', &mut head).map_err(failed)?;
        if read == 0 || head.len() as u64 >= HEAD {
            return Err(ClientError::NotAnAgent(place.to_string()));
        }
    }
    if let Err(ClientError::Status { .. }) = check(place, &head) {
        reader.take(HEAD).read_to_end(&mut head).map_err(failed)?;
        return check(place, &head).map(|_| Ok(()));
    }
    check(place, &head)?;
    reader.get_ref().set_read_timeout(None).map_err(failed)?;
    let mut line = String::new();
    loop {
        line.clear();
        if reader.by_ref().take(ANSWER).read_line(&mut line).map_err(failed)? == 0 {
            return Ok(Ok(()));
        }
        match take(line.trim_end()) {
            Ok(true) => {}
            Ok(false) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error)),
        }
    }
}

fn broken(place: &Place, source: io::Error) -> ClientError {
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NoAgent(place.to_string()),
        io::ErrorKind::PermissionDenied => ClientError::Permission(place.to_string()),
        _ => ClientError::Broken { path: place.to_string(), source },
    }
}

/// The body of an answer of ours that says 200.
fn check<'a>(place: &Place, answer: &'a [u8]) -> Result<&'a [u8], ClientError> {
    let Some((status, version, body)) = parse(answer) else {
        return Err(ClientError::NotAnAgent(place.to_string()));
    };
    match version {
        None => Err(ClientError::NotAnAgent(place.to_string())),
        Some(theirs) if theirs != ADMIN_VERSION.to_string() => Err(ClientError::OtherVersion { theirs }),
        Some(_) if status != 200 => {
            Err(ClientError::Status { status, body: String::from_utf8_lossy(body).trim().to_owned() })
        }
        Some(_) => Ok(body),
    }
}

fn connect(place: &Place, target: &str) -> Result<UnixStream, ClientError> {
    let stream = if place.is_cluster() {
        forward::dial(place)?
    } else {
        UnixStream::connect(&place.admin_socket).map_err(|source| broken(place, source))?
    };
    let asked = request(&stream, target);
    asked.map(|()| stream).map_err(|source| broken(place, source))
}

fn request(mut stream: &UnixStream, target: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {target} HTTP/1.0\r\nhost: agent\r\n\r\n")
}

/// Status, version of the admin answers, body.
fn parse(answer: &[u8]) -> Option<(u16, Option<String>, &[u8])> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let version = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case(VERSION_HEADER))
        .map(|(_, value)| value.trim().to_owned());
    Some((status, version, answer.get(end + 4..)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn reads_an_answer() {
        let answer = b"HTTP/1.0 200 OK\r\nPosthaste-Admin: 1\r\n\r\n{}";
        assert_eq!(parse(answer), Some((200, Some("1".to_owned()), &b"{}"[..])));
    }

    #[test]
    fn refuses_what_is_not_http() {
        for answer in [&b""[..], b"\r\n\r\n", b"SSH-2.0\r\n\r\n", b"HTTP/1.1 x\r\n\r\n", b"\xff\xfe\r\n\r\n"]
        {
            assert_eq!(parse(answer), None);
        }
    }

    #[test]
    fn says_that_nobody_listens() {
        let place = Place { admin_socket: "/nonexistent/admin.sock".into(), ..Place::default() };
        let error = fetch(&place, "/status").unwrap_err().to_string();
        assert!(error.contains("no agent at /nonexistent/admin.sock"), "{error}");
    }
}
