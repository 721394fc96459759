//! Routes of a service port as the data path uses them: compiled from HTTPRoutes and GRPCRoutes that name the Service as
//! their parent (GAMMA, GEP-1294). Pure.
//!
//! `spec.hostnames` means nothing here: GEP-1294 asks a mesh to infer nothing from it, a connection belongs to a Service by
//! its ClusterIP and port, which one hash look-up finds. Who wants to tell hosts apart matches the header `Host`.

pub mod entry;
pub mod predicate;
pub mod table;

use std::{collections::HashMap, fmt, sync::Arc};

use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::ServicePort;
pub use table::{Choice, RequestView, RouteTable};

/// The routes attached to one service port: routes of the service's own namespace (producer) are for everybody, those of
/// another namespace (consumer) for callers of that namespace, for whom they replace the producer's.
#[derive(Debug, Default)]
pub struct ServiceRoutes {
    /// Routes of the service's namespace.
    pub producer: Option<Arc<RouteTable>>,
    /// Routes of other namespaces, by namespace.
    pub consumers: HashMap<Arc<str>, Arc<RouteTable>>,
}

impl ServiceRoutes {
    /// The table for callers of a namespace; none where the service itself is meant.
    #[must_use]
    pub fn of(&self, namespace: &str) -> Option<&Arc<RouteTable>> {
        self.consumers.get(namespace).or(self.producer.as_ref())
    }
}

/// Which rule of which object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteName {
    /// `HTTPRoute` or `GRPCRoute`.
    pub kind: &'static str,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Place of the rule in `spec.rules`.
    pub rule: usize,
    /// `name` of the rule, where given.
    pub rule_name: Option<Arc<str>>,
}

impl fmt::Display for RouteName {
    /// `HTTPRoute/namespace/name rule 0`, or the name of the rule in its place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{} rule ", self.kind, self.namespace, self.name)?;
        match &self.rule_name {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.rule),
        }
    }
}

/// What happens to the requests that match.
#[derive(Debug)]
pub struct Rule {
    /// Whose it is.
    pub name: Arc<RouteName>,
    /// Where they go.
    pub action: Action,
    /// Changes to requests and answers, in the order of the object.
    pub filters: Filters,
    /// `timeouts.request`: from the whole request to the whole answer, retries included.
    pub request_timeout_ns: Option<u64>,
    /// `timeouts.backendRequest`: one attempt.
    pub backend_timeout_ns: Option<u64>,
    /// `retry`; the policy of the backend's port where absent.
    pub retry: Option<super::policy::RetryPolicy>,
}

/// Where matching requests go.
#[derive(Debug)]
pub enum Action {
    /// To one of these, by weight.
    Forward(Vec<Backend>),
    /// Answered by the agent itself (`RequestRedirect`).
    Redirect(Redirect),
    /// Answered 500: the rule is not valid, with the reason that is also a problem.
    Invalid(String),
}

/// One of the backends of a rule.
#[derive(Debug)]
pub struct Backend {
    /// Its share among the rule's backends; 0 gets nothing.
    pub weight: u32,
    /// The service port; the reason where it cannot be used, and its share is answered 500.
    pub port: Result<Arc<ServicePort>, String>,
    /// Filters of the reference itself.
    pub filters: Filters,
}

/// Changes to requests and answers.
#[derive(Debug, Default)]
pub struct Filters {
    /// `RequestHeaderModifier`.
    pub request_headers: HeaderChanges,
    /// `ResponseHeaderModifier`.
    pub response_headers: HeaderChanges,
    /// `URLRewrite`.
    pub rewrite: Option<Rewrite>,
    /// `RequestMirror`, any number.
    pub mirrors: Vec<Mirror>,
    /// `CORS`.
    pub cors: Option<Box<Cors>>,
}

/// A header modifier: remove, then set, then add.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderChanges {
    /// Replaces.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Adds beside what is there.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Takes away.
    pub remove: Vec<HeaderName>,
}

