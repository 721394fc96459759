//! One object of a known kind, from a value or straight from JSON text. Pure.

use std::sync::Arc;

use k8s_openapi::api::{core::v1 as core, discovery::v1 as discovery};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Item, Kind, Object, ObjectKey, bad, key, shown};
use crate::{
    control::{gateway, policy, translate},
    snapshot::{Problem, input::routes::RouteKind},
};

/// An object as JSON text, whose kind is known: what the API server sends. `origin` is for problems.
#[must_use]
pub fn object(origin: &Arc<str>, kind: Kind, text: &str) -> Item {
    // Straight from the text, since there may be a hundred thousand endpoints in it; only what does not fit takes the long
    // way, which can name the field.
    if let Ok(object) = translated(origin, kind, &Body::Text(text)) {
        return good(kind, object);
    }
    match serde_json::from_str::<Value>(text) {
        Ok(value) => read(origin, kind, &value),
        Err(error) => bad(origin, None, "", format!("is not JSON: {error}"), kind.as_str()),
    }
}

/// An object as a value.
pub(super) fn read(origin: &Arc<str>, kind: Kind, value: &Value) -> Item {
    match translated(origin, kind, &Body::Value(value)) {
        Ok(object) => good(kind, object),
        Err(problem) => in_part(origin, kind, value, problem),
    }
}

fn good(kind: Kind, object: Object) -> Item {
    let metadata = object.metadata();
    let (namespace, name) = (metadata.namespace.clone(), metadata.name.clone());
    Item::Good(ObjectKey { kind, namespace, name }, object)
}

/// A policy that keeps somebody out does so as far as it can be read.
fn in_part(origin: &Arc<str>, kind: Kind, value: &Value, problem: Problem) -> Item {
    let key = key(kind, value);
    let policy = match kind {
        Kind::AuthorizationPolicy => {
            policy::unread::in_part(value, origin).filter(|one| one.unread.is_some())
        }
        _ => None,
    };
    match (key, policy) {
        (Some(key), Some(policy)) => Item::InPart(key, Object::AuthorizationPolicy(policy.into()), problem),
        (key, _) => Item::Bad(key, problem),
    }
}

/// What an object is read from.
enum Body<'body> {
    Value(&'body Value),
    Text(&'body str),
}

fn translated(origin: &Arc<str>, kind: Kind, body: &Body<'_>) -> Result<Object, Problem> {
    match kind {
        Kind::Namespace => typed::<core::Namespace>(origin, kind, body)
            .and_then(|object| translate::namespace(object, origin))
            .map(|object| Object::Namespace(object.into())),
        Kind::Pod => typed::<core::Pod>(origin, kind, body)
            .and_then(|object| translate::pod(object, origin))
            .map(|object| Object::Pod(object.into())),
        Kind::Service => typed::<core::Service>(origin, kind, body)
            .and_then(|object| translate::service(object, origin))
            .map(|object| Object::Service(object.into())),
        Kind::EndpointSlice => typed::<discovery::EndpointSlice>(origin, kind, body)
            .and_then(|object| translate::endpoint_slice(object, origin))
            .map(|object| Object::EndpointSlice(object.into())),
        Kind::TrafficPolicy => typed(origin, kind, body)
            .and_then(|object| policy::traffic_policy(object, origin))
            .map(|object| Object::TrafficPolicy(object.into())),
        Kind::AuthorizationPolicy => typed(origin, kind, body)
            .and_then(|object| policy::authorization_policy(object, origin))
            .map(|object| Object::AuthorizationPolicy(object.into())),
        Kind::BackendTrafficPolicy => typed(origin, kind, body)
            .and_then(|object| policy::backend_traffic_policy(object, origin))
            .map(|object| Object::TrafficPolicy(object.into())),
        Kind::HttpRoute => route(origin, kind, body, RouteKind::Http),
        Kind::GrpcRoute => route(origin, kind, body, RouteKind::Grpc),
        Kind::ReferenceGrant => typed(origin, kind, body)
            .and_then(|object| gateway::reference_grant(object, origin))
            .map(|object| Object::ReferenceGrant(object.into())),
    }
}

fn route(origin: &Arc<str>, kind: Kind, body: &Body<'_>, of: RouteKind) -> Result<Object, Problem> {
    let route = typed(origin, kind, body).and_then(|object| gateway::route(object, of, origin))?;
    Ok(Object::Route(route.into()))
}

/// Kubernetes' own type, or the path of the field that does not fit it.
fn typed<T: DeserializeOwned>(origin: &str, kind: Kind, body: &Body<'_>) -> Result<T, Problem> {
    let problem = |object: String, field: String, error: &dyn std::fmt::Display| {
        let reason = format!("{error}; write the field as Kubernetes defines it");
        Problem { origin: origin.into(), object, field, reason }
    };
    match body {
        Body::Text(text) => serde_json::from_str(text)
            .map_err(|error| problem(kind.as_str().to_owned(), String::new(), &error)),
        Body::Value(value) => serde_path_to_error::deserialize(*value).map_err(|error| {
            let field = match error.path().to_string() {
                path if path == "." => String::new(),
                path => path,
            };
            problem(shown(kind, value), field, error.inner())
        }),
    }
}
