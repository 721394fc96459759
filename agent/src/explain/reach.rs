//! How an endpoint would be reached, and what its pod would say to it.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use http::request::Parts;

use super::{Comer, Told, World};
use crate::{
    bpf::Inbound,
    observe::{
        CloseReason, Security,
        views::{AskView, ChanceView, OutcomeKind},
    },
    path::{connect::Journey, http::head, route},
    snapshot::{
        Endpoint, LocalPod, Peer, Workload,
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
                let name = format!("{}/{}", pod.namespace, pod.name);
                let says = format!(
                    "{address} is pod {name}, of which only the name is known yet: it is asked for before anything is sent"
                );
                told.step("identity", says);
                let comer = comer(here, &name, address, request);
                let arrived = comer.map_or_else(Arrived::default, |comer| elsewhere(&comer, None, told));
                return chance(address, None, probability, (Security::MutualTls, None), arrived);
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
        return chance(address, workload, probability, (Security::None, None), Arrived::default());
    }
    let Some(pod) = workload else { return ChanceView::default() };
    if let Err(why) = (world.certificate)(own) {
        told.stop("identity", format!("no certificate for {own}: {why}"));
        let refused = Arrived::refused(CloseReason::IdentityError);
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
    let comer = comer(here, &format!("{}/{}", pod.namespace, pod.name), address, request);
    let arrived = comer.map_or_else(Arrived::default, |comer| arrival(world, pod, &comer, told));
    chance(address, workload, probability, (Security::MutualTls, Some(pod)), arrived)
}

/// What comes of an arrival.
#[derive(Clone, Debug, Default)]
pub(super) struct Arrived {
    /// Why it is refused.
    pub(super) refused: Option<CloseReason>,
    /// HTTP status of that, where it is the request.
    pub(super) status: Option<u16>,
    /// Whom to ask.
    pub(super) elsewhere: Option<AskView>,
}

impl Arrived {
    pub(super) fn refused(reason: CloseReason) -> Self {
        Self { refused: Some(reason), ..Self::default() }
    }
}

/// Whether an endpoint that would not be picked now may be a moment later, when others are busier.
pub(super) fn may_win(world: &World<'_>, endpoint: &Endpoint) -> bool {
    endpoint.load.ejected_until_ns.load(Relaxed) <= world.now_ns
}

/// A caller that comes by tunnel.
fn comer(here: &LocalPod, pod: &str, address: SocketAddr, request: Option<&Parts>) -> Option<Comer> {
    let client = here.workload.addresses.iter().copied().find(|own| own.is_ipv4() == address.is_ipv4())?;
    let identity = Some(here.workload.identity.clone());
    Some(Comer { pod: pod.to_owned(), address, client, identity, request: request.cloned() })
}

/// It is for another agent to say.
fn elsewhere(comer: &Comer, node: Option<&str>, told: &mut Told) -> Arrived {
    let ask = AskView { pod: comer.pod.clone(), node: node.map(str::to_owned), target: comer.target() };
    let who =
        node.map_or_else(|| "the agent of its node".to_owned(), |node| format!("the agent of node {node}"));
    told.unknown("arrival", format!("{}: {who} decides", comer.pod), &ask);
    Arrived { elsewhere: Some(ask), ..Arrived::default() }
}

/// What the called pod's agent says: of a pod of this node all of it, of another one what can be known here, and whom to ask.
pub(super) fn arrival(world: &World<'_>, pod: &Arc<Workload>, comer: &Comer, told: &mut Told) -> Arrived {
    let (name, address, tunnel) = (&comer.pod, comer.address, comer.identity.is_some());
    let here = world.snapshot.local_pods.get(&pod.uid);
    if here.is_none() && !pod.meshed {
        return Arrived::default();
    }
    // Of a pod of this node the kernel can be asked; of another one it is known only that it is captured.
    let entrance = if tunnel { crate::config::TUNNEL_PORT } else { address.port() };
    let judged =
        here.and_then(|_| (world.inbound)(&pod.uid, comer.client, SocketAddr::new(address.ip(), entrance)));
    if let Some(judged) = judged
        && judged.verdict != Inbound::Steer
    {
        told.step(
            "arrival",
            format!("{name}: not steered to its agent by {}: {:?}", judged.program, judged.verdict),
        );
        return Arrived::default();
    }
    let decided = match here {
        Some(here) if tunnel => {
            route::stream(world.snapshot, here, &Authority::Address(address), address.ip()).map(drop)
        }
        _ if tunnel => Ok(()),
        _ => route::plaintext(pod, address, comer.client).map(drop),
    };
    let way = if tunnel { "the tunnel" } else { "plain text" };
    match (decided, here) {
        (Err(reason), _) => {
            told.stop("arrival", format!("{name}: its agent refuses {way}: {reason}"));
            Arrived::refused(reason)
        }
        (Ok(()), Some(here)) => {
            told.step("arrival", format!("{name}: its agent takes {way}"));
            policies(world, here, comer, told)
        }
        (Ok(()), None) => elsewhere(comer, Some(&pod.node), told),
    }
}

/// What the policies of the called pod say to the connection, and to the request where they wait for it.
fn policies(world: &World<'_>, here: &LocalPod, comer: &Comer, told: &mut Told) -> Arrived {
    let Comer { identity, address, client, request, .. } = comer;
    let facts = Facts { identity: identity.as_ref(), address: *client, port: address.port() };
    let readable = !world.snapshot.not_http.contains(address);
    let policies = &here.authorization;
    let asked = request.as_ref().filter(|_| readable && policies.waits_for_request(&facts));
    let verdict = match asked.map(|parts| Asked::read(parts, head::authority(parts))) {
        Some(Ok(asked)) => policies.decide_request(&facts, &asked),
        Some(Err(_)) => {
            told.stop("policy", "400: the path cannot be read in one way, and policies ask for it");
            return Arrived { status: Some(400), ..Arrived::refused(CloseReason::PolicyDenied) };
        }
        None => policies.decide(&facts, None).without_http(),
    };
    if verdict.allows() {
        told.step("policy", format!("let in: {}", verdict.reason()));
        return Arrived::default();
    }
    let (how, status) = if asked.is_some() { ("answered 403", Some(403)) } else { ("refused", None) };
    told.stop("policy", format!("{how}: {}", verdict.reason()));
    Arrived { status, ..Arrived::refused(CloseReason::PolicyDenied) }
}

/// An endpoint with its probability.
pub(super) fn chance(
    address: SocketAddr,
    workload: Option<&Arc<Workload>>,
    probability: f64,
    (security, expected): (Security, Option<&Arc<Workload>>),
    arrived: Arrived,
) -> ChanceView {
    ChanceView {
        address: address.to_string(),
        pod: workload.map(|pod| format!("{}/{}", pod.namespace, pod.name)),
        probability,
        security,
        expected_identity: expected.map(|pod| pod.identity.to_string()),
        refused: arrived.refused,
        status: arrived.status,
        elsewhere: arrived.elsewhere,
    }
}

/// A connection that is carried to one of these.
pub(super) fn conclude(told: &mut Told, says: &str, endpoints: Vec<ChanceView>) {
    let outcome = told.certain(OutcomeKind::Forwarded, says);
    outcome.endpoints = endpoints;
    outcome.settle();
}
