//! Policies to what is in force for each service port and each calling pod, as policy attachment of Gateway API says (GEP-713). Pure.
//!
//! A policy for a port goes before one for its Service, and that before one for the namespace; each field of `spec` comes as a
//! whole from the first that gives it, else it is the default. Two policies of a kind for the same target conflict: the older
//! one (by `creationTimestamp`, then by namespace and name) is in force there, the other is not.

mod compile;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::by_name::ByName;
use crate::snapshot::{
    Problem, ServicePort, TrafficPolicy,
    input::{self, policy::TargetRef},
    policy::BulkheadLimits,
};
use compile::Compiled;

/// What a policy may be attached to, the most specific first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Target {
    /// Namespace, Service, name of its port.
    Port(Arc<str>, Arc<str>, Arc<str>),
    /// Namespace and name.
    Service(Arc<str>, Arc<str>),
    /// Its name.
    Namespace(Arc<str>),
}

/// The policies in force, by target; more than one where they are of different kinds.
#[derive(Default)]
pub(super) struct Policies {
    attached: HashMap<Target, Vec<Arc<Compiled>>>,
    default: Arc<TrafficPolicy>,
}

pub(super) fn read(
    policies: &[Arc<input::policy::TrafficPolicy>],
    services: &ByName<'_>,
    problems: &mut Vec<Problem>,
) -> Policies {
    let mut oldest: Vec<&input::policy::TrafficPolicy> = policies.iter().map(|policy| &**policy).collect();
    // One without a time comes last, as with services.
    oldest.sort_by_key(|policy| {
        let metadata = &policy.metadata;
        (metadata.created.unwrap_or(i64::MAX), &metadata.namespace, &metadata.name, policy.kind)
    });
    let mut reader = Reader { services, problems, policies: Policies::default() };
    for policy in oldest {
        reader.policy(policy);
    }
    reader.policies
}

struct Reader<'input> {
    services: &'input ByName<'input>,
    problems: &'input mut Vec<Problem>,
    policies: Policies,
}

