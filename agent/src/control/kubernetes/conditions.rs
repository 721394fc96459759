//! What became of a policy, as `status.ancestors` of GEP-713: one entry for each target, with the condition `Accepted`. Pure: the
//! time is an argument.

use serde_json::{Map, Value, json};

use crate::{
    control::document::Kind,
    snapshot::{
        Problem,
        input::{
            Inputs, Metadata,
            policy::{KIND, TargetRef},
        },
    },
};

/// Who says so.
pub(super) const CONTROLLER: &str = "posthaste.dev/mesh";
/// More targets than the status has room for are refused by the schema.
const MOST: usize = 16;

/// A policy as it is judged.
pub(super) struct Policy<'input> {
    pub(super) kind: Kind,
    pub(super) metadata: &'input Metadata,
    /// Never none: a policy that names nothing is for its namespace, and so is one for pods with some labels.
    targets: Vec<TargetRef>,
}

/// The policies of ours, whatever kind.
pub(super) fn policies(inputs: &Inputs) -> impl Iterator<Item = Policy<'_>> {
    let traffic = inputs.traffic_policies.iter().filter(|policy| policy.kind == KIND).map(|policy| Policy {
        kind: Kind::TrafficPolicy,
        metadata: &policy.metadata,
        targets: policy.spec.target_refs.clone(),
    });
    let authorization = inputs.authorization_policies.iter().map(|policy| Policy {
        kind: Kind::AuthorizationPolicy,
        metadata: &policy.metadata,
        targets: policy.spec.target_refs.clone().unwrap_or_else(|| vec![namespace(&policy.metadata)]),
    });
    traffic.chain(authorization)
}

fn namespace(metadata: &Metadata) -> TargetRef {
    TargetRef {
        group: String::new(),
        kind: "Namespace".to_owned(),
        name: metadata.namespace.to_string(),
        section_name: None,
    }
}

/// The status with our entries as they are to be now; those of other controllers stay. `problems` are of all objects, `now` is a time
/// in RFC 3339. None where nothing is to be written.
pub(super) fn status(policy: &Policy<'_>, object: &Value, problems: &[Problem], now: &str) -> Option<Value> {
    let generation = object.pointer("/metadata/generation").cloned().unwrap_or_default();
    let before = object.pointer("/status/ancestors").and_then(Value::as_array);
    let is_ours = |entry: &&Value| entry.get("controllerName").is_some_and(|name| name == CONTROLLER);
    let others = before.into_iter().flatten().filter(|entry| !is_ours(entry)).cloned();
    let own: Vec<&Value> = before.into_iter().flatten().filter(is_ours).collect();
    let name = policy.metadata.object(policy.kind.as_str());
    let problems: Vec<&Problem> = problems.iter().filter(|problem| problem.object == name).collect();
    let entries = policy.targets.iter().enumerate().map(|(index, target)| {
        let mut reference = Map::new();
        for (field, text) in [("group", &target.group), ("kind", &target.kind), ("name", &target.name)] {
            reference.insert(field.to_owned(), json!(text));
        }
        reference.insert("namespace".to_owned(), json!(&*policy.metadata.namespace));
        if let Some(section) = &target.section_name {
            reference.insert("sectionName".to_owned(), json!(section));
        }
        let reference = Value::Object(reference);
        let last = own.iter().find(|entry| entry.get("ancestorRef") == Some(&reference));
        let verdict = verdict(index, &problems);
        let since = since(last, verdict.status()).unwrap_or_else(|| json!(now));
        json!({
            "ancestorRef": reference, "controllerName": CONTROLLER,
            "conditions": [{
                "type": "Accepted", "status": verdict.status(), "reason": verdict.reason, "message": verdict.message,
                "observedGeneration": generation, "lastTransitionTime": since,
            }],
        })
    });
    let after: Vec<Value> = others.chain(entries).take(MOST).collect();
    (before != Some(&after)).then(|| json!({"ancestors": after}))
}

struct Verdict {
    reason: &'static str,
    message: String,
}

impl Verdict {
    fn status(&self) -> &'static str {
        if self.reason == "Accepted" { "True" } else { "False" }
    }
}

/// A target's own problem decides; a field with a bad value has its default, and the policy is in force otherwise.
fn verdict(index: usize, problems: &[&Problem]) -> Verdict {
    let target = format!("spec.targetRefs[{index}]");
    let own = problems.iter().find(|problem| {
        problem.field.strip_prefix(&target).is_some_and(|below| below.is_empty() || below.starts_with('.'))
    });
    if let Some(problem) = own {
        let reason = match () {
            () if problem.reason.starts_with("Conflicted") => "Conflicted",
            () if problem.field.ends_with(".name") || problem.field.ends_with(".sectionName") => {
                "TargetNotFound"
            }
            () => "Invalid",
        };
        return Verdict { reason, message: format!("{}: {}", problem.field, problem.reason) };
    }
    let fields = problems.iter().filter(|problem| !problem.field.starts_with("spec.targetRefs"));
    let fields: Vec<String> =
        fields.map(|problem| format!("{}: {}", problem.field, problem.reason)).collect();
    let message = match fields.is_empty() {
        true => "the policy is in force".to_owned(),
        false => format!("the policy is in force, but for: {}", fields.join("; ")),
    };
    Verdict { reason: "Accepted", message }
}

