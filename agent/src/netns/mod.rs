//! The network namespaces of pods: opening them, running code inside them on few dedicated threads, the sockets
//! the agent needs there, and the rules and routes that bring replies back to those sockets.
//!
//! No worker ever changes its namespace: a socket stays in the namespace it was made in, so only the making is
//! done here, many sockets at a time ([`stock`]).

pub mod listeners;
pub mod namespace;
pub mod plumbing;
pub mod socket;
pub mod sockets;
pub mod stock;
mod sysctl;
pub mod threads;

pub use listeners::{KernelListeners, ListenerPorts, WorkerListeners, listen};
pub use namespace::{Namespace, NamespaceFile, cookie_of_this_thread};
pub use socket::SocketOptions;
pub use sockets::TcpConnection;
pub use stock::{Kind, SocketStock};
pub use threads::NamespaceThreads;
