//! How an endpoint would be reached, and what its pod would say to it.

use std::{net::SocketAddr, sync::Arc};

use http::request::Parts;

use super::{Told, World};
use crate::{
    bpf::Inbound,
    observe::{
        CloseReason, Security,
        views::{ChanceView, OutcomeKind, OutcomeView},
    },
    path::{connect::Journey, http::head, route},
    snapshot::{
        LocalPod, Peer, Workload,
        authorization::{Asked, Facts},
    },
    tunnel::Authority,
};

/// Who calls, and the address it asks for.
pub(super) struct Caller<'a> {
    pub(super) workload: &'a Arc<Workload>,
    pub(super) destination: SocketAddr,
}

/// An endpoint that is reached with this probability.
pub(super) fn endpoint(
    world: &World<'_>,
    here: &LocalPod,
    address: SocketAddr,
    workload: Option<&Arc<Workload>>,
    probability: f64,
    request: Option<&Parts>,
    told: &mut Told,
) -> ChanceView {
    let workload = match workload {
        Some(workload) => Some(workload),
        None => match world.snapshot.peer(address.ip()) {
            Peer::Known(workload) => Some(workload),
            Peer::Outside => None,
            Peer::Unknown(pod) => {
                let says = format!(
                    "{address} is pod {}/{}, of which only the name is known yet: it is asked for before anything is sent",
                    pod.namespace, pod.name
                );
                told.step("identity", says);
                return chance(address, None, probability, (Security::MutualTls, None), None);
            }
        },
    };
    let own = &here.workload.identity;
    if !Journey::wants_tunnel(here, workload) {
        let why = match workload {
            None => "outside the mesh",
            Some(pod) if pod.uid == here.workload.uid => "the calling pod itself, which it does not leave",
            Some(_) => "a pod that the mesh does not capture",
        };
        told.step("identity", format!("{address}: plain text, {why}"));
        return chance(address, workload, probability, (Security::None, None), None);
    }
    let Some(pod) = workload else { return ChanceView::default() };
    if let Err(why) = (world.certificate)(own) {
        told.stop("identity", format!("no certificate for {own}: {why}"));
        let refused = Some(CloseReason::IdentityError);
        return chance(address, workload, probability, (Security::MutualTls, Some(pod)), refused);
    }
    let else_plain = if pod.may_be_uncaptured(address.port()) {
        "; plain text where nobody takes one, since nobody has said that the pod is captured"
    } else {
        ""
    };
    told.step(
        "identity",
        format!(
            "{address}: a tunnel with mutual TLS; presented {own}, expected {}{else_plain}",
            pod.identity
        ),
    );
    let refused = arrival(world, pod, &here.workload, address, (true, request), told);
    chance(address, workload, probability, (Security::MutualTls, Some(pod)), refused)
}

/// What the called pod's agent says, as far as this agent can know it; by tunnel or in plain text.
pub(super) fn arrival(
    world: &World<'_>,
    pod: &Arc<Workload>,
    caller: &Workload,
    address: SocketAddr,
    (tunnel, request): (bool, Option<&Parts>),
    told: &mut Told,
) -> Option<CloseReason> {
    let name = format!("{}/{}", pod.namespace, pod.name);
    let client = caller.addresses.iter().copied().find(|own| own.is_ipv4() == address.is_ipv4())?;
    let here = world.snapshot.local_pods.get(&pod.uid);
    if here.is_none() && !pod.meshed {
        return None;
    }
    // Of a pod of this node the kernel can be asked; of another one it is known only that it is captured.
    let entrance = if tunnel { crate::config::TUNNEL_PORT } else { address.port() };
    let judged =
        here.and_then(|_| (world.inbound)(&pod.uid, client, SocketAddr::new(address.ip(), entrance)));
    if let Some(judged) = judged
        && judged.verdict != Inbound::Steer
    {
        told.step(
            "arrival",
            format!("{name}: not steered to its agent by {}: {:?}", judged.program, judged.verdict),
        );
        return None;
    }
    let decided = match here {
        Some(here) if tunnel => {
            route::stream(world.snapshot, here, &Authority::Address(address), address.ip()).map(drop)
        }
        _ if tunnel => Ok(()),
        _ => route::plaintext(pod, address, client).map(drop),
    };
    let way = if tunnel { "the tunnel" } else { "plain text" };
    match decided {
        Ok(()) if here.is_some() => told.step("arrival", format!("{name}: its agent takes {way}")),
        Ok(()) => told.step("arrival", format!("{name}: the agent of node {} decides", pod.node)),
        Err(reason) => told.stop("arrival", format!("{name}: its agent refuses {way}: {reason}")),
    }
    if let (Ok(()), Some(here)) = (decided, here) {
        let identity = tunnel.then_some(&caller.identity);
        let facts = Facts { identity, address: client, port: address.port() };
        let readable = !world.snapshot.not_http.contains(&address);
        return policies(here, &facts, request.filter(|_| readable), told).err();
    }
    decided.err()
}

/// What the policies of the called pod say to the connection, and to the request where they wait for it.
fn policies(
    here: &LocalPod,
    facts: &Facts<'_>,
    request: Option<&Parts>,
    told: &mut Told,
) -> Result<(), CloseReason> {
    let policies = &here.authorization;
    let asked = request.filter(|_| policies.waits_for_request(facts));
    let verdict = match asked.map(|parts| Asked::read(parts, head::authority(parts))) {
        Some(Ok(asked)) => policies.decide_request(facts, &asked),
        Some(Err(_)) => {
            told.stop("policy", "400: the path cannot be read in one way, and policies ask for it");
            return Err(CloseReason::PolicyDenied);
        }
        None => policies.decide(facts, None).without_http(),
    };
    if verdict.allows() {
        told.step("policy", format!("let in: {}", verdict.reason()));
        return Ok(());
    }
    let how = if asked.is_some() { "answered 403" } else { "refused" };
    told.stop("policy", format!("{how}: {}", verdict.reason()));
    Err(CloseReason::PolicyDenied)
}

/// An endpoint with its probability.
pub(super) fn chance(
    address: SocketAddr,
    workload: Option<&Arc<Workload>>,
    probability: f64,
    (security, expected): (Security, Option<&Arc<Workload>>),
    refused: Option<CloseReason>,
) -> ChanceView {
    ChanceView {
        address: address.to_string(),
        pod: workload.map(|pod| format!("{}/{}", pod.namespace, pod.name)),
        probability,
        security,
        expected_identity: expected.map(|pod| pod.identity.to_string()),
        refused,
    }
}

/// A connection that is carried to one of these.
pub(super) fn conclude(told: &mut Told, says: &str, endpoints: Vec<ChanceView>) {
    let refused = endpoints.first().and_then(|first| first.refused);
    let all_refuse = !endpoints.is_empty() && endpoints.iter().all(|one| one.refused.is_some());
    let (kind, reason) =
        if all_refuse { (OutcomeKind::Refused, refused) } else { (OutcomeKind::Forwarded, None) };
    let outcome = told.certain(kind, says);
    *outcome = OutcomeView { endpoints, reason, ..outcome.clone() };
}
