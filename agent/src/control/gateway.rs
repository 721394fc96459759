//! Objects of the Gateway API to [`input`]: Pure, the same for every source. The shapes are the input's own, since nothing
//! of these objects is left out; only the metadata are Kubernetes'.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use super::translate::metadata;
use crate::snapshot::{
    Problem,
    input::routes::{GrantSpec, ReferenceGrant, Route, RouteKind, RouteSpec},
};

/// An object with a `spec` of its own.
#[derive(Debug, Deserialize)]
#[serde(bound = "Spec: Deserialize<'de> + Default")]
pub struct Enveloped<Spec> {
    /// `metadata`.
    #[serde(default)]
    metadata: ObjectMeta,
    /// `spec`.
    #[serde(default)]
    spec: Spec,
}

/// Reads an HTTPRoute or a GRPCRoute.
///
/// # Errors
/// Its name or namespace is missing or not a Kubernetes name.
pub fn route(object: Enveloped<RouteSpec>, kind: RouteKind, origin: &Arc<str>) -> Result<Route, Problem> {
    let metadata = metadata(object.metadata, origin, kind.as_str(), true)?;
    Ok(Route { metadata, kind, spec: object.spec })
}

/// Reads a ReferenceGrant.
///
/// # Errors
/// Its name or namespace is missing or not a Kubernetes name.
pub fn reference_grant(object: Enveloped<GrantSpec>, origin: &Arc<str>) -> Result<ReferenceGrant, Problem> {
    let metadata = metadata(object.metadata, origin, "ReferenceGrant", true)?;
    Ok(ReferenceGrant { metadata, spec: object.spec })
}
