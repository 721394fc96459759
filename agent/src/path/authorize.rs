//! Stage `authorize`: whether a caller may have what it asks of this pod, before a byte of it reaches the application.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Poll, ready},
};

use super::{arrival::Arrival, route::Target};
use crate::{
    observe::{CloseReason, Connection, Denied},
    snapshot::{LocalPod, Snapshot, authorization::Decision},
    tunnel::Incoming,
    worker::{Admission, Caller, PodHere, With},
};

/// Lets a caller in, for as long as it has the right, or as far as to read its requests where policies ask for something of HTTP. What
/// the pod itself calls is not asked here: the called pod's agent is.
///
/// # Errors
/// A policy keeps it out, or none lets it in.
pub fn admit<I: Incoming>(
    snapshot: &Snapshot,
    pod: &Rc<PodHere>,
    here: &LocalPod,
    arrival: &Arrival<I>,
    target: &Target<'_>,
    record: &Connection,
) -> Result<Option<Admission>, CloseReason> {
    // The port that is reached, not the one that was named: a CONNECT may name a Service.
    let Target::Application { address, client } = target else { return Ok(None) };
    let identity = match arrival {
        Arrival::Captured { .. } | Arrival::Plaintext { .. } => None,
        Arrival::Tunnelled { peer, .. } => Some(peer.clone()),
    };
    let (client, port) = (client.to_canonical(), address.port());
    let caller = Caller { identity, address: client, port, with: With::Requests };
    let readable = !snapshot.not_http.contains(address);
    if readable && here.authorization.waits_for_request(&caller.facts()) {
        return Ok(Some(pod.admissions.enter(caller)));
    }
    unread(pod, here, caller, *address, record).map(Some)
}

/// Lets a caller in of whom nothing can be read: what policies ask of HTTP is not there.
///
/// # Errors
/// A policy keeps it out, or none lets it in.
pub fn unread(
    pod: &Rc<PodHere>,
    here: &LocalPod,
    caller: Caller,
    address: SocketAddr,
    record: &Connection,
) -> Result<Admission, CloseReason> {
    let policies = &here.authorization;
    let caller = Caller { with: With::Bytes, ..caller };
    for (policy, verdict) in policies.trials(&caller.facts(), None) {
        record.trial(Denied::Connection, &policy.name);
        let (client, why) = (caller.address, verdict.reason());
        tracing::info!(policy = %policy.name, %client, destination = %address, why, "a policy under trial would deny");
    }
    let decision = policies.decide(&caller.facts(), None);
    let blind = matches!(decision, Decision::Undecided(_));
    let verdict = decision.without_http();
    if verdict.allows() {
        return Ok(pod.admissions.enter(caller));
    }
    record.denied(Denied::Connection, &verdict);
    if blind {
        record.not_http(&here.workload, address.port(), &verdict);
    }
    Err(CloseReason::PolicyDenied)
}

/// Does the work of a connection until it ends or the right to it does. A small future, since every connection is in one.
pub fn guard<'a>(
    admission: Option<&'a Admission>,
    record: &'a Connection,
    mut work: Pin<&'a mut impl Future<Output = CloseReason>>,
) -> impl Future<Output = CloseReason> {
    poll_fn(move |context| {
        let Some(admission) = admission else { return work.as_mut().poll(context) };
        let guarded = ready!(admission.poll(context, |context| work.as_mut().poll(context)));
        Poll::Ready(guarded.unwrap_or_else(|verdict| {
            record.denied(Denied::Connection, &verdict);
            CloseReason::PolicyDenied
        }))
    })
}
