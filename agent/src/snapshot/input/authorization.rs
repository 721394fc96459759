//! `AuthorizationPolicy` (`posthaste.dev/v1alpha1`) as it is written: these types are its schema. Pure. The meaning of the words is
//! Istio's (security.istio.io/v1 AuthorizationPolicy) wherever both have them, so that people can move; what they amount to is for
//! [`crate::snapshot::build`] to say.
//!
//! The comments of the fields become the descriptions that `kubectl explain` shows.

use std::{collections::BTreeMap, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Metadata, policy::TargetRef};

/// The kind.
pub const KIND: &str = "AuthorizationPolicy";

/// A policy and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationPolicy {
    /// Name and namespace.
    pub metadata: Metadata,
    /// What it asks for, without the parts that cannot be read.
    pub spec: AuthorizationPolicySpec,
    /// Those parts, where there are some.
    pub unread: Option<Arc<Unread>>,
}

/// What cannot be read of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// `spec` as it was written.
    pub written: serde_json::Value,
    /// In the order in which they were found; never none.
    pub faults: Vec<Fault>,
}

/// A field that does not fit, and the parts that are not read because of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its path.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
    /// Never none but for a field that is too much.
    pub parts: Vec<Part>,
}

/// A part that is read as a whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// `targetRefs` or `selector`.
    Target,
    /// `action`.
    Action,
    /// `dryRun`.
    Trial,
    /// A condition of this rule, which one is not known.
    Rule(usize),
    /// The source, operation or condition at this path: `spec.rules[0].from[1]`.
    Member(String),
}

impl AuthorizationPolicy {
    /// Whether a part cannot be read.
    #[must_use]
    pub fn lacks(&self, part: &Part) -> bool {
        let faults = self.unread.iter().flat_map(|unread| &unread.faults);
        faults.flat_map(|fault| &fault.parts).any(|one| one == part)
    }
}

/// Who may call the pods of its namespace. Denials go first; where a policy that allows applies to a port, all that none allows is
/// denied there. Enforced by the agent of the called pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!(has(self.targetRefs) && has(self.selector))", "message": "give targetRefs or selector, not both"},
]))]
pub struct AuthorizationPolicySpec {
    /// To what it applies: Services of its own namespace (the pods and ports behind them), or that namespace. Absent, with no selector
    /// either: the namespace.
    #[schemars(length(min = 1, max = 16))]
    pub target_refs: Option<Vec<TargetRef>>,
    /// To the pods of its namespace that have all these labels.
    pub selector: Option<Selector>,
    /// `ALLOW` (default) or `DENY`.
    pub action: Option<Action>,
    /// Only said, in records and metrics; nothing is denied for it.
    pub dry_run: Option<bool>,
    /// The policy matches what one of them matches. None: it matches nothing, so that `ALLOW` without rules denies everything.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub rules: Vec<Rule>,
}

/// Labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selector {
    /// All of them must be on the pod; none selects every pod.
    #[serde(default)]
    pub match_labels: BTreeMap<String, String>,
}

/// What a match means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Action {
    /// Let in.
    #[default]
    Allow,
    /// Keep out.
    Deny,
}

/// All three parts must match; a part that is absent always does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// One of these sources.
    #[schemars(length(min = 1, max = 512))]
    pub from: Option<Vec<From>>,
    /// One of these operations.
    #[schemars(length(min = 1, max = 512))]
    pub to: Option<Vec<To>>,
    /// All of these conditions.
    #[schemars(length(min = 1, max = 64))]
    pub when: Option<Vec<Condition>>,
}

/// A source, in Istio's shape.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct From {
    /// The source.
    pub source: Source,
}

/// Who calls. All fields that are given must match; in a field one of the values. `*` alone stands for anything that is there, at the
/// beginning for any beginning, at the end for any end. A caller without mutual TLS has no principal, namespace or service account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// `cluster.local/ns/NAMESPACE/sa/SERVICEACCOUNT`: the SPIFFE identity without `spiffe://`.
    #[schemars(length(min = 1))]
    pub principals: Option<Vec<String>>,
    /// None of them.
    #[schemars(length(min = 1))]
    pub not_principals: Option<Vec<String>>,
    /// Namespace of the proved identity.
    #[schemars(length(min = 1))]
    pub namespaces: Option<Vec<String>>,
    /// None of them.
    #[schemars(length(min = 1))]
    pub not_namespaces: Option<Vec<String>>,
    /// `NAMESPACE/NAME`, or `NAME` in the policy's own namespace. No `*`.
    #[schemars(length(min = 1))]
    pub service_accounts: Option<Vec<String>>,
    /// None of them.
    #[schemars(length(min = 1))]
    pub not_service_accounts: Option<Vec<String>>,
    /// Address of the caller: `10.0.0.1` or `10.0.0.0/8`.
    #[schemars(length(min = 1))]
    pub ip_blocks: Option<Vec<String>>,
    /// None of them.
    #[schemars(length(min = 1))]
    pub not_ip_blocks: Option<Vec<String>>,
}

/// An operation, in Istio's shape.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct To {
    /// The operation.
    pub operation: Operation,
}

/// What is called. All fields that are given must match; in a field one of the values. Hosts, methods and paths are of HTTP: on a
/// connection that is not, an `ALLOW` with them does not match and a `DENY` does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Operation {
    /// Port of the pod, as text: `"8080"`.
    #[schemars(length(min = 1))]
    pub ports: Option<Vec<String>>,
    /// None of them.
    #[schemars(length(min = 1))]
    pub not_ports: Option<Vec<String>>,
    /// `Host`, without regard to case; a value without a port stands for every port.
    #[schemars(length(min = 1))]
    pub hosts: Option<Vec<String>>,
    /// None of them.
    #[schemars(length(min = 1))]
    pub not_hosts: Option<Vec<String>>,
    /// As `GET`; every gRPC call is `POST`.
    #[schemars(length(min = 1))]
    pub methods: Option<Vec<String>>,
    /// None of them.
    #[schemars(length(min = 1))]
    pub not_methods: Option<Vec<String>>,
    /// The path without the query, in every way in which a server may read it. `{*}` is one segment, `{**}` any number.
    #[schemars(length(min = 1))]
    pub paths: Option<Vec<String>>,
    /// None of them.
    #[schemars(length(min = 1))]
    pub not_paths: Option<Vec<String>>,
}

/// A further condition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.values) || has(self.notValues)", "message": "give values or notValues"},
]))]
pub struct Condition {
    /// `request.headers[NAME]`, `source.ip`, `source.namespace`, `source.principal` or `destination.port`.
    #[schemars(length(min = 1, max = 256))]
    pub key: String,
    /// One of them.
    #[schemars(length(min = 1))]
    pub values: Option<Vec<String>>,
    /// None of them.
    #[schemars(length(min = 1))]
    pub not_values: Option<Vec<String>>,
}
