//! Which endpoints of a port this node may use: conditions, `internalTrafficPolicy`, hints, `trafficDistribution`, as
//! kube-proxy decides (`pkg/proxy/topology.go`, `CategorizeEndpoints`). Pure.

use super::{Context, slices::Candidate};
use crate::snapshot::input::Service;

/// How near an endpoint must be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    HintedNode,
    HintedZone,
    Node,
    Zone,
    Cluster,
}

/// Keeps those that may be used, in their order.
pub(super) fn choose<'input>(
    candidates: Vec<Candidate<'input>>,
    service: &Service,
    context: &Context,
) -> Vec<Candidate<'input>> {
    let local_only = service.internal_traffic_policy == "Local";
    // With `Local` hints and distribution are not asked: this node's endpoints or none.
    let reach = if local_only { Reach::Node } else { reach(&candidates, service, context) };
    let near = |candidate: &Candidate<'_>| candidate.ready && is_within(candidate, reach, context);
    if candidates.iter().any(near) {
        return candidates.into_iter().filter(near).collect();
    }
    // None is ready: those that still serve on their way out.
    let last = if local_only { Reach::Node } else { Reach::Cluster };
    let leaving = |candidate: &Candidate<'_>| candidate.leaving && is_within(candidate, last, context);
    candidates.into_iter().filter(leaving).collect()
}

/// Hints count only where every ready endpoint has them and one is for us; without, the distribution is computed.
fn reach(candidates: &[Candidate<'_>], service: &Service, context: &Context) -> Reach {
    let mut ready = candidates.iter().filter(|candidate| candidate.ready).peekable();
    if ready.peek().is_none() {
        return Reach::Cluster;
    }
    let ready: Vec<_> = ready.collect();
    let any = |reach| ready.iter().any(|candidate| is_within(candidate, reach, context));
    let node_hints = ready.iter().all(|candidate| candidate.from.for_nodes().next().is_some());
    let zone_hints = ready.iter().all(|candidate| candidate.from.for_zones().next().is_some());
    if node_hints && any(Reach::HintedNode) {
        return Reach::HintedNode;
    }
    if zone_hints {
        return if any(Reach::HintedZone) { Reach::HintedZone } else { Reach::Cluster };
    }
    let wanted: &[Reach] = match service.traffic_distribution.as_str() {
        "PreferSameNode" => &[Reach::Node, Reach::Zone],
        "PreferSameZone" | "PreferClose" => &[Reach::Zone],
        _ => &[],
    };
    wanted.iter().copied().find(|reach| any(*reach)).unwrap_or(Reach::Cluster)
}

fn is_within(candidate: &Candidate<'_>, reach: Reach, context: &Context) -> bool {
    let zone = context.zone.as_deref().filter(|zone| !zone.is_empty());
    let is_zone = |name: &str| zone.is_some_and(|zone| zone == name);
    match reach {
        Reach::HintedNode => candidate.from.for_nodes().any(|node| *node == *context.node),
        Reach::HintedZone => candidate.from.for_zones().any(is_zone),
        Reach::Node => !context.node.is_empty() && *candidate.from.node() == *context.node,
        Reach::Zone => is_zone(candidate.from.zone()),
        Reach::Cluster => true,
    }
}
