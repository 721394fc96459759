//! AuthorizationPolicies to what applies to each pod of this node. Pure.
//!
//! A policy concerns the pods of its own namespace: all of them, those with some labels, or those behind a Service, on the ports that
//! the Service leads to. A value that cannot be read is a problem, and its rule then never lets in (`ALLOW`) and always keeps out
//! (`DENY`); so does a target that does not exist, which selects nothing, for `ALLOW` and `DENY` alike.

mod compile;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::slices::Slices;
use crate::snapshot::{
    LocalPod, Problem, Protocol, Service,
    authorization::{Authorization, Effect, Policy, Rule},
    input::{
        self,
        authorization::{Action, AuthorizationPolicy, KIND},
        policy::TargetRef,
    },
};

/// Ports of pods by their address.
type Places = BTreeMap<IpAddr, BTreeSet<u16>>;

/// The policies of one namespace each.
#[derive(Default)]
pub(super) struct Authorizations {
    by_namespace: HashMap<Arc<str>, Vec<Scoped>>,
}

/// A policy and the pods that it concerns.
struct Scoped {
    scope: Scope,
    effect: Effect,
    dry_run: bool,
    name: Arc<str>,
    rules: Arc<Vec<Rule>>,
}

enum Scope {
    /// All pods of the namespace with these labels.
    Labels(BTreeMap<String, String>),
    /// Behind Services.
    Places(Places),
}

pub(super) fn read(
    policies: &[Arc<AuthorizationPolicy>],
    slices: &Slices<'_>,
    services: &[Arc<input::Service>],
    problems: &mut Vec<Problem>,
) -> Authorizations {
    let known = services.iter().map(|service| (key(service), &**service)).collect();
    let mut reader = Reader { known, slices, problems };
    let mut all = Authorizations::default();
    for policy in policies {
        let scoped = reader.policy(policy);
        all.by_namespace.entry(policy.metadata.namespace.clone()).or_default().push(scoped);
    }
    // One order, whatever the source's, so that what did not change is equal.
    all.by_namespace.values_mut().for_each(|of| of.sort_by(|a, b| a.name.cmp(&b.name)));
    all
}

type ServiceKey<'input> = (&'input str, &'input str);

fn key(service: &input::Service) -> ServiceKey<'_> {
    (&service.metadata.namespace, &service.metadata.name)
}

struct Reader<'input> {
    known: HashMap<ServiceKey<'input>, &'input input::Service>,
    slices: &'input Slices<'input>,
    problems: &'input mut Vec<Problem>,
}

