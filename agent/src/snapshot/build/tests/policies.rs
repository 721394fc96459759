//! Which policy is in force where, what is wrong with one, and that schema and builder agree on every bound.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;

use serde_json::{Value, json};

use super::{build, context, fields, inputs, snapshot};
use crate::{
    control::policy::crd,
    snapshot::{
        Snapshot, TrafficPolicy,
        policy::{Balancer, HashKey, HedgeDelay, Hedging, Limits, Outliers, RetryBudget},
    },
};

const WORLD: &str = "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {posthaste.dev/mesh: enabled}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: shop, annotations: {posthaste.dev/netns: /run/netns/p}}, spec: {nodeName: one, containers: []}, status: {podIP: 10.1.0.1}}
---
{apiVersion: v1, kind: Service, metadata: {name: cart, namespace: shop}, spec: {clusterIP: 10.9.0.1, ports: [{name: http, port: 80}, {name: admin, port: 81}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: pay, namespace: shop}, spec: {clusterIP: 10.9.0.2, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: far, namespace: other}, spec: {clusterIP: 10.9.0.3, ports: [{port: 80}]}}
";

const CART: &str = "{kind: Service, name: cart}";
const ADMIN: &str = "{kind: Service, name: cart, sectionName: admin}";
const SHOP: &str = "{kind: Namespace, name: shop}";

fn policy(name: &str, targets: &str, spec: &str) -> String {
    format!(
        "---\n{{apiVersion: posthaste.dev/v1alpha1, kind: TrafficPolicy, metadata: {{name: {name}, namespace: shop}}, spec: {{targetRefs: [{targets}], {spec}}}}}\n"
    )
}

fn aged(year: u32, text: &str) -> String {
    text.replace(
        "namespace: shop}",
        &format!("namespace: shop, creationTimestamp: '{year}-01-01T00:00:00Z'}}"),
    )
}

fn backend_policy(name: &str, spec: &str) -> String {
    format!(
        "---\n{{apiVersion: gateway.networking.x-k8s.io/v1alpha1, kind: XBackendTrafficPolicy, metadata: {{name: {name}, namespace: shop}}, spec: {{targetRefs: [{{group: '', kind: Service, name: cart}}], {spec}}}}}\n"
    )
}

fn at<'snapshot>(snapshot: &'snapshot Snapshot, address: &str) -> &'snapshot Arc<TrafficPolicy> {
    let address: std::net::SocketAddr = address.parse().unwrap();
    &snapshot.service_ports[&(address.ip(), address.port())].policy
}

fn requests(policy: &TrafficPolicy) -> u32 {
    policy.limits.requests
}

#[test]
fn without_policies_all_is_default() {
    let (snapshot, problems) = snapshot(WORLD);
    assert_eq!(problems, []);
    assert_eq!(**at(&snapshot, "10.9.0.1:80"), TrafficPolicy::default());
    assert!(Arc::ptr_eq(at(&snapshot, "10.9.0.1:80"), at(&snapshot, "10.9.0.3:80")));
}

#[test]
fn the_more_specific_policy_wins_field_by_field() {
    let yaml = [
        WORLD,
        &policy(
            "all",
            SHOP,
            "limits: {requests: 1}, hedging: {}, bulkhead: {requests: 9}, retry: {attempts: 1}",
        ),
        &policy("cart", CART, "limits: {requests: 2, connections: 5}, retry: {codes: [500, 503, 500]}"),
        &policy("admin", ADMIN, "limits: {requests: 3}, hedging: {extraAttempts: 0}"),
    ]
    .concat();
    let (snapshot, problems) = snapshot(&yaml);
    assert_eq!(problems, []);
    let [cart, admin, pay, far] =
        ["10.9.0.1:80", "10.9.0.1:81", "10.9.0.2:80", "10.9.0.3:80"].map(|address| at(&snapshot, address));
    assert_eq!([requests(cart), requests(admin), requests(pay)], [2, 3, 1]);
    assert_eq!(cart.limits.connections, 5);
    // A field comes whole from one policy.
    assert_eq!(admin.limits.connections, Limits::default().connections);
    assert_eq!((cart.retry.attempts, cart.retry.codes.as_slice()), (2, &[500, 503][..]));
    assert_eq!(pay.retry.attempts, 1);
    assert_eq!(cart.hedging, Some(Hedging { delay: HedgeDelay::P95 { at_least_ns: 5_000_000 }, extra: 1 }));
    assert_eq!((admin.hedging, far.hedging), (None, None));
    let origins: Vec<&str> = admin.origins.iter().map(|origin| &**origin).collect();
    assert_eq!(origins, ["admin", "cart", "all"].map(|name| format!("TrafficPolicy/shop/{name}")));
    assert_eq!(snapshot.local_pods["shop/p"].bulkhead.requests, 9);
}