/// Since when the condition has this status; none where it had another.
fn since(last: Option<&&Value>, status: &str) -> Option<Value> {
    let conditions = last?.get("conditions")?.as_array()?;
    let accepted =
        conditions.iter().find(|condition| condition.get("type").is_some_and(|kind| kind == "Accepted"))?;
    accepted.get("status").filter(|last| **last == status).and(accepted.get("lastTransitionTime")).cloned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::{
        control::document::{self, Format, Item, Object},
        snapshot::{build, input::Inputs},
    };

    const OBJECTS: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}
---
apiVersion: posthaste.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: first, namespace: shop, creationTimestamp: "2026-01-01T00:00:00Z"}
spec: {targetRefs: [{kind: Service, name: web}, {kind: Service, name: nobody}], retry: {attempts: 99}}
---
apiVersion: posthaste.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: second, namespace: shop, creationTimestamp: "2026-01-02T00:00:00Z"}
spec: {targetRefs: [{kind: Service, name: web}]}
---
apiVersion: posthaste.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: callers, namespace: shop}
spec: {rules: [{from: [{source: {ipBlocks: [10.0.0.0/99]}}]}]}
---
apiVersion: posthaste.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: lost, namespace: shop}
spec: {targetRefs: [{kind: Service, name: nobody}]}
"#;

    fn inputs() -> Inputs {
        let mut inputs = Inputs::default();
        for item in document::parse("t", OBJECTS, Format::Yaml) {
            let Item::Good(_, object) = item else { panic!("{item:?}") };
            let object: Object = object;
            object.add_to(&mut inputs);
        }
        inputs
    }

    /// `status reason` of each entry.
    fn shown(status: &Value) -> Vec<String> {
        let entries = status["ancestors"].as_array().unwrap().iter();
        let of = |entry: &Value| {
            let condition = &entry["conditions"][0];
            format!("{} {}", condition["status"].as_str().unwrap(), condition["reason"].as_str().unwrap())
        };
        entries.map(of).collect()
    }

    #[test]
    fn each_target_has_its_verdict() {
        let inputs = inputs();
        let problems = build::policy_problems(&inputs);
        let object = json!({"metadata": {"generation": 3}});
        let all: Vec<Policy<'_>> = policies(&inputs).collect();
        let of = |index: usize| status(&all[index], &object, &problems, "T1").unwrap();
        let first = of(0);
        assert_eq!(shown(&first), ["True Accepted", "False TargetNotFound"]);
        assert!(first.to_string().contains("but for: spec.retry.attempts"), "{first}");
        assert_eq!(first["ancestors"][0]["conditions"][0]["observedGeneration"], 3);
        assert_eq!(shown(&of(1)), ["False Conflicted"]);
        let callers = of(2);
        assert_eq!(shown(&callers), ["True Accepted"]);
        assert_eq!(callers["ancestors"][0]["ancestorRef"]["kind"], "Namespace");
        assert!(
            callers.to_string().contains("but for: spec.rules[0].from[0].source.ipBlocks[0]"),
            "{callers}"
        );
        assert_eq!(shown(&of(3)), ["False TargetNotFound"]);
    }

    #[test]
    fn what_is_so_already_is_not_written_and_others_entries_stay() {
        let inputs = inputs();
        let problems = build::policy_problems(&inputs);
        let policy = &policies(&inputs).nth(1).unwrap();
        let other =
            json!({"ancestorRef": {"name": "x"}, "controllerName": "example.com/other", "conditions": []});
        let mut object = json!({"metadata": {"generation": 1}, "status": {"ancestors": [other]}});
        object["status"] = status(policy, &object, &problems, "T1").unwrap();
        assert_eq!(object["status"]["ancestors"].as_array().unwrap().len(), 2);
        assert_eq!(status(policy, &object, &problems, "T2"), None);
        // The time is that of the change.
        let mended = status(policy, &object, &[], "T3").unwrap();
        let condition = &mended["ancestors"][1]["conditions"][0];
        assert_eq!((&condition["status"], &condition["lastTransitionTime"]), (&json!("True"), &json!("T3")));
        object["status"] = mended;
        object["metadata"]["generation"] = json!(2);
        let again = status(policy, &object, &[], "T4").unwrap();
        assert_eq!(again["ancestors"][1]["conditions"][0]["lastTransitionTime"], "T3");
    }
}
