//! The agent's listeners inside a pod: one group for captured outgoing connections, one for everything that comes in.
//! Each group has one listener per worker and family behind one port (`SO_REUSEPORT`), so the kernel spreads connections.

use std::{io, net::TcpListener, os::fd::OwnedFd, sync::Arc};

use super::{
    Namespace, NamespaceThreads, SocketOptions,
    socket::{Family, listening},
    threads::JobError,
};

/// Ports on the pod's loopback addresses.
#[derive(Clone, Copy, Debug)]
pub struct ListenerPorts {
    /// Where the connect hooks send the application's connections.
    pub outbound: u16,
    /// Where `sk_lookup` sends what comes from outside.
    pub inbound: u16,
}

/// What one worker accepts from, for one pod.
#[derive(Debug, Default)]
pub struct WorkerListeners {
    /// Captured outgoing connections, by family.
    pub outbound: Vec<TcpListener>,
    /// Connections from outside, by family.
    pub inbound: Vec<TcpListener>,
}

/// One inbound listener of each family for the kernel's table; the others are found through their reuse-port group.
#[derive(Debug, Default)]
pub struct KernelListeners {
    /// IPv4.
    pub v4: Option<OwnedFd>,
    /// IPv6; none where the pod has no IPv6.
    pub v6: Option<OwnedFd>,
}

/// Why a pod has no listeners.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The namespace cannot be entered.
    #[error(transparent)]
    Namespace(#[from] JobError),
    /// The port is taken, most likely by the application.
    #[error(
        "cannot listen on port {port} of the pod's loopback address: {source}; does the application use that port?"
    )]
    Listen {
        /// Port.
        port: u16,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Opens all listeners of a pod for `workers` workers.
///
/// # Errors
/// The namespace cannot be entered, or IPv4's loopback ports are taken.
pub async fn listen(
    threads: &NamespaceThreads,
    namespace: &Arc<Namespace>,
    ports: ListenerPorts,
    workers: usize,
    options: &SocketOptions,
) -> Result<(Vec<WorkerListeners>, KernelListeners), ListenError> {
    let options = options.clone();
    threads.run(Arc::clone(namespace), move || open_all(ports, workers, &options)).await?
}

fn open_all(
    ports: ListenerPorts,
    workers: usize,
    options: &SocketOptions,
) -> Result<(Vec<WorkerListeners>, KernelListeners), ListenError> {
    let mut all: Vec<WorkerListeners> = (0..workers).map(|_| WorkerListeners::default()).collect();
    let mut kernel = KernelListeners::default();
    for family in [Family::V4, Family::V6] {
        if family == Family::V6 && !has_ipv6_loopback() {
            continue;
        }
        for worker in &mut all {
            worker.outbound.push(open(family, ports.outbound, options)?);
            worker.inbound.push(open(family, ports.inbound, options)?);
        }
        let first = all.first().and_then(|worker| worker.inbound.last());
        let duplicate = first.map(|listener| listener.try_clone().map(OwnedFd::from)).transpose();
        let slot = if family == Family::V4 { &mut kernel.v4 } else { &mut kernel.v6 };
        *slot = duplicate.map_err(|source| ListenError::Listen { port: ports.inbound, source })?;
    }
    Ok((all, kernel))
}

fn open(family: Family, port: u16, options: &SocketOptions) -> Result<TcpListener, ListenError> {
    listening(family, port, options).map_err(|source| ListenError::Listen { port, source })
}

fn has_ipv6_loopback() -> bool {
    std::net::UdpSocket::bind(("::1", 0)).is_ok()
}
