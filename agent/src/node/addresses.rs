//! The node's own addresses, from which probes come.

use std::net::IpAddr;

use futures_util::TryStreamExt;
use rtnetlink::{
    Handle,
    packet_route::address::{AddressAttribute, AddressMessage},
};

/// The device on which kube-proxy's `ipvs` mode keeps the addresses of all services. The kernel takes them for the node's own, and
/// nothing ever comes from there.
const SERVICES_DEVICE: &str = "kube-ipvs0";

/// `given`, else every address of the agent's own network namespace but loopback and those of services.
pub async fn of_node(given: &[IpAddr]) -> Vec<IpAddr> {
    if !given.is_empty() {
        return given.to_vec();
    }
    match read().await {
        Ok(addresses) => addresses,
        Err(error) => {
            tracing::warn!(%error, "cannot read this node's addresses; name them with --node-address, or probes of strict pods are refused");
            Vec::new()
        }
    }
}

async fn read() -> Result<Vec<IpAddr>, rtnetlink::Error> {
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(|error| rtnetlink::Error::NamespaceError(error.to_string()))?;
    let serving = tokio::spawn(connection);
    let services = services_device(&handle).await;
    let found: Result<Vec<_>, _> = handle.address().get().execute().try_collect().await;
    serving.abort();
    Ok(own(found?, services))
}

/// Its index; none where there is no such device, as in all other modes.
async fn services_device(handle: &Handle) -> Option<u32> {
    let mut found = handle.link().get().match_name(SERVICES_DEVICE.to_owned()).execute();
    found.try_next().await.ok().flatten().map(|link| link.header.index)
}

fn own(found: Vec<AddressMessage>, services: Option<u32>) -> Vec<IpAddr> {
    let of_services = |message: &AddressMessage| Some(message.header.index) == services;
    let attributes =
        found.into_iter().filter(|message| !of_services(message)).flat_map(|message| message.attributes);
    let addresses = attributes.filter_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(address),
        _ => None,
    });
    addresses.filter(|address| !address.is_loopback()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn addresses_of_loopback_and_of_services_are_not_the_nodes_own() {
        let message = |index, address: &str| {
            let mut message = AddressMessage::default();
            message.header.index = index;
            message.attributes.push(AddressAttribute::Address(address.parse().unwrap()));
            message
        };
        let found = || {
            [
                (1, "127.0.0.1"),
                (1, "::1"),
                (2, "192.0.2.1"),
                (2, "2001:db8::1"),
                (7, "10.96.0.1"),
                (8, "10.0.0.1"),
            ]
            .map(|(index, address)| message(index, address))
            .to_vec()
        };
        let addresses =
            |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        assert_eq!(own(found(), Some(7)), addresses(&["192.0.2.1", "2001:db8::1", "10.0.0.1"]));
        assert_eq!(own(found(), None), addresses(&["192.0.2.1", "2001:db8::1", "10.96.0.1", "10.0.0.1"]));
    }
}
