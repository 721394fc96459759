//! What is asked: the query of `/explain`, and which pod and address it means in a snapshot. Pure.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::{HeaderName, HeaderValue, Method, Request, header, request::Parts};

use crate::{
    observe::{
        ServiceName,
        query::{Query, encode},
    },
    snapshot::{LocalPod, Service, Snapshot, SpiffeId, Workload},
};

/// Why there is no answer, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// The question itself.
    #[error("{0}")]
    Malformed(String),
    /// This agent does not have the calling pod; another one may.
    #[error("{0}")]
    NotHere(String),
    /// The agent of the calling pod knows no such destination, so nobody knows better.
    #[error("{0}")]
    NoDestination(String),
}

/// A calling pod, and what would be asked for.
#[derive(Clone, Debug)]
pub struct Question {
    source: String,
    destination: String,
    /// The request; none where only the connection is asked about.
    pub(super) request: Option<Parts>,
}

/// Somebody who comes to a pod: what the called pod's agent sees of it.
#[derive(Clone, Debug)]
pub struct Comer {
    /// `namespace/name` of the pod.
    pub(super) pod: String,
    /// Address and port of the pod that is asked for.
    pub(super) address: SocketAddr,
    /// Address of the caller.
    pub(super) client: IpAddr,
    /// Who the caller proves to be; none in plain text.
    pub(super) identity: Option<SpiffeId>,
    /// The request, where one is asked about.
    pub(super) request: Option<Parts>,
}

impl Comer {
    /// `pod`, `address`, `client`, `identity` (none: plain text), and the request as in a [`Question`].
    ///
    /// # Errors
    /// What is missing or malformed.
    pub(crate) fn parse(query: &Query<'_>) -> Result<Self, Unanswered> {
        let wrong = |name: &str| Unanswered::Malformed(format!("`{name}` is missing or malformed"));
        let found = |name: &str| query.find(name).ok_or_else(|| wrong(name));
        let identity = query.find("identity").map(str::parse::<SpiffeId>).transpose();
        Ok(Self {
            pod: found("pod")?.to_owned(),
            address: found("address")?.parse().map_err(|_| wrong("address"))?,
            client: found("client")?.parse().map_err(|_| wrong("client"))?,
            identity: identity.map_err(|_| wrong("identity"))?,
            request: asked(query)?,
        })
    }

    /// The same as path and query.
    pub(super) fn target(&self) -> String {
        let mut target = format!(
            "/explain/arrival?pod={}&address={}&client={}",
            encode(&self.pod),
            encode(&self.address.to_string()),
            encode(&self.client.to_string())
        );
        let mut add = |name: &str, value: &str| target.push_str(&format!("&{name}={}", encode(value)));
        if let Some(identity) = &self.identity {
            add("identity", identity.as_str());
        }
        let Some(parts) = &self.request else {
            add("tcp", "true");
            return target;
        };
        add("method", parts.method.as_str());
        add("path", parts.uri.path_and_query().map_or("/", |path| path.as_str()));
        let authority = parts.uri.authority().map(|authority| format!("host: {authority}"));
        authority.iter().for_each(|line| add("header", line));
        for (name, value) in &parts.headers {
            if authority.is_none() || name != header::HOST {
                add("header", &format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())));
            }
        }
        target
    }

    /// The pod, where it is captured on this node.
    pub(super) fn called<'a>(
        &self,
        snapshot: &'a Snapshot,
        node: &str,
    ) -> Result<&'a Arc<LocalPod>, Unanswered> {
        let is_it = |pod: &&Arc<LocalPod>| {
            self.pod.split_once('/') == Some((&pod.workload.namespace, &pod.workload.name))
        };
        let nobody = || Unanswered::NotHere(format!("no pod {} is captured on node `{node}`", self.pod));
        snapshot.local_pods.values().find(is_it).ok_or_else(nobody)
    }
}