impl Reader<'_> {
    fn policy(&mut self, policy: &input::policy::TrafficPolicy) {
        let compiled = Arc::new(compile::compile(policy, self.problems));
        for (field, instead) in &policy.not_honoured {
            self.problem(policy, *field, *instead);
        }
        if policy.spec.target_refs.is_empty() {
            self.problem(policy, "spec.targetRefs", "is empty; name what the policy is for");
        }
        let mut seen = HashSet::new();
        for (index, reference) in policy.spec.target_refs.iter().enumerate() {
            let field = format!("spec.targetRefs[{index}]");
            match self.target(policy, reference) {
                Ok(target) if !seen.insert(target.clone()) => {}
                Ok(target) => self.attach(policy, &field, target, &compiled),
                Err((below, reason)) => self.problem(policy, format!("{field}{below}"), reason),
            }
        }
        let to_namespace = seen.iter().any(|target| matches!(target, Target::Namespace(_)));
        if compiled.bulkhead.is_some() && !to_namespace && !seen.is_empty() {
            let reason = "limits calling pods, and a Service has none; move it to a policy for the Namespace";
            self.problem(policy, "spec.bulkhead", reason);
        }
    }

    /// What is meant, or the field below the reference and what is wrong with it.
    fn target(
        &self,
        policy: &input::policy::TrafficPolicy,
        reference: &TargetRef,
    ) -> Result<Target, (&'static str, String)> {
        let namespace = &policy.metadata.namespace;
        let shown = |text: &str| -> String { text.chars().take(80).collect() };
        if !reference.group.is_empty() {
            let reason = format!("`{}` is not the core group; leave it out", shown(&reference.group));
            return Err((".group", reason));
        }
        match reference.kind.as_str() {
            "Service" => self.service(namespace, reference),
            "Namespace" if policy.kind != input::policy::KIND => {
                Err((".kind", "`Namespace` cannot be named here; use `Service`, or a TrafficPolicy".into()))
            }
            "Namespace" if reference.section_name.is_some() => {
                Err((".sectionName", "is for a Service: the name of its port; leave it out".into()))
            }
            "Namespace" if *reference.name == **namespace => Ok(Target::Namespace(namespace.clone())),
            "Namespace" => {
                let reason = format!(
                    "`{}` is not the policy's own namespace; name `{namespace}`, or move the policy there",
                    shown(&reference.name)
                );
                Err((".name", reason))
            }
            other => Err((".kind", format!("`{}` is neither `Service` nor `Namespace`", shown(other)))),
        }
    }

    fn service(&self, namespace: &Arc<str>, reference: &TargetRef) -> Result<Target, (&'static str, String)> {
        let Some(service) = self.services.get(&(&**namespace, reference.name.as_str())) else {
            let reason = format!(
                "there is no Service {} in namespace {namespace}; mend the name or make the Service",
                reference.name.chars().take(80).collect::<String>()
            );
            return Err((".name", reason));
        };
        let name = service.metadata.name.clone();
        let Some(section) = &reference.section_name else {
            return Ok(Target::Service(namespace.clone(), name));
        };
        match service.ports.iter().find(|port| !port.name.is_empty() && *port.name == **section) {
            Some(port) => Ok(Target::Port(namespace.clone(), name, port.name.clone())),
            None => {
                let names: Vec<&str> = service.ports.iter().map(|port| &*port.name).collect();
                let reason = format!("the Service has no port of that name; it has: {}", names.join(", "));
                Err((".sectionName", reason))
            }
        }
    }

    fn attach(
        &mut self,
        policy: &input::policy::TrafficPolicy,
        field: &str,
        target: Target,
        compiled: &Arc<Compiled>,
    ) {
        let there = self.policies.attached.entry(target).or_default();
        if let Some(older) = there.iter().find(|older| older.kind == compiled.kind) {
            let reason = conflicted(&older.origin, "for this target");
            return self.problem(policy, field, reason);
        }
        let older = there.iter().find(|older| older.budget.is_some() && compiled.budget.is_some());
        let reason = older.map(|older| conflicted(&older.origin, "with its own, for a target of both"));
        there.push(compiled.clone());
        if let Some(reason) = reason {
            self.problem(policy, "spec.retryConstraint", reason);
        }
    }

    fn problem(
        &mut self,
        policy: &input::policy::TrafficPolicy,
        field: impl Into<String>,
        reason: impl Into<String>,
    ) {
        self.problems.push(Problem::of(&policy.metadata, policy.kind, field, reason));
    }
}

fn conflicted(older: &str, what: &str) -> String {
    format!("Conflicted: {older} is older and stays in force {what}; keep one of them")
}

impl Policies {
    /// For a port of a service; what did not change stays the same allocation.
    pub(super) fn of(
        &self,
        service: &input::Service,
        port_name: &Arc<str>,
        last: Option<&ServicePort>,
    ) -> Arc<TrafficPolicy> {
        let (namespace, name) = (&service.metadata.namespace, &service.metadata.name);
        let levels = [
            Target::Port(namespace.clone(), name.clone(), port_name.clone()),
            Target::Service(namespace.clone(), name.clone()),
            Target::Namespace(namespace.clone()),
        ];
        let chain: Vec<&Compiled> =
            levels.iter().filter_map(|level| self.attached.get(level)).flatten().map(|one| &**one).collect();
        if chain.is_empty() {
            let last = last.map(|last| &last.policy).filter(|last| last.origins.is_empty());
            return last.unwrap_or(&self.default).clone();
        }
        let merged = compile::merge(&chain);
        match last {
            Some(last) if *last.policy == merged => last.policy.clone(),
            _ => Arc::new(merged),
        }
    }

    /// Whether the policy of a port that was built before is what would be in force now.
    pub(super) fn is_same(&self, service: &input::Service, port: &Arc<ServicePort>) -> bool {
        if self.attached.is_empty() {
            return port.policy.origins.is_empty();
        }
        Arc::ptr_eq(&self.of(service, &port.name, Some(port)), &port.policy)
    }

    /// For the calling pods of a namespace.
    pub(super) fn bulkhead(&self, namespace: &Arc<str>) -> BulkheadLimits {
        let of_namespace = self.attached.get(&Target::Namespace(namespace.clone()));
        let given = of_namespace.into_iter().flatten().find_map(|policy| policy.bulkhead);
        given.unwrap_or_default()
    }
}
