//! A socket that others may ask the kernel about for as long as it is open, and that leaves its last words.

use std::{ops::Deref, os::fd::AsFd, sync::Arc};

use tokio::net::TcpStream;

use crate::observe::{LiveSocket, SocketWatch};

/// See the head of this file.
#[derive(Debug)]
pub struct WatchedSocket {
    live: Arc<LiveSocket>,
    socket: TcpStream,
}

impl WatchedSocket {
    /// Of a socket that is open.
    #[must_use]
    pub fn new(socket: TcpStream) -> Self {
        Self { live: LiveSocket::new(socket.as_fd()), socket }
    }

    /// For the record of a connection.
    #[must_use]
    pub fn watch(&self) -> SocketWatch {
        SocketWatch::Live(Arc::clone(&self.live))
    }
}

impl Drop for WatchedSocket {
    fn drop(&mut self) {
        self.live.release();
    }
}

impl Deref for WatchedSocket {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        &self.socket
    }
}
