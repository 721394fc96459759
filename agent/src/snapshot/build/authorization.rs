//! AuthorizationPolicies to what applies to each pod of this node. Pure.
//!
//! A policy concerns the pods of its own namespace: all of them, those with some labels, or those behind a Service, on the ports that
//! the Service leads to. A target that does not exist selects nothing. What cannot be read is a problem, and keeps out meanwhile:
//!
//! | what cannot be read | is in force as |
//! |---|---|
//! | a condition, or a value of one | never met in an `ALLOW`, always met in a `DENY` |
//! | the target | the whole namespace (or all of a Service, where only its port cannot be found); there an `ALLOW` allows nothing |
//! | `action` | both: what the rules match is denied, and all that no other policy allows |
//! | `dryRun` | enforced; an `ALLOW` allows nothing |

mod compile;
mod target;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::{by_name::ByName, slices::Slices};
use crate::snapshot::{
    LocalPod, Problem, Protocol, Service, ServicePort,
    authorization::{Authorization, Effect, Policy, Rule},
    input::{
        self,
        authorization::{Action, AuthorizationPolicy, Fault, KIND, Part},
    },
    policy::Limits,
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

#[derive(Clone)]
enum Scope {
    /// All pods of the namespace with these labels.
    Labels(BTreeMap<String, String>),
    /// Behind Services.
    Places(Places),
}

pub(super) fn read(
    policies: &[Arc<AuthorizationPolicy>],
    slices: &Slices<'_>,
    services: &ByName<'_>,
    problems: &mut Vec<Problem>,
) -> Authorizations {
    let mut reader = Reader { services, slices, problems };
    let mut all = Authorizations::default();
    for policy in policies {
        let scoped = reader.policy(policy);
        all.by_namespace.entry(policy.metadata.namespace.clone()).or_default().extend(scoped);
    }
    // One order, whatever the source's, so that what did not change is equal.
    all.by_namespace.values_mut().for_each(|of| of.sort_by(|a, b| a.name.cmp(&b.name)));
    all
}

struct Reader<'input> {
    services: &'input ByName<'input>,
    slices: &'input Slices<'input>,
    problems: &'input mut Vec<Problem>,
}

impl Reader<'_> {
    /// What it amounts to: its rules where it is meant to be, and what keeps out where that cannot be read.
    fn policy(&mut self, policy: &AuthorizationPolicy) -> Vec<Scoped> {
        let AuthorizationPolicy { metadata, spec, unread } = policy;
        let rules = Arc::new(compile::rules(policy, self.problems));
        for fault in unread.iter().flat_map(|unread| &unread.faults) {
            let reason = format!("{}; {}", fault.reason, meanwhile(policy, fault));
            self.problems.push(Problem::of(metadata, KIND, &*fault.field, reason));
        }
        let name: Arc<str> = format!("{}/{}", metadata.namespace, metadata.name).into();
        let dry_run = spec.dry_run.unwrap_or_default();
        let scoped = |scope, effect, rules: &Arc<Vec<Rule>>| Scoped {
            scope,
            effect,
            dry_run,
            name: Arc::clone(&name),
            rules: Arc::clone(rules),
        };
        let (target, nothing) = (self.target(policy), Arc::new(Vec::new()));
        let mut all = Vec::new();
        let action = (!policy.lacks(&Part::Action)).then(|| spec.action.unwrap_or_default());
        if action != Some(Action::Allow) {
            all.extend(target.all().map(|scope| scoped(scope, Effect::Deny, &rules)));
        }
        if action != Some(Action::Deny) {
            // Nobody is let in who might not be meant.
            let certain = action.is_some() && !policy.lacks(&Part::Trial);
            let allowed = if certain { &rules } else { &nothing };
            all.extend(target.read().map(|scope| scoped(scope, Effect::Allow, allowed)));
            all.extend(target.unread().map(|scope| scoped(scope, Effect::Allow, &nothing)));
        }
        all
    }
}

