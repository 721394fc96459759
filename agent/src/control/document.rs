//! One file's text to objects: splits documents, parses each on its own so that one bad document never hides another,
//! opens lists, and names file, document, object, field and reason of what does not fit. Pure.
//!
//! Refuses: YAML whose aliases blow up, duplicate keys, a wrong `apiVersion` of a kind that the mesh reads, a kind of our own group
//! that there is not, a group that is nearly ours. Other kinds are counted and left alone.

mod object;
mod value;

use std::sync::Arc;

use serde_json::Value;

use super::{policy, spelling};
use crate::snapshot::{
    Problem,
    input::{self, routes::RouteKind},
};
pub use object::object;

/// The kinds that the mesh reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `v1`.
    Namespace,
    /// `v1`.
    Pod,
    /// `v1`.
    Service,
    /// `discovery.k8s.io/v1`.
    EndpointSlice,
    /// `posthaste.dev/v1alpha1`.
    TrafficPolicy,
    /// `posthaste.dev/v1alpha1`.
    AuthorizationPolicy,
    /// `gateway.networking.x-k8s.io/v1alpha1`.
    BackendTrafficPolicy,
    /// `gateway.networking.k8s.io/v1`.
    HttpRoute,
    /// `gateway.networking.k8s.io/v1`.
    GrpcRoute,
    /// `gateway.networking.k8s.io/v1beta1`.
    ReferenceGrant,
}

/// What tells one object from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Kind.
    pub kind: Kind,
    /// Namespace; empty for a Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

/// An object that the mesh reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A Namespace.
    Namespace(Arc<input::Namespace>),
    /// A Pod.
    Pod(Arc<input::Pod>),
    /// A Service.
    Service(Arc<input::Service>),
    /// An EndpointSlice.
    EndpointSlice(Arc<input::EndpointSlice>),
    /// A TrafficPolicy or an XBackendTrafficPolicy.
    TrafficPolicy(Arc<input::policy::TrafficPolicy>),
    /// An AuthorizationPolicy.
    AuthorizationPolicy(Arc<input::authorization::AuthorizationPolicy>),
    /// An HTTPRoute or a GRPCRoute.
    Route(Arc<input::routes::Route>),
    /// A ReferenceGrant.
    ReferenceGrant(Arc<input::routes::ReferenceGrant>),
}

/// What one document (or one item of a list) turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// An object in order.
    Good(ObjectKey, Object),
    /// An object of which a part does not fit, and what is in force of it as long as no whole version was seen.
    InPart(ObjectKey, Object, Problem),
    /// An object that does not fit; the key where it could be read.
    Bad(Option<ObjectKey>, Problem),
    /// A kind that the mesh does not read.
    Ignored,
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Documents parted by `---`.
    Yaml,
    /// JSON values one after the other.
    Json,
}

impl Kind {
    /// As written in `kind`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::TrafficPolicy => input::policy::KIND,
            Self::AuthorizationPolicy => input::authorization::KIND,
            Self::BackendTrafficPolicy => policy::BACKEND_TRAFFIC_POLICY,
            Self::HttpRoute => RouteKind::Http.as_str(),
            Self::GrpcRoute => RouteKind::Grpc.as_str(),
            Self::ReferenceGrant => "ReferenceGrant",
        }
    }

    /// Versions that are read, the best first.
    pub(super) fn versions(self) -> &'static [&'static str] {
        match self {
            Self::Namespace | Self::Pod | Self::Service => &["v1"],
            Self::EndpointSlice => &["discovery.k8s.io/v1"],
            Self::HttpRoute => &["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"],
            Self::GrpcRoute => &["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1alpha2"],
            Self::ReferenceGrant => &["gateway.networking.k8s.io/v1beta1", "gateway.networking.k8s.io/v1"],
            Self::TrafficPolicy | Self::AuthorizationPolicy => &[policy::API_VERSION],
            Self::BackendTrafficPolicy => &[policy::EXPERIMENTS],
        }
    }

    /// The version that is read first.
    #[must_use]
    pub fn version(self) -> &'static str {
        self.versions().first().copied().unwrap_or("v1")
    }

    fn all() -> impl Iterator<Item = Self> {
        let core = [Self::Namespace, Self::Pod, Self::Service, Self::EndpointSlice];
        let gateway = [Self::HttpRoute, Self::GrpcRoute, Self::ReferenceGrant];
        let policies = [Self::TrafficPolicy, Self::BackendTrafficPolicy, Self::AuthorizationPolicy];
        core.into_iter().chain(gateway).chain(policies)
    }

    fn parse(kind: &str) -> Option<Self> {
        Self::all().find(|known| known.as_str() == kind)
    }
}

