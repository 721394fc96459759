//! Where one request goes, decided from the snapshot before anything is sent: route, backend, filters, times. Pure.

use std::sync::Arc;

use http::{Response, StatusCode, request::Parts};

use super::{answer::Local, body::Body, filters, head};
use crate::observe::requests::RequestFlag;
use crate::snapshot::{
    ServicePort, ServiceRoutes,
    policy::RetryPolicy,
    routes::{Action, Backend, Cors, Filters, RequestView, RouteName, Rule},
};

/// What is to be done with a request that goes on.
#[derive(Debug)]
pub struct Plan {
    /// The service port that it goes to.
    pub port: Arc<ServicePort>,
    /// That is the one that the client connected to.
    pub direct: bool,
    /// The rule that matched; none where no route is attached.
    pub rule: Option<Arc<Rule>>,
    /// Which backend of the rule; its filters come after the rule's.
    backend: usize,
    /// Bytes of the path that the match took.
    prefix: usize,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Decision {
    /// It goes on.
    Forward(Plan),
    /// The agent answers, on behalf of a rule where one matched.
    Answer(Option<Arc<RouteName>>, Response<Body>),
    /// It cannot go on.
    Refuse(Option<Arc<RouteName>>, Local),
}

/// Decides for a request to `port`. `routes` are those of its place, `random` draws the backend.
#[must_use]
pub fn decide(
    port: &Arc<ServicePort>,
    routes: Option<&ServiceRoutes>,
    caller_namespace: &str,
    parts: &Parts,
    random: u64,
) -> Decision {
    let Some(table) = routes.and_then(|routes| routes.of(caller_namespace)) else {
        return Decision::Forward(Plan {
            port: Arc::clone(port),
            direct: true,
            rule: None,
            backend: 0,
            prefix: 0,
        });
    };
    let Some(choice) = table.choose(&view(parts)) else {
        let text = format!("no route of {} matches {} {}", port.hostname, parts.method, parts.uri.path());
        return Decision::Refuse(None, Local::new(StatusCode::NOT_FOUND, RequestFlag::NoRoute, text));
    };
    let name = Some(Arc::clone(&choice.rule.name));
    if let Some(preflight) = cors(choice.rule).and_then(|cors| filters::cors_preflight(cors, parts)) {
        return Decision::Answer(name, preflight.map(|()| Body::Empty));
    }
    match &choice.rule.action {
        Action::Invalid(reason) => {
            let text = format!("the route is not valid: {reason}");
            Decision::Refuse(
                name,
                Local::new(StatusCode::INTERNAL_SERVER_ERROR, RequestFlag::NoCluster, text),
            )
        }
        Action::Redirect(redirect) => {
            let (authority, scheme) = (head::authority(parts), head::scheme(parts));
            let answer = filters::redirect(redirect, choice.prefix, authority, scheme, &parts.uri);
            let mut answer = answer.map(|()| Body::Empty);
            filters::response(&choice.rule.filters, answer.headers_mut());
            Decision::Answer(name, answer)
        }
        Action::Forward(backends) => forward(port, choice.rule, backends, choice.prefix, random),
    }
}

fn forward(
    asked: &Arc<ServicePort>,
    rule: &Arc<Rule>,
    backends: &[Backend],
    prefix: usize,
    random: u64,
) -> Decision {
    let refuse = |reason: &str| {
        let text = format!("the route leads nowhere: {reason}");
        let local = Local::new(StatusCode::INTERNAL_SERVER_ERROR, RequestFlag::NoCluster, text);
        Decision::Refuse(Some(Arc::clone(&rule.name)), local)
    };
    let Some(chosen) = rule.backend(random) else { return refuse("no backend has a weight above 0") };
    let backend = backends.iter().position(|backend| std::ptr::eq(backend, chosen)).unwrap_or_default();
    match &chosen.port {
        Ok(port) => {
            let direct = Arc::ptr_eq(asked, port);
            Decision::Forward(Plan {
                port: Arc::clone(port),
                direct,
                rule: Some(Arc::clone(rule)),
                backend,
                prefix,
            })
        }
        Err(reason) => refuse(reason),
    }
}

/// What of a request decides its route.
#[must_use]
pub fn view(parts: &Parts) -> RequestView<'_> {
    RequestView {
        method: &parts.method,
        path: parts.uri.path(),
        query: parts.uri.query(),
        headers: &parts.headers,
        authority: head::authority(parts),
    }
}

fn cors(rule: &Rule) -> Option<&Cors> {
    rule.filters.cors.as_deref()
}

impl Plan {
    /// Filters of the rule, then of the backend.
    pub fn filters(&self) -> impl DoubleEndedIterator<Item = &Filters> {
        let rule = self.rule.as_deref();
        let backend = rule.and_then(|rule| match &rule.action {
            Action::Forward(backends) => backends.get(self.backend).map(|backend| &backend.filters),
            _ => None,
        });
        rule.map(|rule| &rule.filters).into_iter().chain(backend)
    }

    /// Changes the request as the filters say.
    pub fn change_request(&self, parts: &mut Parts) {
        for filters in self.filters() {
            filters::request(filters, self.prefix, parts);
        }
    }

    /// Changes the answer as the filters say, the backend's first.
    pub fn change_response(&self, origin: Option<&http::HeaderValue>, headers: &mut http::HeaderMap) {
        for filters in self.filters().rev() {
            if let (Some(cors), Some(origin)) = (filters.cors.as_deref(), origin) {
                filters::cors_response(cors, origin, headers);
            }
            filters::response(filters, headers);
        }
    }

    /// The rule's retries, else those of the port.
    #[must_use]
    pub fn retry(&self) -> &RetryPolicy {
        let of_rule = self.rule.as_ref().and_then(|rule| rule.retry.as_ref());
        of_rule.unwrap_or(&self.port.policy.retry)
    }

    /// Time for the whole exchange, where the rule sets one.
    #[must_use]
    pub fn request_timeout_ns(&self) -> Option<u64> {
        self.rule.as_ref()?.request_timeout_ns
    }

    /// Time for one attempt: the smaller of the rule's and the policy's.
    #[must_use]
    pub fn attempt_timeout_ns(&self) -> Option<u64> {
        let of_rule = self.rule.as_ref().and_then(|rule| rule.backend_timeout_ns);
        [of_rule, self.retry().per_try_ns].into_iter().flatten().min()
    }

    /// Name of the rule, where one matched.
    #[must_use]
    pub fn name(&self) -> Option<&Arc<RouteName>> {
        self.rule.as_ref().map(|rule| &rule.name)
    }
}
