//! Takes what a client says first, as much as one read gives. A client that has said nothing costs no buffer.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::{net::TcpStream, time::timeout};

use super::{Guess, PATIENCE, classify};
use crate::path::flow;

/// The client's first bytes, and what they look like; pending until they decide. `Other` also where the client ends or breaks first,
/// `More` where it falls silent in the middle of a word.
pub(super) async fn first_bytes(near: &TcpStream) -> (Guess, Bytes) {
    let mut ahead = match read(near).await {
        Ok(data) if !data.is_empty() => data,
        _ => return (Guess::Other, Bytes::new()),
    };
    loop {
        match classify(&ahead) {
            Guess::More => {}
            guess => return (guess, ahead),
        }
        match timeout(PATIENCE, read(near)).await {
            Ok(Ok(data)) if !data.is_empty() => {
                let mut joined = BytesMut::from(ahead);
                joined.extend_from_slice(&data);
                ahead = joined.freeze();
            }
            Ok(_) => return (Guess::Other, ahead),
            Err(_) => return (Guess::More, ahead),
        }
    }
}

async fn read(near: &TcpStream) -> io::Result<Bytes> {
    let mut chunk = flow::SMALL;
    loop {
        near.readable().await?;
        match flow::read_now(near, &mut chunk, flow::LARGE) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}