impl Object {
    /// Adds it to the objects of its kind.
    pub fn add_to(&self, inputs: &mut input::Inputs) {
        match self {
            Self::Namespace(object) => inputs.namespaces.push(object.clone()),
            Self::Pod(object) => inputs.pods.push(object.clone()),
            Self::Service(object) => inputs.services.push(object.clone()),
            Self::EndpointSlice(object) => inputs.endpoint_slices.push(object.clone()),
            Self::TrafficPolicy(object) => inputs.traffic_policies.push(object.clone()),
            Self::AuthorizationPolicy(object) => inputs.authorization_policies.push(object.clone()),
            Self::Route(object) => inputs.routes.push(object.clone()),
            Self::ReferenceGrant(object) => inputs.reference_grants.push(object.clone()),
        }
    }

    /// Whether all of it was read.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        match self {
            Self::AuthorizationPolicy(object) => object.unread.is_none(),
            _ => true,
        }
    }

    /// The metadata of whatever it is.
    #[must_use]
    pub fn metadata(&self) -> &input::Metadata {
        match self {
            Self::Namespace(object) => &object.metadata,
            Self::Pod(object) => &object.metadata,
            Self::Service(object) => &object.metadata,
            Self::EndpointSlice(object) => &object.metadata,
            Self::TrafficPolicy(object) => &object.metadata,
            Self::AuthorizationPolicy(object) => &object.metadata,
            Self::Route(object) => &object.metadata,
            Self::ReferenceGrant(object) => &object.metadata,
        }
    }
}

/// Reads all documents of a file; `file` is its name for problems.
#[must_use]
pub fn parse(file: &str, text: &str, format: Format) -> Vec<Item> {
    let mut items = Vec::new();
    let values = match format {
        Format::Yaml => value::yaml_documents(text),
        Format::Json => value::json_documents(text),
    };
    for (number, value) in values {
        let origin: Arc<str> = format!("{file} document {number}").into();
        match value {
            Ok(Value::Null) => {}
            Ok(value) => open(&origin, value, None, &mut items),
            Err(error) => items.push(bad(&origin, None, "", error.reason, error.object)),
        }
    }
    items
}

/// One object, or the items of a list, one level deep.
fn open(origin: &Arc<str>, mut value: Value, outer: Option<(&str, &str)>, items: &mut Vec<Item>) {
    if !value.is_object() {
        let reason = "is not an object; a Kubernetes object starts with `apiVersion`, `kind` and `metadata`";
        items.push(bad(origin, None, "", reason, String::new()));
        return;
    }
    let list = text(&value, "/kind").and_then(|kind| kind.strip_suffix("List")).map(str::to_owned);
    let (Some(of), Some(Value::Array(members)), None) =
        (list, value.get_mut("items").map(Value::take), outer)
    else {
        return items.push(read(origin, &value, outer));
    };
    let version = text(&value, "/apiVersion").unwrap_or_default();
    for (index, member) in members.into_iter().enumerate() {
        let origin: Arc<str> = format!("{origin} item {}", index + 1).into();
        open(&origin, member, Some((version, &of)), items);
    }
}