impl Reader<'_> {
    fn policy(&mut self, policy: &AuthorizationPolicy) -> Scoped {
        let AuthorizationPolicy { metadata, spec } = policy;
        let rules = compile::rules(policy, self.problems);
        let effect = match spec.action.unwrap_or_default() {
            Action::Allow => Effect::Allow,
            Action::Deny => Effect::Deny,
        };
        if spec.target_refs.is_some() && spec.selector.is_some() {
            let reason = "cannot stand beside `targetRefs`, which is in force; leave one of them out";
            self.problems.push(Problem::of(metadata, KIND, "spec.selector", reason));
        }
        let scope = match (&spec.target_refs, &spec.selector) {
            (Some(references), _) => self.targets(policy, references),
            (None, Some(selector)) => Scope::Labels(selector.match_labels.clone()),
            (None, None) => Scope::Labels(BTreeMap::new()),
        };
        let name = format!("{}/{}", metadata.namespace, metadata.name).into();
        Scoped { scope, effect, dry_run: spec.dry_run.unwrap_or_default(), name, rules: Arc::new(rules) }
    }

    fn targets(&mut self, policy: &AuthorizationPolicy, references: &[TargetRef]) -> Scope {
        let mut places = Places::new();
        for (index, reference) in references.iter().enumerate() {
            let field = format!("spec.targetRefs[{index}]");
            match self.target(policy, reference) {
                Ok(None) => return Scope::Labels(BTreeMap::new()),
                Ok(Some(of)) => of.into_iter().for_each(|(address, ports)| {
                    places.entry(address).or_default().extend(ports);
                }),
                Err((below, reason)) => {
                    self.problems.push(Problem::of(
                        &policy.metadata,
                        KIND,
                        format!("{field}{below}"),
                        reason,
                    ));
                }
            }
        }
        Scope::Places(places)
    }

    /// The places behind a Service; none is the whole namespace. Else the field below the reference and what is wrong.
    fn target(
        &self,
        policy: &AuthorizationPolicy,
        reference: &TargetRef,
    ) -> Result<Option<Places>, (&'static str, String)> {
        let namespace = &policy.metadata.namespace;
        let shown = |text: &str| -> String { text.chars().take(80).collect() };
        if !reference.group.is_empty() {
            return Err((
                ".group",
                format!("`{}` is not the core group; leave it out", shown(&reference.group)),
            ));
        }
        match reference.kind.as_str() {
            "Namespace" if *reference.name == **namespace => Ok(None),
            "Namespace" => {
                let name = shown(&reference.name);
                Err((
                    ".name",
                    format!(
                        "`{name}` is not the policy's own namespace; name `{namespace}`, or move the policy there"
                    ),
                ))
            }
            "Service" => self.places(namespace, reference).map(Some),
            other => Err((".kind", format!("`{}` is neither `Service` nor `Namespace`", shown(other)))),
        }
    }

    fn places(&self, namespace: &Arc<str>, reference: &TargetRef) -> Result<Places, (&'static str, String)> {
        let Some(service) = self.known.get(&(&**namespace, reference.name.as_str())) else {
            let name: String = reference.name.chars().take(80).collect();
            let reason = format!(
                "there is no Service {name} in namespace {namespace}; mend the name or make the Service"
            );
            return Err((".name", reason));
        };
        let section = reference.section_name.as_deref();
        if let Some(section) = section
            && !service.ports.iter().any(|port| *port.name == *section)
        {
            let names: Vec<&str> = service.ports.iter().map(|port| &*port.name).collect();
            return Err((
                ".sectionName",
                format!("the Service has no port of that name; it has: {}", names.join(", ")),
            ));
        }
        let mut places = Places::new();
        for slice in self.slices.get(&key(service)).into_iter().flatten() {
            let ports = slice.ports.iter().filter(|port| section.is_none_or(|section| port.name == section));
            let ports: Vec<u16> = ports.filter_map(|port| u16::try_from(port.port?).ok()).collect();
            let addresses =
                slice.endpoints.iter().filter_map(|endpoint| endpoint.addresses.first()?.parse().ok());
            for address in addresses {
                places.entry(IpAddr::to_canonical(&address)).or_default().extend(&ports);
            }
        }
        Ok(places)
    }
}

impl Authorizations {
    /// What applies to a pod.
    pub(super) fn of(&self, pod: &input::Pod, addresses: &[IpAddr], default_deny: bool) -> Authorization {
        let mut all = Authorization { default_deny, ..Authorization::default() };
        for scoped in self.by_namespace.get(&pod.metadata.namespace).into_iter().flatten() {
            let Some(ports) = scoped.scope.ports(pod, addresses) else { continue };
            // The rules are shared by all pods; what differs is where they apply.
            let policy = Policy { name: scoped.name.clone(), ports, rules: Arc::clone(&scoped.rules) }.into();
            match (scoped.dry_run, scoped.effect) {
                (true, effect) => all.dry_run.push((effect, policy)),
                (false, Effect::Allow) => all.allow.push(policy),
                (false, Effect::Deny) => all.deny.push(policy),
            }
        }
        all
    }

