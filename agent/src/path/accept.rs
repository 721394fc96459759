//! Stage `accept`: what a new connection is. A captured one asks the kernel where it wanted to go; one from outside is a
//! tunnel when it came to port 15008, else plaintext; the streams of a tunnel arrive one by one.

use std::{
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::{net::TcpStream, time::timeout};

use super::{
    arrival::{Arrival, OverReference},
    carry, identify, record,
    socket::Socket,
};
use crate::{
    config::TUNNEL_PORT,
    observe::{CloseReason, Security, TunnelSocket, monotonic_ns},
    snapshot::{LocalPod, SpiffeId},
    tls,
    tunnel::{
        Incoming, reference,
        stream::{ReadAhead, ServerStream},
    },
    worker::{PodHere, Worker},
};

/// A connection of the application, brought here by the connect hooks.
pub fn captured(worker: &Rc<Worker>, pod: &Rc<PodHere>, near: Socket, client: SocketAddr) {
    start(worker, pod, Arrival::<reference::ReferenceIncoming>::Captured { near, client });
}

/// A connection from outside the pod, brought here by `sk_lookup`.
pub fn entering(worker: &Rc<Worker>, pod: &Rc<PodHere>, near: Socket, client: SocketAddr) {
    // A socket without a local address was reset before it was accepted.
    let Ok(destination) = near.local_addr() else { return };
    let client = canonical(client);
    let destination = canonical(destination);
    if destination.port() == TUNNEL_PORT {
        let (worker, task_pod) = (Rc::clone(worker), Rc::clone(pod));
        pod.spawn(tunnel(worker, task_pod, near, client, destination.ip()));
    } else {
        start(worker, pod, Arrival::<reference::ReferenceIncoming>::Plaintext { near, client, destination });
    }
}

/// Where an arrival wants to go.
///
/// # Errors
/// Nobody captured it: something connected to the agent's listener itself.
pub fn destination<I: Incoming>(worker: &Worker, arrival: &Arrival<I>) -> Result<SocketAddr, CloseReason> {
    match arrival {
        Arrival::Captured { near, .. } => {
            worker.original_destination(near).map(canonical).ok_or(CloseReason::NotCaptured)
        }
        Arrival::Plaintext { destination, .. } => Ok(*destination),
        Arrival::Tunnelled { request, own, .. } => Ok(SocketAddr::new(*own, request.head().authority.port())),
    }
}

fn start<I: OverReference>(worker: &Rc<Worker>, pod: &Rc<PodHere>, arrival: Arrival<I>) {
    pod.spawn(work(Rc::clone(worker), Rc::clone(pod), arrival, monotonic_ns()));
}

/// The task of one connection; its size is what each of them costs.
pub(super) async fn work<I: OverReference>(
    worker: Rc<Worker>,
    pod: Rc<PodHere>,
    arrival: Arrival<I>,
    arrived_ns: u64,
) {
    carry(&worker, &pod, arrival, arrived_ns).await;
}

/// Serves one tunnel: the TLS handshake under a deadline, then every stream on its own.
async fn tunnel(worker: Rc<Worker>, pod: Rc<PodHere>, near: Socket, client: SocketAddr, own: IpAddr) {
    let snapshot = worker.snapshot();
    let Some(here) = identify::local_pod(&snapshot, &pod).map(Arc::clone) else {
        return near.reset_on_drop();
    };
    drop(snapshot);
    let Ok(near) = near.into_told() else { return };
    let socket = TunnelSocket::of(&near);
    let limit = worker.shared.connect.handshake;
    let greeted = timeout(limit, greet(&worker, &here, near)).await;
    let (stream, peer, lost) = match greeted.unwrap_or(Err(CloseReason::TlsFailure)) {
        Ok(greeted) => greeted,
        Err(reason) => return refuse_tunnel(&worker, &here, client, own, reason),
    };
    let settings = &worker.shared.tunnels;
    let caller = peer.clone();
    let handler = {
        let (worker, pod) = (Rc::clone(&worker), Rc::clone(&pod));
        move |request| {
            start(
                &worker,
                &pod,
                Arrival::Tunnelled {
                    request: Box::new(request),
                    client,
                    own,
                    peer: peer.clone(),
                    socket: socket.clone(),
                },
            );
        }
    };
    let (stopping, leaving) = (worker.draining(), pod.leaving());
    let drain = async {
        tokio::select! {
            within = stopping => within,
            // What runs goes on for as long as it likes.
            () = leaving => Duration::MAX,
        }
    };
    let ended = tokio::select! {
        biased;
        untrusted = lost => {
            tracing::warn!(%client, identity = %caller, %untrusted, "closed a tunnel that came in");
            return;
        }
        ended = reference::serve(stream, settings, handler, drain) => ended,
    };
    tracing::debug!(%client, ?ended, "tunnel ended");
}

type Greeted<L> = (ServerStream, SpiffeId, L);

/// Shakes hands; also says when the caller is trusted no more.
async fn greet(
    worker: &Worker,
    here: &LocalPod,
    near: TcpStream,
) -> Result<Greeted<impl Future<Output = tls::Untrusted> + use<>>, CloseReason> {
    let identity = worker.shared.identities.ready(&here.workload.identity).await.map_err(|error| {
        tracing::warn!(identity = %here.workload.identity, %error, "no certificate for a tunnel that came in");
        CloseReason::IdentityError
    })?;
    let greeted = tls::accept(&identity, ReadAhead::new(near)).await;
    let (stream, peer) = greeted.map_err(|error| {
        tracing::info!(pod = %here.workload.name, %error, "refused a tunnel");
        reason_of(&error)
    })?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
    let lost = tls::lost(worker.shared.identities.trust(), chain, identity.clock.clone());
    Ok((stream, peer, lost))
}

/// What the record calls a handshake that failed.
#[must_use]
pub fn reason_of(error: &tls::TlsError) -> CloseReason {
    match error.response_flag() {
        "IDENTITY_ERROR" => CloseReason::IdentityError,
        _ => CloseReason::TlsFailure,
    }
}

fn refuse_tunnel(worker: &Worker, here: &LocalPod, client: SocketAddr, own: IpAddr, reason: CloseReason) {
    let record = worker.open(record::inbound_opening(here, client));
    record.destination(SocketAddr::new(own, TUNNEL_PORT));
    record.security(Security::None);
    record.close(reason);
}

/// An IPv4 address that a dual-stack socket shows as `::ffff:a.b.c.d` is an IPv4 address.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