#[test]
fn of_two_for_one_target_the_older_is_in_force() {
    let (a, b) = (policy("a", CART, "limits: {requests: 1}"), policy("b", CART, "limits: {requests: 2}"));
    let both_targets = policy("b", &format!("{CART}, {ADMIN}"), "limits: {requests: 2}");
    let table = [
        (format!("{a}{b}"), 1, "TrafficPolicy/shop/b"),
        (format!("{b}{a}"), 1, "TrafficPolicy/shop/b"),
        (format!("{}{}", aged(2026, &a), aged(2025, &b)), 2, "TrafficPolicy/shop/a"),
        (format!("{a}{}", aged(2025, &b)), 2, "TrafficPolicy/shop/a"),
        (format!("{a}{both_targets}"), 1, "TrafficPolicy/shop/b"),
    ];
    for (policies, expected, loser) in table {
        let (snapshot, problems) = snapshot(&format!("{WORLD}{policies}"));
        assert_eq!(requests(at(&snapshot, "10.9.0.1:80")), expected, "{policies}");
        let [problem] = &problems[..] else { panic!("{problems:?}") };
        assert_eq!((&*problem.object, &*problem.field), (loser, "spec.targetRefs[0]"));
        assert!(problem.reason.starts_with("Conflicted: TrafficPolicy/shop/"), "{}", problem.reason);
        if policies.contains("sectionName") {
            assert_eq!(requests(at(&snapshot, "10.9.0.1:81")), 2);
        }
    }
}

#[test]
fn gateway_apis_retry_constraint_counts_too() {
    const CONSTRAINT: &str =
        "retryConstraint: {budget: {percent: 5, interval: 30s}, minRetryRate: {count: 3, interval: 2s}}";
    let second = 1_000_000_000;
    let strict =
        RetryBudget { percent: 5, interval_ns: 30 * second, min_retries: 3, min_interval_ns: 2 * second };
    let theirs = backend_policy("x", &format!("{CONSTRAINT}, unknown: 1"));
    let ours = |spec: &str| aged(2025, &policy("ours", CART, spec));
    let loose = RetryBudget { percent: 50, ..RetryBudget::default() };
    let table = [
        (theirs.clone(), strict, 0),
        (format!("{theirs}{}", ours("limits: {requests: 7}")), strict, 0),
        (format!("{theirs}{}", ours("retryConstraint: {budget: {percent: 50}}")), loose, 1),
        (format!("{theirs}{}", policy("all", SHOP, "retryConstraint: {budget: {percent: 50}}")), strict, 0),
        (backend_policy("x", "retryConstraint: {}"), RetryBudget::default(), 0),
        (backend_policy("x", "sessionPersistence: {type: Cookie}"), RetryBudget::default(), 1),
        (
            theirs.replace("kind: Service, name: cart", "kind: Namespace, name: shop"),
            RetryBudget::default(),
            1,
        ),
    ];
    for (policies, expected, count) in table {
        let (snapshot, problems) = snapshot(&format!("{WORLD}{policies}"));
        assert_eq!(at(&snapshot, "10.9.0.1:80").budget, expected, "{policies}");
        assert_eq!(problems.len(), count, "{problems:?}");
        assert!(problems.iter().all(|problem| problem.object.starts_with("XBackendTrafficPolicy/shop/x")));
    }
}

#[test]
fn reads_balancers_hedges_and_ejection() {
    let header = Balancer::ConsistentHash(HashKey::Header(http::HeaderName::from_static("x-user")));
    let hash = |key: &str| format!("loadBalancer: {{type: ConsistentHash, consistentHash: {{{key}}}}}");
    let table = [
        (hash("type: Header, name: X-User"), header, 0),
        (hash("type: Cookie, name: session"), Balancer::ConsistentHash(HashKey::Cookie("session".into())), 0),
        (hash("type: Source"), Balancer::ConsistentHash(HashKey::Source), 0),
        (hash("type: Header"), Balancer::PowerOfTwo, 1),
        (hash("type: Header, name: 'a b'"), Balancer::PowerOfTwo, 1),
        (hash("type: Cookie, name: 'a;b'"), Balancer::PowerOfTwo, 1),
        (hash("type: Source, name: x"), Balancer::PowerOfTwo, 1),
        ("loadBalancer: {type: ConsistentHash}".into(), Balancer::PowerOfTwo, 1),
        ("loadBalancer: {consistentHash: {type: Source}}".into(), Balancer::PowerOfTwo, 1),
        ("loadBalancer: {type: PowerOfTwo, slowStart: 1m}".into(), Balancer::PowerOfTwo, 0),
    ];
    for (spec, balancer, count) in table {
        let (snapshot, problems) = snapshot(&format!("{WORLD}{}", policy("p", CART, &spec)));
        assert_eq!(
            (&at(&snapshot, "10.9.0.1:80").balancer, problems.len()),
            (&balancer, count),
            "{spec} {problems:?}"
        );
    }
    let spec = "loadBalancer: {slowStart: 1m30s}, hedging: {delay: 20ms, extraAttempts: 2}, outlierDetection: {baseEjectionTime: 10m, latencyFactor: 0}, retry: {backoff: 1s}";
    let (snapshot, problems) = snapshot(&format!("{WORLD}{}", policy("p", CART, spec)));
    let found = at(&snapshot, "10.9.0.1:80");
    assert_eq!(found.slow_start_ns, 90_000_000_000);
    assert_eq!(found.hedging, Some(Hedging { delay: HedgeDelay::After(20_000_000), extra: 2 }));
    let minutes = 600_000_000_000;
    let outliers =
        Outliers { base_ns: minutes, longest_ns: minutes, latency_factor: 0, ..Outliers::default() };
    assert_eq!(found.outliers, outliers);
    assert_eq!((found.retry.backoff_ns, found.retry.backoff_max_ns), (1_000_000_000, 1_000_000_000));
    assert_eq!(fields(&problems), ["spec.outlierDetection.maxEjectionTime"]);
}

