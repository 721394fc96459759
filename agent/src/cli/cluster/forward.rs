//! A connection to the admin port of an agent's pod, by port-forward through the API server: it takes the rights to get and create
//! `pods/portforward` in the agents' namespace. Each connection is a forward of its own and ends with it.

use super::{
    connect::{ClusterError, agent, client},
    nodes::place as pod_place,
    place::Place,
};
use crate::config::ADMIN_PORT;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::Portforwarder};
use std::{
    os::unix::net::UnixStream,
    sync::mpsc::{Sender, channel},
    thread,
};

/// Dials; the bytes are carried by a thread of its own until one side ends.
///
/// # Errors
/// See [`ClusterError`].
pub fn dial(place: &Place) -> Result<UnixStream, ClusterError> {
    let (ours, theirs) = UnixStream::pair()?;
    theirs.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (tell, told) = channel();
    let place = place.clone();
    thread::Builder::new().name("forward".to_owned()).spawn(move || {
        runtime.block_on(carry(&place, theirs, &tell));
    })?;
    let gone = || ClusterError::Runtime(std::io::Error::other("the thread that forwards has ended"));
    told.recv().map_err(|_| gone())?.map(|()| ours)
}

async fn carry(place: &Place, local: UnixStream, tell: &Sender<Result<(), ClusterError>>) {
    let opened = match open(place).await {
        Ok(opened) => {
            tokio::net::UnixStream::from_std(local).map(|local| (opened, local)).map_err(Into::into)
        }
        Err(error) => Err(error),
    };
    match opened {
        Ok((mut forward, mut local)) => {
            let Some(mut remote) = forward.take_stream(ADMIN_PORT) else { return };
            if tell.send(Ok(())).is_ok() {
                // What went wrong on the way shows as an answer that is not whole.
                let _ = tokio::io::copy_bidirectional(&mut local, &mut remote).await;
            }
        }
        Err(error) => {
            let _ = tell.send(Err(error));
        }
    }
}

async fn open(place: &Place) -> Result<Portforwarder, ClusterError> {
    let client = client(place).await?;
    let agent: Pod = agent(&client, place).await?;
    let (namespace, name) = pod_place(&agent);
    let forwarded = Api::<Pod>::namespaced(client, namespace).portforward(name, &[ADMIN_PORT]).await;
    forwarded.map_err(|error| ClusterError::Forward {
        agent: format!("{namespace}/{name}"),
        reason: format!(
            "{error}; it takes the rights to get and create pods/portforward in namespace {namespace}"
        ),
    })
}
