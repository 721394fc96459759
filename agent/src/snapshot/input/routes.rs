//! HTTPRoute, GRPCRoute and ReferenceGrant as their objects say them (Gateway API `v1`). Pure: shapes only; a value that means
//! nothing is for [`crate::snapshot::build`] to say, so that it spoils its rule and not the object.
//!
//! A match refuses fields that it does not know: without them it would match more than was meant.

use serde::{Deserialize, Serialize};

use super::Metadata;

/// Which kind of route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RouteKind {
    /// `HTTPRoute`.
    Http,
    /// `GRPCRoute`.
    Grpc,
}

/// An HTTPRoute or a GRPCRoute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Name, namespace and age.
    pub metadata: Metadata,
    /// Which of both.
    pub kind: RouteKind,
    /// `spec`.
    pub spec: RouteSpec,
}

/// A ReferenceGrant: who may refer to what of its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceGrant {
    /// Its namespace is the one that grants.
    pub metadata: Metadata,
    /// `spec`.
    pub spec: GrantSpec,
}

/// `spec` of both kinds of route. `hostnames` is not read: [`crate::snapshot::routes`] says why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RouteSpec {
    /// What it is attached to.
    pub parent_refs: Vec<ParentReference>,
    /// Rules; absent is one that matches everything.
    pub rules: Option<Vec<RouteRule>>,
}

/// `parentRefs[]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ParentReference {
    /// API group.
    pub group: Option<String>,
    /// Kind; a Gateway where absent.
    pub kind: Option<String>,
    /// Namespace; the route's where absent.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// Port of the Service.
    pub port: Option<i32>,
    /// Name of the Service's port.
    pub section_name: Option<String>,
}

/// `rules[]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RouteRule {
    /// Name.
    pub name: Option<String>,
    /// Any of these; all requests where empty.
    pub matches: Vec<Match>,
    /// Filters.
    pub filters: Vec<Filter>,
    /// Where matching requests go.
    pub backend_refs: Vec<BackendReference>,
    /// Time-outs.
    pub timeouts: Timeouts,
    /// Retries.
    pub retry: Option<Retry>,
}

/// `matches[]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Match {
    /// HTTPRoute: the path.
    pub path: Option<PathValue>,
    /// The method, of HTTP or of gRPC.
    pub method: Option<MethodValue>,
    /// Headers.
    pub headers: Vec<NamedValue>,
    /// HTTPRoute: query parameters.
    pub query_params: Vec<NamedValue>,
}

/// `path` of a match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct PathValue {
    /// `Exact`, `PathPrefix` (where absent) or `RegularExpression`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// `/` where absent.
    pub value: Option<String>,
}

/// `method` of a match: a word in an HTTPRoute, service and method in a GRPCRoute.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum MethodValue {
    /// HTTP.
    Http(String),
    /// gRPC.
    Grpc(GrpcMethod),
}

/// `method` of a match of a GRPCRoute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrpcMethod {
    /// `Exact` (where absent) or `RegularExpression`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Service with its package.
    pub service: Option<String>,
    /// Method.
    pub method: Option<String>,
}

/// A header or a query parameter of a match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct NamedValue {
    /// `Exact` (where absent) or `RegularExpression`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Name.
    pub name: String,
    /// Value or expression.
    pub value: String,
}

/// `filters[]`: one of the parts, named by the type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Filter {
    /// Which one.
    #[serde(rename = "type")]
    pub kind: String,
    /// `RequestHeaderModifier`.
    pub request_header_modifier: Option<HeaderFilter>,
    /// `ResponseHeaderModifier`.
    pub response_header_modifier: Option<HeaderFilter>,
    /// `RequestMirror`.
    pub request_mirror: Option<MirrorFilter>,
    /// `RequestRedirect`.
    pub request_redirect: Option<RedirectFilter>,
    /// `URLRewrite`.
    pub url_rewrite: Option<RewriteFilter>,
    /// `CORS`.
    pub cors: Option<CorsFilter>,
}

/// `requestHeaderModifier` and `responseHeaderModifier`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct HeaderFilter {
    /// Replaces.
    pub set: Vec<NamedValue>,
    /// Adds.
    pub add: Vec<NamedValue>,
    /// Takes away.
    pub remove: Vec<String>,
}

/// `requestMirror`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MirrorFilter {
    /// Where to.
    pub backend_ref: BackendReference,
    /// 0 to 100.
    pub percent: Option<i32>,
    /// In its place.
    pub fraction: Option<Fraction>,
}

/// `fraction`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Fraction {
    /// So many.
    pub numerator: i32,
    /// Of so many; 100 where absent.
    pub denominator: Option<i32>,
}

/// `requestRedirect`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RedirectFilter {
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// Host.
    pub hostname: Option<String>,
    /// Path.
    pub path: Option<PathModifier>,
    /// Port.
    pub port: Option<i32>,
    /// 302 where absent.
    pub status_code: Option<i32>,
}

/// `urlRewrite`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct RewriteFilter {
    /// Host.
    pub hostname: Option<String>,
    /// Path.
    pub path: Option<PathModifier>,
}

/// `path` of a redirect or a rewrite.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PathModifier {
    /// `ReplaceFullPath` or `ReplacePrefixMatch`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The whole path.
    pub replace_full_path: Option<String>,
    /// What the prefix gives way to.
    pub replace_prefix_match: Option<String>,
}

/// `cors`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CorsFilter {
    /// Origins.
    pub allow_origins: Vec<String>,
    /// Whether credentials may be sent.
    pub allow_credentials: Option<bool>,
    /// Methods.
    pub allow_methods: Vec<String>,
    /// Headers of requests.
    pub allow_headers: Vec<String>,
    /// Headers of answers.
    pub expose_headers: Vec<String>,
    /// Seconds; 5 where absent.
    pub max_age: Option<i64>,
}

/// `backendRefs[]`, and `backendRef` of a mirror.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct BackendReference {
    /// API group; the core group where absent.
    pub group: Option<String>,
    /// Kind; `Service` where absent.
    pub kind: Option<String>,
    /// Name.
    pub name: String,
    /// Namespace; the route's where absent.
    pub namespace: Option<String>,
    /// Port of the Service.
    pub port: Option<i32>,
    /// Share; 1 where absent.
    pub weight: Option<i64>,
    /// Filters of this backend.
    pub filters: Vec<Filter>,
}

/// `timeouts`, in the format of GEP-2257.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Timeouts {
    /// The whole request, retries included.
    pub request: Option<String>,
    /// One attempt.
    pub backend_request: Option<String>,
}

/// `retry` (GEP-1731).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Retry {
    /// Status codes.
    pub codes: Option<Vec<i64>>,
    /// Beside the first.
    pub attempts: Option<i64>,
    /// In the format of GEP-2257.
    pub backoff: Option<String>,
}

/// `spec` of a ReferenceGrant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct GrantSpec {
    /// Who may refer.
    pub from: Vec<GrantFrom>,
    /// To what.
    pub to: Vec<GrantTo>,
}

/// `from[]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct GrantFrom {
    /// API group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
}

/// `to[]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct GrantTo {
    /// API group; empty is the core group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Name; any where absent.
    pub name: Option<String>,
}

impl RouteKind {
    /// As written in `kind`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "HTTPRoute",
            Self::Grpc => "GRPCRoute",
        }
    }
}
