//! EndpointSlices by service, and the endpoints of one port in one address family, several slices merged. Pure.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use super::{address, port};
use crate::snapshot::{
    Map, Problem,
    input::{EndpointRef, EndpointSlice, PortOfSlice, SERVICE_LABEL, Service},
};

/// Slices by namespace and service name.
pub(super) type Slices<'input> = Map<(&'input str, &'input str), Vec<&'input Arc<EndpointSlice>>>;

/// An endpoint of a port before anything is chosen.
pub(super) struct Candidate<'input> {
    pub(super) address: SocketAddr,
    pub(super) ready: bool,
    /// Serves still, though it is on its way out: the last resort.
    pub(super) leaving: bool,
    pub(super) from: EndpointRef<'input>,
}

pub(super) fn index<'input>(
    slices: &'input [Arc<EndpointSlice>],
    problems: &mut Vec<Problem>,
) -> Slices<'input> {
    let mut index = Slices::default();
    for slice in slices {
        let metadata = &slice.metadata;
        match slice.address_type.as_str() {
            "IPv4" | "IPv6" => {}
            // Nothing to connect to; Kubernetes has no consumer for it either.
            "FQDN" => continue,
            other => {
                let reason = format!("`{other}` is not an address type; use `IPv4` or `IPv6`");
                problems.push(Problem::of(metadata, "EndpointSlice", "addressType", reason));
                continue;
            }
        }
        match service(slice) {
            Some(key) => index.entry(key).or_default().push(slice),
            None => {
                let reason = "is missing; name the service that these endpoints belong to";
                let field = format!("metadata.labels[{SERVICE_LABEL}]");
                problems.push(Problem::of(metadata, "EndpointSlice", field, reason));
            }
        }
    }
    index
}

/// Whether it is of a kind that is read.
pub(super) fn is_plain(slice: &EndpointSlice) -> bool {
    matches!(slice.address_type.as_str(), "IPv4" | "IPv6")
}

/// Namespace and name of the service that a slice belongs to.
pub(super) fn service(slice: &EndpointSlice) -> Option<(&str, &str)> {
    let name = slice.metadata.labels.get(SERVICE_LABEL).filter(|name| !name.is_empty())?;
    Some((&slice.metadata.namespace, name))
}

/// The slices of one service.
pub(super) fn of<'index, 'input>(
    slices: &'index Slices<'input>,
    service: &'index Service,
) -> &'index [&'input Arc<EndpointSlice>] {
    let key = (&*service.metadata.namespace, &*service.metadata.name);
    slices.get(&key).map_or(&[][..], Vec::as_slice)
}

/// The endpoints of the port `name` in one address family, sorted by address, each once.
pub(super) fn candidates<'input>(
    slices: &[&'input Arc<EndpointSlice>],
    name: &str,
    ipv6: bool,
    publish_not_ready: bool,
    problems: &mut Vec<Problem>,
) -> Vec<Candidate<'input>> {
    let family = if ipv6 { "IPv6" } else { "IPv4" };
    let mut merged = BTreeMap::new();
    for slice in slices.iter().filter(|slice| slice.address_type == family) {
        let Some(target) = target_port(slice, name, problems) else { continue };
        for (index, endpoint) in slice.endpoints.iter().enumerate() {
            // Kubernetes: all addresses of an endpoint are the same, use the first.
            let Some(text) = endpoint.addresses().next() else { continue };
            let checked = address(text).and_then(|address| match address.is_ipv6() == ipv6 {
                true => Ok(SocketAddr::new(address, target)),
                false => Err(format!(
                    "{address} is not of this slice's addressType {family}; put it into another slice"
                )),
            });
            match checked {
                Ok(address) => merge(&mut merged, candidate(address, endpoint, publish_not_ready)),
                Err(reason) => {
                    let field = format!("endpoints[{index}].addresses[0]");
                    problems.push(Problem::of(&slice.metadata, "EndpointSlice", field, reason));
                }
            }
        }
    }
    merged.into_values().collect()
}

fn target_port(slice: &EndpointSlice, name: &str, problems: &mut Vec<Problem>) -> Option<u16> {
    let is_it = |port: &PortOfSlice| port.name == name && port.protocol == "TCP";
    let index = slice.ports.iter().position(is_it)?;
    let checked = match slice.ports.get(index)?.port {
        Some(number) => port(number),
        None => Err("is missing; give the port that the pods listen on".to_owned()),
    };
    let problem =
        |reason| Problem::of(&slice.metadata, "EndpointSlice", format!("ports[{index}].port"), reason);
    checked.map_err(|reason| problems.push(problem(reason))).ok()
}

fn candidate(address: SocketAddr, from: EndpointRef<'_>, publish_not_ready: bool) -> Candidate<'_> {
    let ready = from.ready() || publish_not_ready;
    Candidate { address, ready, leaving: from.serving() && from.terminating(), from }
}

/// A pod that moves from one slice to another is in both for a while: the better word counts.
fn merge<'input>(merged: &mut BTreeMap<SocketAddr, Candidate<'input>>, new: Candidate<'input>) {
    let rank = |candidate: &Candidate<'_>| (candidate.ready, candidate.leaving);
    match merged.get_mut(&new.address) {
        Some(old) if rank(old) >= rank(&new) => {}
        Some(old) => *old = new,
        None => {
            merged.insert(new.address, new);
        }
    }
}
