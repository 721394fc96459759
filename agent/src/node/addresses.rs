//! The node's own addresses, from which probes come.

use std::net::IpAddr;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::AddressAttribute;

/// `given`, else every address of the agent's own network namespace but loopback.
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
    let found: Result<Vec<_>, _> = handle.address().get().execute().try_collect().await;
    serving.abort();
    let addresses =
        found?.into_iter().flat_map(|message| message.attributes).filter_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(address),
            _ => None,
        });
    Ok(addresses.filter(|address| !address.is_loopback()).collect())
}