/// What is in force of a policy as long as a field cannot be read.
fn meanwhile(policy: &AuthorizationPolicy, fault: &Fault) -> String {
    let unknown = policy.lacks(&Part::Action);
    let denies = unknown || policy.spec.action == Some(Action::Deny);
    let says = |part: &Part| match part {
        Part::Target if denies => "it concerns its whole namespace",
        Part::Target => "it concerns its whole namespace, and allows nothing there",
        Part::Action => "what its rules match is denied, and all that no other policy allows",
        Part::Trial if denies => "it is enforced",
        Part::Trial => "it is enforced, and allows nothing",
        Part::Rule(_) | Part::Member(_) if denies => "this part matches, and so denies",
        Part::Rule(_) | Part::Member(_) => "this part allows nothing",
    };
    let said: Vec<&str> = fault.parts.iter().map(says).collect();
    match &*said {
        [] => "it is in force without this field".to_owned(),
        said => format!("until mended {}", said.join(", and ")),
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

/// Ports of pods whose policies have conditions of HTTP, so that requests are read there, by the Services that lead to them.
pub(super) fn read_at_pods<'service>(
    local: &HashMap<Arc<str>, Arc<LocalPod>>,
    services: &'service [Arc<Service>],
) -> Vec<(&'service ServicePort, SocketAddr)> {
    let asking = asking(local);
    if asking.is_empty() {
        return Vec::new();
    }
    let ports = services.iter().flat_map(|service| &service.ports);
    let targets =
        ports.flat_map(|port| port.endpoints.iter().map(move |endpoint| (&**port, endpoint.address)));
    targets.filter(|(_, address)| asking.contains(&address.ip())).collect()
}

/// Ports of pods that are declared as something else than HTTP, by one Service at least and as HTTP by none, of [`read_at_pods`].
pub(super) fn not_http(read: &[(&ServicePort, SocketAddr)]) -> HashSet<SocketAddr> {
    let (mut declared, mut http) = (HashSet::new(), HashSet::new());
    for (port, address) in read {
        match port.protocol {
            Protocol::Tcp | Protocol::Tls => _ = declared.insert(*address),
            Protocol::Http | Protocol::Http2 | Protocol::Grpc => _ = http.insert(*address),
            Protocol::Detect => {}
        }
    }
    declared.retain(|address| !http.contains(address));
    declared
}

/// How long the head of a request may take at them, nanoseconds, where that is not the default. Which Service was called is not seen
/// there: the most patient one counts, since its callers' agents have waited as long.
pub(super) fn head_times(read: &[(&ServicePort, SocketAddr)]) -> HashMap<SocketAddr, u64> {
    let mut times = HashMap::new();
    for (port, address) in read {
        let time = port.policy.limits.request_headers_ns;
        let longest = times.entry(*address).or_insert(time);
        let endless = time == 0 || *longest == 0;
        *longest = if endless { 0 } else { time.max(*longest) };
    }
    times.retain(|_, time| *time != Limits::default().request_headers_ns);
    times
}

/// Addresses of the pods whose policies have conditions of HTTP.
fn asking(local: &HashMap<Arc<str>, Arc<LocalPod>>) -> HashSet<IpAddr> {
    let asking = local.values().filter(|pod| pod.authorization.reads_http());
    asking.flat_map(|pod| pod.workload.addresses.iter().copied()).collect()
}

/// Who looks at endpoints of Services: policies, and what is read at a pod.
pub(super) struct Dependents<'input> {
    /// Namespaces with policies, and whether one names a Service.
    namespaces: HashMap<&'input Arc<str>, bool>,
    asking: HashSet<IpAddr>,
}

impl<'input> Dependents<'input> {
    pub(super) fn of(
        policies: &'input [Arc<AuthorizationPolicy>],
        local: &HashMap<Arc<str>, Arc<LocalPod>>,
    ) -> Self {
        let mut namespaces: HashMap<_, bool> = HashMap::new();
        for policy in policies {
            *namespaces.entry(&policy.metadata.namespace).or_default() |= policy.spec.target_refs.is_some();
        }
        Self { namespaces, asking: asking(local) }
    }

    /// Whether something may be other than before where the endpoints of this Service are.
    pub(super) fn look_at(&self, service: &Service) -> bool {
        let declared = |port: &Arc<ServicePort>| matches!(port.protocol, Protocol::Tcp | Protocol::Tls);
        let by_policy = self.namespaces.get(&service.namespace);
        let mut endpoints = service.ports.iter().flat_map(|port| &port.endpoints);
        by_policy.is_some_and(|names_services| *names_services || service.ports.iter().any(declared))
            || endpoints.any(|endpoint| self.asking.contains(&endpoint.address.ip()))
    }
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
                let has = |(name, value): (&String, &String)| pod.metadata.labels.get(name) == Some(&**value);
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