/// The calling pod, as this node has it.
pub(super) struct Source<'a> {
    pub(super) workload: Arc<Workload>,
    /// None where it is not captured.
    pub(super) here: Option<&'a Arc<LocalPod>>,
    /// Why it is not.
    pub(super) uncaptured: Option<&'a str>,
}

impl Question {
    /// `source`, `destination`, `method`, `path`, `header` (`name: value`, any number), `tcp=true`.
    ///
    /// # Errors
    /// What is missing or malformed.
    pub(crate) fn parse(query: &Query<'_>) -> Result<Self, Unanswered> {
        let needed = |name: &str| {
            let missing = || Unanswered::Malformed(format!("`{name}` is missing"));
            query.find(name).map(str::to_owned).ok_or_else(missing)
        };
        let (source, destination) = (needed("source")?, needed("destination")?);
        Ok(Self { source, destination, request: asked(query)? })
    }

    /// The calling pod.
    pub(super) fn source<'a>(&self, snapshot: &'a Snapshot, node: &str) -> Result<Source<'a>, Unanswered> {
        let workload = self.pod(snapshot)?;
        if let Some(here) = snapshot.local_pods.get(&workload.uid) {
            return Ok(Source { workload, here: Some(here), uncaptured: None });
        }
        let uncaptured = snapshot.uncaptured.iter().find(|(pod, _)| pod.uid == workload.uid);
        match uncaptured {
            Some((_, reason)) => Ok(Source { workload, here: None, uncaptured: Some(reason) }),
            None => Err(Unanswered::NotHere(format!(
                "{}/{} runs on node `{}`, this is the agent of `{node}`: ask that one with --admin-socket",
                workload.namespace, workload.name, workload.node
            ))),
        }
    }

    /// `namespace/pod`, or an address of a pod.
    fn pod(&self, snapshot: &Snapshot) -> Result<Arc<Workload>, Unanswered> {
        if let Ok(address) = self.source.parse::<IpAddr>() {
            let found = snapshot.workloads.get(&address.to_canonical());
            let nobody =
                || Unanswered::NotHere(format!("no pod that this agent knows has the address {address}"));
            return found.cloned().ok_or_else(nobody);
        }
        let Some((namespace, name)) = self.source.split_once('/') else {
            let text =
                format!("`{}` is no SOURCE: write `namespace/pod`, or the address of a pod", self.source);
            return Err(Unanswered::Malformed(text));
        };
        find_pod(snapshot, namespace, name).map_err(Unanswered::NotHere)
    }

    /// `ADDRESS:PORT`, `namespace/pod:PORT`, `service[.namespace[.svc...]][:PORT]`; the port may be left out where there is only one.
    pub(super) fn destination(
        &self,
        snapshot: &Snapshot,
        source: &Workload,
    ) -> Result<SocketAddr, Unanswered> {
        let asked = &*self.destination;
        if let Ok(address) = asked.parse::<SocketAddr>() {
            return Ok(SocketAddr::new(address.ip().to_canonical(), address.port()));
        }
        if let Ok(address) = asked.trim_matches(['[', ']']).parse::<IpAddr>() {
            let service = snapshot.cluster_ips.get(&address.to_canonical());
            return Ok(SocketAddr::new(address.to_canonical(), only_port(asked, service)?));
        }
        let (name, port) = match asked.rsplit_once(':') {
            Some((name, port)) => (name, Some(number(port)?)),
            None => (asked, None),
        };
        if let Some((namespace, pod)) = name.split_once('/') {
            let workload = find_pod(snapshot, namespace, pod).map_err(Unanswered::NoDestination)?;
            let address = workload.addresses.first().copied();
            let (Some(address), Some(port)) = (address, port) else {
                return Err(Unanswered::Malformed(format!("`{asked}` needs a port: `{name}:PORT`")));
            };
            return Ok(SocketAddr::new(address, port));
        }
        let service = find_service(snapshot, name, &source.namespace)?;
        let Some(address) = service.cluster_ips.first().copied() else {
            return Err(Unanswered::Malformed(format!(
                "`{name}` is headless: its name resolves to its pods, so ask about one of them as `namespace/pod:PORT`"
            )));
        };
        let port = port.map_or_else(|| only_port(asked, Some(service)), Ok)?;
        Ok(SocketAddr::new(address, port))
    }
}

