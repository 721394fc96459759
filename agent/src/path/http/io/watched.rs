//! A socket that others may ask the kernel about for as long as it is open, and that leaves its last words.

use std::{ops::Deref, sync::Arc};

use crate::{
    observe::{LiveSocket, SocketWatch},
    path::socket::Socket,
};

/// See the head of this file.
#[derive(Debug)]
pub struct WatchedSocket {
    live: Option<Arc<LiveSocket>>,
    socket: Socket,
}

impl WatchedSocket {
    /// Of a socket that is open.
    #[must_use]
    pub fn new(socket: Socket) -> Self {
        Self { live: socket.with(|descriptor| Ok(LiveSocket::new(descriptor))).ok(), socket }
    }

    /// For the record of a connection.
    #[must_use]
    pub fn watch(&self) -> Option<SocketWatch> {
        self.live.clone().map(SocketWatch::Live)
    }
}

impl Drop for WatchedSocket {
    fn drop(&mut self) {
        self.live.iter().for_each(LiveSocket::release);
    }
}

impl Deref for WatchedSocket {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.socket
    }
}
