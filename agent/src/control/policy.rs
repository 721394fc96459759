//! `TrafficPolicy`, `XBackendTrafficPolicy` and `AuthorizationPolicy` to [`input`], and the CustomResourceDefinitions of ours. Pure.
//!
//! A policy of ours with a field that is not known is refused whole, since a mistyped limit would be no limit; of Gateway API's, fields
//! that are not known are left alone. An AuthorizationPolicy that was never in order is in force as far as it can be read
//! ([`unread`]).

pub mod crd;
pub mod unread;

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::Value;

use super::translate;
use crate::snapshot::{
    Problem,
    input::authorization::{self, AuthorizationPolicy, AuthorizationPolicySpec},
    input::policy::{KIND, RetryConstraint, TargetRef, TrafficPolicy, TrafficPolicySpec},
};

/// Group of our own kinds.
pub const GROUP: &str = "posthaste.dev";
/// Group and version of our own kinds.
pub const API_VERSION: &str = "posthaste.dev/v1alpha1";
/// Group and version of Gateway API's experiments.
pub const EXPERIMENTS: &str = "gateway.networking.x-k8s.io/v1alpha1";
/// Gateway API's.
pub const BACKEND_TRAFFIC_POLICY: &str = "XBackendTrafficPolicy";

/// `TrafficPolicy` as it is written.
#[derive(Debug, Deserialize)]
pub struct TrafficPolicyObject {
    #[serde(default)]
    metadata: ObjectMeta,
    spec: TrafficPolicySpec,
}

/// `AuthorizationPolicy` as it is written.
#[derive(Debug, Deserialize)]
pub struct AuthorizationPolicyObject {
    #[serde(default)]
    metadata: ObjectMeta,
    /// Absent, it is an ALLOW without rules, as in Istio.
    #[serde(default)]
    spec: AuthorizationPolicySpec,
}

/// `XBackendTrafficPolicy` as it is written.
#[derive(Debug, Deserialize)]
pub struct BackendTrafficPolicyObject {
    #[serde(default)]
    metadata: ObjectMeta,
    spec: BackendTrafficPolicySpec,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BackendTrafficPolicySpec {
    target_refs: Vec<BackendRef>,
    retry_constraint: Option<RetryConstraint>,
    session_persistence: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct BackendRef {
    #[serde(default)]
    group: String,
    kind: String,
    name: String,
}

/// Reads a TrafficPolicy.
///
/// # Errors
/// Its name or namespace is missing or not a Kubernetes name.
pub fn traffic_policy(object: TrafficPolicyObject, origin: &Arc<str>) -> Result<TrafficPolicy, Problem> {
    let metadata = translate::metadata(object.metadata, origin, KIND, true)?;
    Ok(TrafficPolicy { metadata, kind: KIND, spec: object.spec, not_honoured: Vec::new() })
}

/// Reads an AuthorizationPolicy.
///
/// # Errors
/// Its name or namespace is missing or not a Kubernetes name.
pub fn authorization_policy(
    object: AuthorizationPolicyObject,
    origin: &Arc<str>,
) -> Result<AuthorizationPolicy, Problem> {
    let metadata = translate::metadata(object.metadata, origin, authorization::KIND, true)?;
    Ok(AuthorizationPolicy { metadata, spec: object.spec, unread: None })
}

/// Reads an XBackendTrafficPolicy.
///
/// # Errors
/// Its name or namespace is missing or not a Kubernetes name.
pub fn backend_traffic_policy(
    object: BackendTrafficPolicyObject,
    origin: &Arc<str>,
) -> Result<TrafficPolicy, Problem> {
    let metadata = translate::metadata(object.metadata, origin, BACKEND_TRAFFIC_POLICY, true)?;
    let BackendTrafficPolicySpec { target_refs, retry_constraint, session_persistence } = object.spec;
    let reference =
        |to: BackendRef| TargetRef { group: to.group, kind: to.kind, name: to.name, section_name: None };
    let spec = TrafficPolicySpec {
        target_refs: target_refs.into_iter().map(reference).collect(),
        retry_constraint,
        ..TrafficPolicySpec::default()
    };
    let instead = "is not honoured; use `loadBalancer.consistentHash` of a TrafficPolicy to keep a client at an endpoint";
    let not_honoured = session_persistence.map(|_| ("spec.sessionPersistence", instead));
    let not_honoured = not_honoured.into_iter().collect();
    Ok(TrafficPolicy { metadata, kind: BACKEND_TRAFFIC_POLICY, spec, not_honoured })
}
