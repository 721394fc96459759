//! Where an accepted connection wanted to go.

use std::{net::SocketAddr, os::fd::BorrowedFd, path::Path, sync::Arc};

use agent_common::Destination;
use aya::maps::{MapData, SkStorage};

use super::{
    CaptureError,
    maps::{self, Plain},
};

/// Reads the destinations that the kernel noted on accepted sockets. Cheap to clone; for the worker threads.
#[derive(Clone)]
pub struct OriginalDestinations {
    storage: Arc<SkStorage<MapData, Plain<Destination>>>,
}

impl OriginalDestinations {
    pub(super) fn open(folder: &Path) -> Result<Self, CaptureError> {
        Ok(Self { storage: Arc::new(maps::open_accepted(folder)?) })
    }

    /// Where the client of this accepted socket asked to go; one system call. A v4-mapped destination is told as the IPv4
    /// address it means. None for a socket that was not captured (a process of the pod that connected to the
    /// listener itself) or whose destination found no room: refuse such a connection.
    pub fn read(&self, socket: BorrowedFd<'_>) -> Option<SocketAddr> {
        self.storage.get(&socket, 0).ok().map(|Plain(destination)| destination.into())
    }
}