/// `URLRewrite`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// New `Host`/`:authority`.
    pub hostname: Option<HeaderValue>,
    /// New path.
    pub path: Option<PathChange>,
}

/// How a path changes; the query stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathChange {
    /// `ReplaceFullPath`.
    Full(Arc<str>),
    /// `ReplacePrefixMatch`: the prefix that matched gives way to this.
    Prefix(Arc<str>),
}

/// `RequestRedirect`; absent parts stay those of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<Arc<str>>,
    /// Host.
    pub hostname: Option<Arc<str>>,
    /// Path.
    pub path: Option<PathChange>,
    /// Port.
    pub port: Option<u16>,
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
}

/// `RequestMirror`: a copy whose answer is thrown away.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// Where to; the reason where it cannot be used (then nothing is copied).
    pub port: Result<Arc<ServicePort>, String>,
    /// Of so many requests, `numerator` are copied.
    pub denominator: u32,
    /// See `denominator`.
    pub numerator: u32,
}

/// `CORS` (Gateway API HTTPCORSFilter).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    /// `allowOrigins`: exact, `*`, or with one leading `*.` label of the host.
    pub allow_origins: Vec<Arc<str>>,
    /// `allowCredentials`.
    pub allow_credentials: bool,
    /// `allowMethods`; `*` alone is all.
    pub allow_methods: Vec<Arc<str>>,
    /// `allowHeaders`.
    pub allow_headers: Vec<Arc<str>>,
    /// `exposeHeaders`.
    pub expose_headers: Vec<Arc<str>>,
    /// `maxAge` in seconds.
    pub max_age: u32,
}

impl Rule {
    /// A number for [`Rule::backend`] that draws each backend which gets anything, and its share of the requests. Where none does, one
    /// number that draws nothing.
    #[must_use]
    pub fn draws(&self) -> Vec<(u64, f64)> {
        let Action::Forward(backends) = &self.action else { return vec![(0, 1.0)] };
        let total: u64 = backends.iter().map(|backend| u64::from(backend.weight)).sum();
        if total == 0 {
            return vec![(0, 1.0)];
        }
        let mut start = 0;
        let mut draws = Vec::new();
        for weight in backends.iter().map(|backend| u64::from(backend.weight)).filter(|weight| *weight > 0) {
            draws.push((start, weight as f64 / total as f64));
            start += weight;
        }
        draws
    }

    /// Every service port that requests or their copies may go to.
    pub fn ports(&self) -> impl Iterator<Item = &Arc<ServicePort>> {
        let backends: &[Backend] = match &self.action {
            Action::Forward(backends) => backends,
            Action::Redirect(_) | Action::Invalid(_) => &[],
        };
        let filters = backends.iter().map(|backend| &backend.filters).chain([&self.filters]);
        let mirrors = filters.flat_map(|filters| &filters.mirrors).map(|mirror| &mirror.port);
        backends.iter().map(|backend| &backend.port).chain(mirrors).flatten()
    }

    /// The backend that a request draws: each by its share of the weights. None where there is nothing to draw from, which
    /// is answered 500 (`HTTPRouteRule.backendRefs`).
    #[must_use]
    pub fn backend(&self, random: u64) -> Option<&Backend> {
        let Action::Forward(backends) = &self.action else { return None };
        let total: u64 = backends.iter().map(|backend| u64::from(backend.weight)).sum();
        let mut drawn = random.checked_rem(total)?;
        backends.iter().find(|backend| {
            let weight = u64::from(backend.weight);
            let hit = drawn < weight;
            drawn = drawn.saturating_sub(weight);
            hit
        })
    }
}

/// Methods a request may have without being unsafe to repeat (RFC 9110, section 9.2.2).
#[must_use]
pub fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE | Method::TRACE
    )
}

#[cfg(test)]
mod tests;
