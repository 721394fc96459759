//! Stage `authorize`: whether a caller may have what it asks of this pod, before a byte of it reaches the application.

use std::rc::Rc;

use super::{arrival::Arrival, route::Target};
use crate::{
    observe::{CloseReason, Connection},
    snapshot::{LocalPod, authorization::Verdict},
    tunnel::Incoming,
    worker::{Admission, Caller, PodHere},
};

/// Lets a caller in, for as long as it has the right. What the pod itself calls is not asked here: the called pod's agent is.
///
/// # Errors
/// A policy keeps it out, or none lets it in.
pub fn admit<I: Incoming>(
    pod: &Rc<PodHere>,
    here: &LocalPod,
    arrival: &Arrival<I>,
    target: &Target<'_>,
    record: &Connection,
) -> Result<Option<Admission>, CloseReason> {
    // The port that is reached, not the one that was named: a CONNECT may name a Service.
    let Target::Application { address: destination, client } = target else { return Ok(None) };
    let identity = match arrival {
        Arrival::Captured { .. } | Arrival::Plaintext { .. } => None,
        Arrival::Tunnelled { peer, .. } => Some(peer.clone()),
    };
    let caller =
        Caller { identity, address: client.to_canonical(), port: destination.port(), by_request: false };
    let policies = &here.authorization;
    for (policy, verdict) in policies.trials(&caller.facts(), None) {
        record.trial(&policy.name);
        tracing::info!(policy = %policy.name, %client, %destination, why = verdict.reason(), "a policy under trial would deny");
    }
    let verdict = policies.decide(&caller.facts(), None).without_http();
    if !verdict.allows() {
        return Err(denied(record, &verdict));
    }
    Ok(Some(pod.admissions.enter(caller)))
}

/// Does the work of a connection until it ends or the right to it does.
pub async fn guard(
    admission: Option<&Admission>,
    record: &Connection,
    work: impl Future<Output = CloseReason>,
) -> CloseReason {
    match admission {
        None => work.await,
        Some(admission) => admission.guard(work).await.unwrap_or_else(|verdict| denied(record, &verdict)),
    }
}

fn denied(record: &Connection, verdict: &Verdict) -> CloseReason {
    record.policy(&verdict.reason());
    CloseReason::PolicyDenied
}
