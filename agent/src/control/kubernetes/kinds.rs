//! What is watched: the kinds that the mesh reads, as the API server names them. Names alone, no requests.

use kube::core::{ApiResource, GroupVersion};

use crate::control::document::Kind;

/// All of them.
pub(super) const KINDS: [Kind; 10] = [
    Kind::Namespace,
    Kind::Pod,
    Kind::Service,
    Kind::EndpointSlice,
    Kind::TrafficPolicy,
    Kind::AuthorizationPolicy,
    Kind::BackendTrafficPolicy,
    Kind::HttpRoute,
    Kind::GrpcRoute,
    Kind::ReferenceGrant,
];

/// As in a URL and in a role.
pub(super) fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::Namespace => "namespaces",
        Kind::Pod => "pods",
        Kind::Service => "services",
        Kind::EndpointSlice => "endpointslices",
        Kind::TrafficPolicy => "trafficpolicies",
        Kind::AuthorizationPolicy => "authorizationpolicies",
        Kind::BackendTrafficPolicy => "xbackendtrafficpolicies",
        Kind::HttpRoute => "httproutes",
        Kind::GrpcRoute => "grpcroutes",
        Kind::ReferenceGrant => "referencegrants",
    }
}

/// How the API server names one version of a kind.
pub(super) fn resource(kind: Kind, version: &str) -> ApiResource {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let gvk = GroupVersion::gv(group, version).with_kind(kind.as_str());
    ApiResource::from_gvk_with_plural(&gvk, plural(kind))
}

/// `PLURAL.GROUP`, the name of the kind's CustomResourceDefinition; the plural alone in the core group.
pub(super) fn qualified(kind: Kind) -> String {
    match kind.version().split_once('/') {
        Some((group, _)) => format!("{}.{group}", plural(kind)),
        None => plural(kind).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn names_are_the_servers() {
        let route = resource(Kind::HttpRoute, "gateway.networking.k8s.io/v1");
        assert_eq!(
            (&*route.group, &*route.version, &*route.plural),
            ("gateway.networking.k8s.io", "v1", "httproutes")
        );
        assert_eq!(resource(Kind::Pod, "v1").api_version, "v1");
        assert_eq!(qualified(Kind::Pod), "pods");
        assert_eq!(qualified(Kind::TrafficPolicy), "trafficpolicies.posthaste.dev");
    }
}
