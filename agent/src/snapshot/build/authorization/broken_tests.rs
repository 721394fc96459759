//! What is in force of policies that cannot be read whole: never more than was meant.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{WORLD, lets_in, world};
use crate::snapshot::{
    Snapshot, SpiffeId,
    authorization::{Facts, Request},
    build::tests::{fields, snapshot},
};

#[test]
fn what_is_in_force_of_what_cannot_be_read() {
    let (other_allows, none) = ("rules: [{}]", "");
    // The policy, another one, the field, and who is let in: cart:8080, cart:8081, other:8080.
    let table = [
        (
            "action: DENY, rules: [{from: [{source: {ipBlock: [10.9.0.0/16]}}]}]",
            none,
            "spec.rules[0].from[0].source.ipBlock",
            [false, false, false],
        ),
        (
            "action: DENY, rules: [{from: [{source: {ipBlocks: [10.9.0.0/16]}}], form: 1}]",
            none,
            "spec.rules[0].form",
            [true, true, true],
        ),
        (
            "action: DENY, rules: [{to: [{operation: {ports: ['8081']}}], when: 1}]",
            none,
            "spec.rules[0].when",
            [true, false, true],
        ),
        (
            "action: DENY, selector: {matchLabels: {app: cart}}, rules: [1]",
            none,
            "spec.rules[0]",
            [false, false, true],
        ),
        (
            "action: DENY, selector: {matchLabels: {app: cart}}, rule: [{}]",
            none,
            "spec.rule",
            [false, false, true],
        ),
        (
            "rules: [{}], selector: {matchLabels: {app: cart}}, when: 1",
            other_allows,
            "spec.when",
            [false, false, true],
        ),
        ("rules: [{from: x}]", none, "spec.rules[0].from", [false, false, false]),
        ("rules: [{from: x}]", other_allows, "spec.rules[0].from", [true, true, true]),
        (
            "rules: [{from: x}, {to: [{operation: {ports: ['8081']}}]}]",
            none,
            "spec.rules[0].from",
            [false, true, false],
        ),
        ("rules: [{}], selector: app", none, "spec.selector", [false, false, false]),
        (
            "rules: [{}], selector: app",
            "selector: {matchLabels: {app: other}}, rules: [{}]",
            "spec.selector",
            [false, false, true],
        ),
        (
            "action: DENY, rules: [{to: [{operation: {ports: ['8081']}}]}], selector: app",
            none,
            "spec.selector",
            [true, false, true],
        ),
        (
            "action: Deny, rules: [{to: [{operation: {ports: ['8081']}}]}]",
            other_allows,
            "spec.action",
            [true, false, true],
        ),
        (
            "action: Deny, rules: [{to: [{operation: {ports: ['8081']}}]}]",
            none,
            "spec.action",
            [false, false, false],
        ),
        (
            "dryRun: 'no', action: DENY, rules: [{to: [{operation: {ports: ['8081']}}]}]",
            none,
            "spec.dryRun",
            [true, false, true],
        ),
        ("dryRun: 'no', rules: [{}]", none, "spec.dryRun", [false, false, false]),
        ("dryRun: true, action: DENY, rules: [1]", none, "spec.rules[0]", [true, true, true]),
        (
            "action: DENY, rules: [{}], targetRefs: [{kind: Pod, name: cart}]",
            none,
            "spec.targetRefs[0].kind",
            [false, false, false],
        ),
        (
            "rules: [{}], targetRefs: [{kind: Service, name: cart}, {kind: Pod, name: x}]",
            none,
            "spec.targetRefs[1].kind",
            [true, true, false],
        ),
        (
            "action: DENY, rules: [{}], targetRefs: [{kind: Service, name: cart, sectionName: wbe}]",
            none,
            "spec.targetRefs[0].sectionName",
            [false, false, true],
        ),
        (
            "rules: [{}], targetRefs: [{kind: Service, name: cart, sectionName: wbe}]",
            none,
            "spec.targetRefs[0].sectionName",
            [false, false, true],
        ),
    ];
    for (spec, other, field, expected) in table {
        let others: &[&str] = if other.is_empty() { &[spec] } else { &[spec, other] };
        let (snapshot, problems) = world("", others);
        assert_eq!(fields(&problems), [field], "{spec}");
        let found = [("shop/cart", 8080), ("shop/cart", 8081), ("shop/other", 8080)]
            .map(|(pod, port)| lets_in(&snapshot, pod, port));
        assert_eq!(found, expected, "{spec} beside `{other}`: {}", problems[0]);
    }
}