/// `outer` is version and kind that a typed list (`PodList`) gives to members that do not say theirs.
fn read(origin: &Arc<str>, value: &Value, outer: Option<(&str, &str)>) -> Item {
    let given = |pointer| text(value, pointer).filter(|text| !text.is_empty());
    let outer = outer.filter(|(_, kind)| !kind.is_empty());
    let Some(kind) = given("/kind").or(outer.map(|(_, kind)| kind)) else {
        return bad(
            origin,
            None,
            "kind",
            "is missing; say what object this is, as `kind: Service`",
            name(value),
        );
    };
    let Some(version) = given("/apiVersion").or(outer.map(|(version, _)| version)) else {
        let object = format!("{kind}/{}", name(value));
        return bad(origin, None, "apiVersion", "is missing; say `v1`, or the group and version", object);
    };
    let slip = || spelling::meant(kind, Kind::all().map(Kind::as_str)).filter(|_| is_kubernetes(version));
    if let Some(meant) = slip() {
        let reason =
            format!("`{kind}` is no kind that the mesh reads; write {meant} if that is what you mean");
        return bad(origin, None, "kind", reason, format!("{kind}/{}", name(value)));
    }
    match Kind::parse(kind) {
        Some(kind) if kind.versions().contains(&version) => object::read(origin, kind, value),
        Some(kind) if is_kubernetes(version) => {
            let known = kind.version();
            let reason = format!("`{version}` has no {} that the mesh reads; use `{known}`", kind.as_str());
            bad(origin, key(kind, value), "apiVersion", reason, shown(kind, value))
        }
        _ => match unknown_of_ours(kind, version) {
            Some((field, reason)) => bad(origin, None, field, reason, format!("{kind}/{}", name(value))),
            None => Item::Ignored,
        },
    }
}

/// Field and reason where an object was plainly meant for us, and would go unread.
fn unknown_of_ours(kind: &str, version: &str) -> Option<(&'static str, String)> {
    let ours = policy::GROUP;
    let group = version.split('/').next().unwrap_or_default();
    let kinds = || Kind::all().filter(|kind| kind.version() == policy::API_VERSION).map(Kind::as_str);
    if group == ours {
        let known: Vec<&str> = kinds().collect();
        let reason =
            format!("`{kind}` is no kind of {ours}, which has {}; nothing reads it", known.join(" and "));
        return Some(("kind", reason));
    }
    let is_near =
        group.contains(ours.split('.').next()?) || spelling::meant(group, std::iter::once(ours)).is_some();
    is_near.then(|| {
        let known = policy::API_VERSION;
        (
            "apiVersion",
            format!("`{version}` is no group and version of ours; write `{known}`; nothing reads it"),
        )
    })
}

/// A group of Kubernetes itself, or ours: other groups may well have kinds of the same name (Knative's Service).
fn is_kubernetes(version: &str) -> bool {
    version
        .split_once('/')
        .is_none_or(|(group, _)| !group.contains('.') || group.ends_with("k8s.io") || group == policy::GROUP)
}

fn bad(
    origin: &str,
    key: Option<ObjectKey>,
    field: &str,
    reason: impl Into<String>,
    object: impl Into<String>,
) -> Item {
    let object = Some(object.into()).filter(|object| !object.is_empty()).unwrap_or_else(|| "document".into());
    Item::Bad(key, Problem { origin: origin.into(), object, field: field.into(), reason: reason.into() })
}

fn key(kind: Kind, value: &Value) -> Option<ObjectKey> {
    let name = text(value, "/metadata/name").filter(|name| !name.is_empty())?;
    let namespace = match kind {
        Kind::Namespace => "",
        _ => text(value, "/metadata/namespace").filter(|name| !name.is_empty()).unwrap_or("default"),
    };
    Some(ObjectKey { kind, namespace: namespace.into(), name: name.into() })
}

fn shown(kind: Kind, value: &Value) -> String {
    match key(kind, value) {
        Some(key) if key.namespace.is_empty() => format!("{}/{}", kind.as_str(), key.name),
        Some(key) => format!("{}/{}/{}", kind.as_str(), key.namespace, key.name),
        None => kind.as_str().to_owned(),
    }
}

fn name(value: &Value) -> String {
    text(value, "/metadata/name").unwrap_or_default().to_owned()
}

fn text<'value>(value: &'value Value, pointer: &str) -> Option<&'value str> {
    value.pointer(pointer).and_then(Value::as_str)
}

#[cfg(test)]
mod tests;
