//! To which pods and ports a policy applies. Pure.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::{Places, Reader, Scope};
use crate::snapshot::{
    Problem,
    build::slices,
    input::{
        Service,
        authorization::{AuthorizationPolicy, KIND, Part},
        policy::TargetRef,
    },
};

/// Where a policy is meant to be, and where it may be meant to be as far as that can be read.
pub(super) struct Target {
    read: Option<Scope>,
    unread: Option<Scope>,
}

impl Target {
    /// Where it is meant to be.
    pub(super) fn read(&self) -> impl Iterator<Item = Scope> {
        self.read.clone().into_iter()
    }

    /// Where it may be meant to be.
    pub(super) fn unread(&self) -> impl Iterator<Item = Scope> {
        self.unread.clone().into_iter()
    }

    /// Both.
    pub(super) fn all(&self) -> impl Iterator<Item = Scope> {
        self.read().chain(self.unread())
    }
}

/// What a reference leads to.
enum Led {
    Namespace,
    Places(Places),
}

/// What is wrong with a reference.
struct Fault {
    /// The field below it.
    below: &'static str,
    reason: String,
    /// Where it may lead all the same.
    unread: Option<Led>,
}

impl Fault {
    fn new(below: &'static str, reason: String) -> Self {
        Self { below, reason, unread: None }
    }
}

fn namespace() -> Scope {
    Scope::Labels(BTreeMap::new())
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

fn add(places: &mut Places, more: Places) {
    more.into_iter().for_each(|(address, ports)| places.entry(address).or_default().extend(ports));
}

impl Reader<'_> {
    pub(super) fn target(&mut self, policy: &AuthorizationPolicy) -> Target {
        let AuthorizationPolicy { metadata, spec, .. } = policy;
        if policy.lacks(&Part::Target) {
            return Target { read: None, unread: Some(namespace()) };
        }
        if spec.target_refs.is_some() && spec.selector.is_some() {
            let reason = "cannot stand beside `targetRefs`, which is in force; leave one of them out";
            self.problems.push(Problem::of(metadata, KIND, "spec.selector", reason));
        }
        let read = match (&spec.target_refs, &spec.selector) {
            (Some(references), _) => return self.references(policy, references),
            (None, Some(selector)) => Scope::Labels(selector.match_labels.clone()),
            (None, None) => namespace(),
        };
        Target { read: Some(read), unread: None }
    }

    fn references(&mut self, policy: &AuthorizationPolicy, references: &[TargetRef]) -> Target {
        let (mut read, mut unread) = (Some(Places::new()), Some(Places::new()));
        let enter = |to: &mut Option<Places>, led: Led| match (led, to) {
            (Led::Places(more), Some(places)) => add(places, more),
            (Led::Namespace, to) => *to = None,
            (Led::Places(_), None) => {}
        };
        for (index, reference) in references.iter().enumerate() {
            match self.reference(policy, reference) {
                Ok(led) => enter(&mut read, led),
                Err(Fault { below, reason, unread: led }) => {
                    let field = format!("spec.targetRefs[{index}]{below}");
                    self.problems.push(Problem::of(&policy.metadata, KIND, field, reason));
                    led.into_iter().for_each(|led| enter(&mut unread, led));
                }
            }
        }
        // None is all of the namespace.
        let scope = |places: Option<Places>| places.map_or_else(namespace, Scope::Places);
        let unread = Some(unread).filter(|places| places.as_ref().is_none_or(|places| !places.is_empty()));
        Target { read: Some(scope(read)), unread: unread.map(scope) }
    }

    fn reference(&self, policy: &AuthorizationPolicy, reference: &TargetRef) -> Result<Led, Fault> {
        let own = &policy.metadata.namespace;
        let anywhere = |below, reason: String| Fault {
            unread: Some(Led::Namespace),
            ..Fault::new(
                below,
                format!(
                    "{reason}; until mended the policy concerns its whole namespace, where an ALLOW lets nobody in"
                ),
            )
        };
        if !reference.group.is_empty() {
            let reason = format!("`{}` is not the core group; leave it out", shown(&reference.group));
            return Err(anywhere(".group", reason));
        }
        match reference.kind.as_str() {
            "Namespace" if *reference.name == **own => Ok(Led::Namespace),
            "Namespace" => {
                let name = shown(&reference.name);
                let reason = format!(
                    "`{name}` is not the policy's own namespace; name `{own}`, or move the policy there"
                );
                Err(Fault::new(".name", reason))
            }
            "Service" => self.places(own, reference).map(Led::Places),
            other => {
                Err(anywhere(".kind", format!("`{}` is neither `Service` nor `Namespace`", shown(other))))
            }
        }
    }

    fn places(&self, namespace: &Arc<str>, reference: &TargetRef) -> Result<Places, Fault> {
        let Some(service) = self.services.get(&(&**namespace, reference.name.as_str())) else {
            let name = shown(&reference.name);
            let reason = format!(
                "there is no Service {name} in namespace {namespace}; mend the name or make the Service"
            );
            return Err(Fault::new(".name", reason));
        };
        let section = reference.section_name.as_deref();
        if let Some(section) = section
            && !service.ports.iter().any(|port| *port.name == *section)
        {
            let names: Vec<&str> = service.ports.iter().map(|port| &*port.name).collect();
            let reason = format!(
                "the Service has no port of that name; it has: {}; until mended the policy concerns all of them, and an ALLOW lets nobody in",
                names.join(", ")
            );
            let unread = Some(Led::Places(self.behind(service, None)));
            return Err(Fault { unread, ..Fault::new(".sectionName", reason) });
        }
        Ok(self.behind(service, section))
    }

    /// Addresses and ports behind a Service, or behind one of its ports.
    fn behind(&self, service: &Service, section: Option<&str>) -> Places {
        let mut places = Places::new();
        for slice in slices::of(self.slices, service) {
            let ports = slice.ports.iter().filter(|port| section.is_none_or(|section| port.name == section));
            let ports: Vec<u16> = ports.filter_map(|port| u16::try_from(port.port?).ok()).collect();
            let addresses =
                slice.endpoints.iter().filter_map(|endpoint| endpoint.addresses().next()?.parse().ok());
            for address in addresses {
                places.entry(IpAddr::to_canonical(&address)).or_default().extend(&ports);
            }
        }
        places
    }
}