    /// Says which conditions of HTTP are for ports that are declared not to be HTTP: nothing can be read there.
    pub(super) fn check(
        &self,
        policies: &[Arc<AuthorizationPolicy>],
        services: &[Arc<Service>],
        problems: &mut Vec<Problem>,
    ) {
        for policy in policies {
            let name = format!("{}/{}", policy.metadata.namespace, policy.metadata.name);
            let of = self.by_namespace.get(&policy.metadata.namespace).into_iter().flatten();
            let Some(scoped) = of.into_iter().find(|scoped| *scoped.name == *name) else { continue };
            for service in services.iter().filter(|service| service.namespace == policy.metadata.namespace) {
                scoped.check(policy, service, problems);
            }
        }
    }
}

/// Ports of pods that are declared as something else than HTTP, by one Service at least and as HTTP by none, where a policy has
/// conditions of HTTP.
pub(super) fn not_http(
    local: &HashMap<Arc<str>, Arc<LocalPod>>,
    services: &[Arc<Service>],
) -> HashSet<SocketAddr> {
    let asking = local.values().filter(|pod| pod.authorization.reads_http());
    let asking: HashMap<IpAddr, &LocalPod> =
        asking.flat_map(|pod| pod.workload.addresses.iter().map(|address| (*address, &**pod))).collect();
    let (mut declared, mut http) = (HashSet::new(), HashSet::new());
    if asking.is_empty() {
        return declared;
    }
    for port in services.iter().flat_map(|service| &service.ports) {
        let targets = port.endpoints.iter().map(|endpoint| endpoint.address);
        let targets = targets.filter(|address| asking.contains_key(&address.ip()));
        match port.protocol {
            Protocol::Tcp | Protocol::Tls => declared.extend(targets),
            Protocol::Http | Protocol::Http2 | Protocol::Grpc => http.extend(targets),
            Protocol::Detect => {}
        }
    }
    declared.retain(|address| !http.contains(address));
    declared
}

impl Scoped {
    fn check(&self, policy: &AuthorizationPolicy, service: &Service, problems: &mut Vec<Problem>) {
        for port in service.ports.iter().filter(|port| matches!(port.protocol, Protocol::Tcp | Protocol::Tls))
        {
            let targets: BTreeSet<u16> = port
                .endpoints
                .iter()
                .filter(|endpoint| self.scope.may_concern(endpoint.address.ip(), endpoint.address.port()))
                .map(|endpoint| endpoint.address.port())
                .collect();
            for target in targets {
                let Some(place) = self.rules.iter().position(|rule| rule.asks_http_of(target)) else {
                    continue;
                };
                let effect = match self.effect {
                    Effect::Allow => "it allows nothing there",
                    Effect::Deny => "it denies everything there",
                };
                let reason = format!(
                    "has conditions of HTTP, but port {target} is declared as {} (Service {}, port {}): {effect}; name other ports, \
                     or declare the port as HTTP",
                    port.protocol.as_str(),
                    service.name,
                    port.port
                );
                problems.push(Problem::of(&policy.metadata, KIND, format!("spec.rules[{place}]"), reason));
            }
        }
    }
}

impl Scope {
    /// The ports of the pod to which it applies (none: all); absent where the pod is not meant.
    fn ports(&self, pod: &input::Pod, addresses: &[IpAddr]) -> Option<Option<Vec<u16>>> {
        match self {
            Self::Labels(wanted) => {
                let has = |(name, value): (&String, &String)| pod.metadata.labels.get(name) == Some(value);
                wanted.iter().all(has).then_some(None)
            }
            Self::Places(places) => {
                let found: BTreeSet<u16> =
                    addresses.iter().filter_map(|address| places.get(address)).flatten().copied().collect();
                (!found.is_empty()).then(|| Some(found.into_iter().collect()))
            }
        }
    }

    fn may_concern(&self, address: IpAddr, port: u16) -> bool {
        match self {
            Self::Labels(_) => true,
            Self::Places(places) => places.get(&address).is_some_and(|ports| ports.contains(&port)),
        }
    }
}

#[cfg(test)]
mod tests;
