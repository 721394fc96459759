//! One stream of an HTTP/2 connection as a byte stream, for CONNECT, and the room that a stream has for sending.

use std::{
    collections::VecDeque,
    io,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, SendStream};

use crate::tunnel::reference::Inbox;

/// Room for up to `wanted` bytes (above zero) on a stream; none when nothing can be sent on it any more.
pub(in crate::path::http) fn poll_room(
    send: &mut SendStream<Bytes>,
    context: &mut Context<'_>,
    wanted: usize,
) -> Poll<Option<usize>> {
    send.reserve_capacity(wanted);
    loop {
        let room = send.capacity().min(wanted);
        if room > 0 {
            return Poll::Ready(Some(room));
        }
        // It says "ready" for capacity that has been used since.
        match ready!(send.poll_capacity(context)) {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Poll::Ready(None),
        }
    }
}

pub(super) fn poll_read(receive: &Inbox, context: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
    Poll::Ready(match ready!(receive.poll_data(context)) {
        Some(Ok(data)) => Ok(data),
        Some(Err(error)) => Err(io::Error::new(io::ErrorKind::ConnectionReset, error)),
        None => Ok(Bytes::new()),
    })
}

pub(super) fn poll_write(
    send: &mut SendStream<Bytes>,
    context: &mut Context<'_>,
    queue: &mut VecDeque<Bytes>,
) -> Poll<io::Result<()>> {
    while let Some(front) = queue.front_mut() {
        if !front.is_empty() {
            let room = ready!(poll_room(send, context, front.len()));
            let piece = front.split_to(room.ok_or(io::ErrorKind::ConnectionReset)?);
            send.send_data(piece, false).map_err(io::Error::other)?;
        }
        if front.is_empty() {
            queue.pop_front();
        }
    }
    Poll::Ready(Ok(()))
}

pub(super) fn finish(send: &mut SendStream<Bytes>) -> io::Result<()> {
    send.send_data(Bytes::new(), true).map_err(io::Error::other)
}

pub(super) fn abort(send: &mut SendStream<Bytes>) {
    send.send_reset(Reason::CONNECT_ERROR);
}