/// The request, unless bytes are asked about.
fn asked(query: &Query<'_>) -> Result<Option<Parts>, Unanswered> {
    if query.find("tcp") == Some("true") { Ok(None) } else { parts(query).map(Some) }
}

fn parts(query: &Query<'_>) -> Result<Parts, Unanswered> {
    let wrong = |what: String| Unanswered::Malformed(what);
    let method = query.find("method").unwrap_or("GET");
    let method =
        Method::from_bytes(method.as_bytes()).map_err(|_| wrong(format!("`{method}` is no method")))?;
    let path = query.find("path").unwrap_or("/");
    if !path.starts_with('/') {
        return Err(wrong(format!("`{path}` is no path: it begins with /")));
    }
    let mut request = Request::builder().method(method).uri(path);
    let mut has_host = false;
    for line in query.all("header") {
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| wrong(format!("`{line}` is no header: write `name: value`")))?;
        let name: HeaderName =
            name.trim().parse().map_err(|_| wrong(format!("`{name}` is no name of a header")))?;
        let value: HeaderValue =
            value.trim().parse().map_err(|_| wrong(format!("`{value}` is no value of a header")))?;
        has_host |= name == header::HOST;
        request = request.header(name, value);
    }
    if !has_host {
        // As a client writes it that was given the destination as a name or an address.
        request = request.header(header::HOST, query.find("destination").unwrap_or_default());
    }
    let built = request.body(()).map_err(|error| wrong(format!("this is no request: {error}")))?;
    Ok(built.into_parts().0)
}

fn number(port: &str) -> Result<u16, Unanswered> {
    port.parse().map_err(|_| Unanswered::Malformed(format!("`{port}` is no port")))
}

fn only_port(asked: &str, service: Option<&Arc<Service>>) -> Result<u16, Unanswered> {
    let mut ports: Vec<u16> =
        service.map_or_else(Vec::new, |one| one.ports.iter().map(|port| port.port).collect());
    ports.sort_unstable();
    ports.dedup();
    match *ports {
        [only] => Ok(only),
        [] => Err(Unanswered::Malformed(format!("`{asked}` needs a port: `{asked}:PORT`"))),
        _ => Err(Unanswered::Malformed(format!("`{asked}` needs one of its ports: {ports:?}"))),
    }
}

fn find_pod(snapshot: &Snapshot, namespace: &str, name: &str) -> Result<Arc<Workload>, String> {
    let uncaptured = snapshot.uncaptured.iter().map(|(pod, _)| pod);
    let mut all = snapshot.workloads.values().chain(uncaptured);
    let found = all.find(|pod| *pod.namespace == *namespace && *pod.name == *name);
    let nobody =
        || format!("no pod `{namespace}/{name}`: `posthaste workloads` lists those that this agent knows");
    found.cloned().ok_or_else(nobody)
}

fn find_service<'a>(
    snapshot: &'a Snapshot,
    name: &str,
    namespace: &str,
) -> Result<&'a Arc<Service>, Unanswered> {
    let host = name.trim_end_matches('.');
    let meant = if host.contains('.') { host.to_owned() } else { format!("{host}.{namespace}") };
    let is_meant = |service: &&Arc<Service>| {
        let names = ServiceName {
            name: service.name.clone(),
            namespace: service.namespace.clone(),
            hostname: service.hostname.clone(),
        };
        names.is(&meant) || meant.strip_suffix(".svc").is_some_and(|short| names.is(short))
    };
    let nobody = || {
        Unanswered::NoDestination(format!(
            "no service `{meant}`: `posthaste services` lists those that this agent knows"
        ))
    };
    snapshot.services.iter().find(is_meant).ok_or_else(nobody)
}
