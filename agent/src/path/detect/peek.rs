//! Looks at what a socket holds without taking it (`MSG_PEEK`), and waits for more of it without spinning.
//!
//! The socket's own readiness is never used up, because whoever reads it next would wait for bytes that are already there: as
//! soon as there are some, but too few, a second registration of the same socket does the waiting.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use rustix::net::{RecvFlags, recv};
use tokio::{
    io::Interest,
    net::TcpStream,
    time::{Instant, timeout_at},
};

/// How a look ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen<T> {
    /// The judge has decided.
    Decided(T),
    /// The stream ended or broke before that, or the judge did not decide on a full window.
    Ended,
    /// Some bytes came, and no more of them within the patience.
    TooLittle,
}

enum Look<T> {
    Decided(T),
    /// No more will come, or no more can be seen.
    Ended,
    /// So many bytes are there, which are too few.
    Short(usize),
}

/// Shows the judge the first bytes, at most `WINDOW` of them, whenever there are more, until it decides. Waits for the first of
/// them as long as it takes, for more of them as long as `patience`.
pub(super) async fn until<const WINDOW: usize, T>(
    socket: &TcpStream,
    patience: Duration,
    mut judge: impl FnMut(&[u8]) -> Option<T>,
) -> Seen<T> {
    let seen = loop {
        if socket.readable().await.is_err() {
            return Seen::Ended;
        }
        match socket.try_io(Interest::READABLE, || look::<WINDOW, T>(socket.as_fd(), &mut judge)) {
            Ok(Look::Decided(decision)) => return Seen::Decided(decision),
            Ok(Look::Short(seen)) => break seen,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(Look::Ended) | Err(_) => return Seen::Ended,
        }
    };
    let deadline = Instant::now() + patience;
    match timeout_at(deadline, more::<WINDOW, T>(socket, seen, judge)).await {
        Ok(Ok(Some(decision))) => Seen::Decided(decision),
        Ok(Ok(None) | Err(_)) => Seen::Ended,
        Err(_) => Seen::TooLittle,
    }
}

/// The same once `seen` bytes are there.
async fn more<const WINDOW: usize, T>(
    socket: &TcpStream,
    mut seen: usize,
    mut judge: impl FnMut(&[u8]) -> Option<T>,
) -> io::Result<Option<T>> {
    let again = TcpStream::from_std(socket.as_fd().try_clone_to_owned()?.into())?;
    loop {
        let ended = again.ready(Interest::READABLE).await?.is_read_closed();
        let looked =
            again.try_io(Interest::READABLE, || match look::<WINDOW, T>(again.as_fd(), &mut judge)? {
                // The same as before: wait for the next of them.
                Look::Short(now) if now <= seen && !ended => Err(io::ErrorKind::WouldBlock.into()),
                Look::Short(_) if ended => Ok(Look::Ended),
                look => Ok(look),
            });
        match looked {
            Ok(Look::Decided(decision)) => return Ok(Some(decision)),
            Ok(Look::Ended) => return Ok(None),
            Ok(Look::Short(now)) => seen = now,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

fn look<const WINDOW: usize, T>(
    socket: BorrowedFd<'_>,
    judge: &mut impl FnMut(&[u8]) -> Option<T>,
) -> io::Result<Look<T>> {
    let mut window = [0; WINDOW];
    let (count, _) = recv(socket, &mut window[..], RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
    let bytes = window.get(..count).unwrap_or_default();
    Ok(match judge(bytes) {
        _ if bytes.is_empty() => Look::Ended,
        Some(decision) => Look::Decided(decision),
        None if count == WINDOW => Look::Ended,
        None => Look::Short(count),
    })
}