#[test]
fn the_problem_says_what_is_in_force_meanwhile() {
    let table = [
        ("action: DENY, rules: [1]", "this part matches, and so denies"),
        ("rules: [1]", "this part allows nothing"),
        ("selector: 1", "it concerns its whole namespace, and allows nothing there"),
        ("action: DENY, selector: 1", "it concerns its whole namespace"),
        ("action: deny", "what its rules match is denied, and all that no other policy allows"),
    ];
    for (spec, words) in table {
        let (_, problems) = world("", &[spec]);
        assert_eq!(problems[0].object, "AuthorizationPolicy/shop/p0");
        assert!(problems[0].reason.ends_with(&format!("until mended {words}")), "{spec}: {}", problems[0]);
    }
}

/// A spec that is in order, drawn.
fn spec(draw: &mut fastrand::Rng) -> Value {
    let source = [
        json!({}),
        json!({"principals": ["cluster.local/ns/shop/sa/client"]}),
        json!({"notPrincipals": ["cluster.local/ns/shop/sa/client"]}),
        json!({"ipBlocks": ["10.0.0.0/8"], "namespaces": ["shop"]}),
        json!({"notIpBlocks": ["10.0.0.0/8"]}),
        json!({"serviceAccounts": ["client", "b/other"]}),
    ];
    let operation = [
        json!({"ports": ["8080"]}),
        json!({"notPorts": ["8080"]}),
        json!({"methods": ["GET"], "paths": ["/a*", "/b"]}),
        json!({"notPaths": ["/a*"]}),
        json!({"hosts": ["web"]}),
    ];
    let when = [
        json!({"key": "request.headers[x-a]", "values": ["1"]}),
        json!({"key": "source.ip", "notValues": ["10.0.0.0/8"]}),
        json!({"key": "destination.port", "values": ["8081"]}),
    ];
    let rule = |draw: &mut fastrand::Rng| {
        let mut rule = json!({});
        let some = |draw: &mut fastrand::Rng, all: &[Value], name: Option<&str>| -> Value {
            let count = draw.usize(1..3);
            let one = |_| {
                let one = all[draw.usize(..all.len())].clone();
                name.map_or(one.clone(), |name| json!({name: one}))
            };
            (0..count).map(one).collect()
        };
        if draw.bool() {
            rule["from"] = some(draw, &source, Some("source"));
        }
        if draw.bool() {
            rule["to"] = some(draw, &operation, Some("operation"));
        }
        if draw.bool() {
            rule["when"] = some(draw, &when, None);
        }
        rule
    };
    let mut spec = json!({"action": (["ALLOW", "DENY"][draw.usize(..2)])});
    spec["rules"] = (0..draw.usize(..3)).map(|_| rule(draw)).collect();
    match draw.usize(..4) {
        0 => spec["selector"] = json!({"matchLabels": {"app": "cart"}}),
        1 => spec["targetRefs"] = json!([{"kind": "Service", "name": "cart"}]),
        2 => spec["targetRefs"] = json!([{"kind": "Service", "name": "cart", "sectionName": "raw"}]),
        _ => {}
    }
    if draw.usize(..5) == 0 {
        spec["dryRun"] = json!(draw.bool());
    }
    spec
}

/// The ways to all values below.
fn ways(value: &Value, way: &str, found: &mut Vec<String>) {
    let mut enter = |key: &str, below: &Value| {
        let way = format!("{way}/{key}");
        ways(below, &way, found);
        found.push(way);
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, below)| enter(key, below)),
        Value::Array(members) => {
            members.iter().enumerate().for_each(|(place, below)| enter(&place.to_string(), below));
        }
        _ => {}
    }
}