#[test]
fn says_what_a_target_lacks() {
    let table = [
        ("{kind: Service, name: nobody}", ".name"),
        ("{kind: Service, name: far}", ".name"),
        ("{kind: Service, name: cart, sectionName: web}", ".sectionName"),
        ("{kind: Service, name: pay, sectionName: ''}", ".sectionName"),
        ("{kind: Namespace, name: other}", ".name"),
        ("{kind: Namespace, name: shop, sectionName: x}", ".sectionName"),
        ("{kind: Deployment, name: cart}", ".kind"),
        ("{group: apps, kind: Service, name: cart}", ".group"),
    ];
    for (target, field) in table {
        let (snapshot, problems) =
            snapshot(&format!("{WORLD}{}", policy("p", target, "limits: {requests: 1}")));
        assert_eq!(fields(&problems), [format!("spec.targetRefs[0]{field}")], "{target}");
        for address in ["10.9.0.1:80", "10.9.0.1:81", "10.9.0.2:80", "10.9.0.3:80"] {
            assert_eq!(**at(&snapshot, address), TrafficPolicy::default());
        }
    }
    let (_, problems) = snapshot(&format!("{WORLD}{}", policy("p", "", "")));
    assert_eq!(fields(&problems), ["spec.targetRefs"]);
    let (_, problems) = snapshot(&format!("{WORLD}{}", policy("p", CART, "bulkhead: {requests: 1}")));
    assert_eq!(fields(&problems), ["spec.bulkhead"]);
}

#[test]
fn what_did_not_change_stays_the_same_allocation() {
    let with = |requests: u32| {
        inputs(&format!("{WORLD}{}", policy("p", CART, &format!("limits: {{requests: {requests}}}"))))
    };
    let (first, _) = build(&with(5), &context(), None);
    let (second, _) = build(&with(5), &context(), Some(&first));
    let (third, _) = build(&with(6), &context(), Some(&second));
    assert!(Arc::ptr_eq(at(&first, "10.9.0.1:80"), at(&second, "10.9.0.1:80")));
    assert_eq!(requests(at(&third, "10.9.0.1:80")), 6);
}

/// Each number of the schema, with the path to it.
fn numbers(schema: &Value, path: &mut Vec<String>, found: &mut Vec<(Vec<String>, Value)>) {
    if schema["type"] == "integer" {
        found.push((path.clone(), schema.clone()));
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        path.push(name.clone());
        numbers(property, path, found);
        path.pop();
    }
    if schema["items"]["type"] == "integer" {
        path.push("[]".into());
        numbers(&schema["items"], path, found);
        path.pop();
    }
}

/// Schema and builder were written apart; here each bound of one is tried on the other.
#[test]
fn the_builder_has_the_bounds_of_the_schema() {
    let mut found = Vec::new();
    numbers(&crd::Definition::TrafficPolicy.spec_schema(), &mut Vec::new(), &mut found);
    assert_eq!(found.len(), 22, "{found:#?}");
    for (path, schema) in found {
        let (least, most) = (schema["minimum"].as_i64().unwrap(), schema["maximum"].as_i64().unwrap());
        for (number, count) in [(least, 0), (most, 0), (least - 1, 1), (most + 1, 1)] {
            let nest =
                |value, name: &String| if name == "[]" { json!([value]) } else { json!({name: value}) };
            let mut spec = path.iter().rev().fold(json!(number), nest);
            spec["targetRefs"] = json!([{"kind": "Namespace", "name": "shop"}]);
            let object = json!({"apiVersion": "posthaste.dev/v1alpha1", "kind": "TrafficPolicy", "metadata": {"name": "p", "namespace": "shop"}, "spec": spec});
            let (_, problems) = snapshot(&format!("{WORLD}---\n{object}"));
            assert_eq!(problems.len(), count, "{path:?} {number}: {problems:?}");
            if let [problem] = &problems[..] {
                let field = format!("spec.{}", path.join(".").replace(".[]", "[0]"));
                assert_eq!(problem.field, field);
                assert!(problem.reason.contains("in force") || problem.reason.contains("left out"));
            }
        }
    }
}
