//! All agents of a cluster, for who wants to see the whole of it.

use super::{
    connect::{ClusterError, agents, client},
    find::FindError,
    nodes::node_of,
    place::Place,
};

/// Agents that one command asks again and again; each question is a port-forward through the API server.
const MOST: usize = 32;

/// One place for each node that has an agent, by name.
///
/// # Errors
/// See [`ClusterError`]; more agents than one command should ask are an error too, which names them.
pub fn agents_of(place: &Place) -> Result<Vec<Place>, ClusterError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let pods = runtime.block_on(async { agents(&client(place).await?, &place.system_namespace).await })?;
    let mut nodes: Vec<String> = pods.iter().filter_map(|pod| node_of(pod).map(str::to_owned)).collect();
    nodes.sort();
    nodes.dedup();
    match nodes.len() {
        0 => Err(FindError::NoAgents(place.system_namespace.clone()).into()),
        1..=MOST => Ok(nodes.into_iter().map(|node| Place { node: Some(node), ..place.clone() }).collect()),
        count => Err(FindError::Which { count, nodes }.into()),
    }
}