/// Breaks a place: another type, or another name of the field.
fn break_one(spec: &mut Value, draw: &mut fastrand::Rng) {
    let mut all = Vec::new();
    ways(spec, "", &mut all);
    let way = all[draw.usize(..all.len())].clone();
    let (parent, key) = way.rsplit_once('/').unwrap();
    let key = key.replace("~1", "/");
    match spec.pointer_mut(parent) {
        Some(Value::Object(fields)) if !parent.ends_with("matchLabels") && draw.bool() => {
            let value = fields.remove(&key).unwrap();
            fields.insert(key + ["x", "-else"][draw.usize(..2)], value);
        }
        _ => {
            let place = spec.pointer_mut(&way).unwrap();
            let mut wrong = vec![json!(7), json!([[]])];
            match place {
                Value::String(_) => wrong.push(json!({"un": "known"})),
                Value::Object(_) => wrong.push(json!("text")),
                Value::Array(_) | Value::Bool(_) => wrong.extend([json!({"un": "known"}), json!("text")]),
                // Broken already: another wrong value might be a right one.
                Value::Null | Value::Number(_) => {}
            }
            *place = wrong[draw.usize(..wrong.len())].clone();
        }
    }
}

fn built(specs: &[&Value]) -> (Snapshot, usize) {
    let policy = |(number, spec): (usize, &&Value)| {
        let object = json!({
            "apiVersion": "posthaste.dev/v1alpha1", "kind": "AuthorizationPolicy",
            "metadata": {"name": format!("p{number}"), "namespace": "shop"}, "spec": spec,
        });
        format!("{object}\n---\n")
    };
    let policies: String = specs.iter().enumerate().map(policy).collect();
    let (snapshot, problems) = snapshot(&(WORLD.replace("ANNOTATIONS", "") + &policies));
    (snapshot, problems.len())
}

/// Who is let in, for a number of connections and requests.
fn verdicts(snapshot: &Snapshot) -> Vec<bool> {
    let client = "spiffe://cluster.local/ns/shop/sa/client".parse::<SpiffeId>().unwrap();
    let other = "spiffe://cluster.local/ns/b/sa/other".parse::<SpiffeId>().unwrap();
    let mut all = Vec::new();
    for pod in ["shop/cart", "shop/other"] {
        let policies = &snapshot.local_pods[pod].authorization;
        for identity in [None, Some(&client), Some(&other)] {
            for address in [[10, 0, 0, 9], [192, 0, 2, 1]] {
                for port in [8080, 8081, 9] {
                    let facts = Facts { identity, address: address.into(), port };
                    all.push(policies.decide(&facts, None).without_http().allows());
                    for (method, path) in [("GET", "/a"), ("POST", "/b"), ("GET", "/c")] {
                        let mut headers = http::HeaderMap::new();
                        if path == "/a" {
                            headers.insert("x-a", "1".parse().unwrap());
                        }
                        let request = Request { method, host: "web", path, headers: &headers };
                        all.push(policies.decide(&facts, Some(&request)).without_http().allows());
                    }
                }
            }
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever is broken of a policy, nobody is let in whom it would not let in whole; and beside it, no policy lets in more than alone
    /// where the broken one denies.
    #[test]
    fn what_is_broken_never_lets_in_more(seed in any::<u64>()) {
        let mut draw = fastrand::Rng::with_seed(seed);
        let (good, other) = (spec(&mut draw), spec(&mut draw));
        let mut bad = good.clone();
        for _ in 0..draw.usize(1..3) {
            break_one(&mut bad, &mut draw);
        }
        let (whole, before) = built(&[&good, &other]);
        let (broken, after) = built(&[&bad, &other]);
        // Another value of the same type is another policy, and no fault.
        prop_assume!(after > before);
        for (place, (whole, broken)) in verdicts(&whole).into_iter().zip(verdicts(&broken)).enumerate() {
            prop_assert!(whole || !broken, "{place}: {good} lets it not in, and {bad} does, beside {other}");
        }
        if good["action"] == "DENY" && bad["action"] == "DENY" {
            let (without, _) = built(&[&other]);
            for (without, broken) in verdicts(&without).into_iter().zip(verdicts(&broken)) {
                prop_assert!(without || !broken, "{bad} lets in what was denied without it");
            }
        }
    }
}
