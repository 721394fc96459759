//! `sessionAffinity: ClientIP`: a client keeps its endpoint until it has not connected for the service's time-out. Pure.

use std::{
    net::{IpAddr, SocketAddr},
    sync::PoisonError,
};

use crate::snapshot::{ServicePort, load::Affinity};

/// Clients below which nothing is swept out.
const SMALLEST_SWEEP: usize = 1024;
const SECOND_NS: u64 = 1_000_000_000;

/// The endpoint that `client` keeps, if its time has not run out and the endpoint is still among the port's.
/// O(log n): endpoints are sorted by address.
#[must_use]
pub fn kept(port: &ServicePort, client: IpAddr, now_ns: u64) -> Option<usize> {
    let timeout_ns = timeout_ns(port)?;
    let table = port.state.affinity.lock().unwrap_or_else(PoisonError::into_inner);
    let (address, used_ns) = table.clients.get(&client)?;
    if now_ns.saturating_sub(*used_ns) >= timeout_ns {
        return None;
    }
    port.endpoints.binary_search_by_key(address, |endpoint| endpoint.address).ok()
}

/// Notes that `client` goes to `address` from now on.
pub fn keep(port: &ServicePort, client: IpAddr, address: SocketAddr, now_ns: u64) {
    let Some(timeout_ns) = timeout_ns(port) else { return };
    let mut table = port.state.affinity.lock().unwrap_or_else(PoisonError::into_inner);
    if table.clients.len() >= table.sweep_at.max(SMALLEST_SWEEP) {
        sweep(&mut table, now_ns, timeout_ns);
    }
    table.clients.insert(client, (address, now_ns));
}

fn timeout_ns(port: &ServicePort) -> Option<u64> {
    port.affinity_seconds.map(|seconds| u64::from(seconds).saturating_mul(SECOND_NS))
}

/// The next sweep comes when the table has doubled: constant work per insertion.
fn sweep(table: &mut Affinity, now_ns: u64, timeout_ns: u64) {
    table.clients.retain(|_, (_, used_ns)| now_ns.saturating_sub(*used_ns) < timeout_ns);
    table.sweep_at = table.clients.len().saturating_mul(2);
}
