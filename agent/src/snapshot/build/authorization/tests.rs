//! From YAML to what applies to a pod.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "broken_tests.rs"]
mod broken;

use crate::snapshot::{
    Problem, Snapshot,
    authorization::{By, Decision, Effect, Facts},
    build::tests::{fields, snapshot},
};

const WORLD: &str = "
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {posthaste.dev/mesh: enabled}, annotations: {ANNOTATIONS}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: cart, namespace: shop, labels: {app: cart}, annotations: {posthaste.dev/netns: /run/netns/cart}}, spec: {nodeName: one}, status: {podIPs: [{ip: 10.0.0.1}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: other, namespace: shop, labels: {app: other}, annotations: {posthaste.dev/netns: /run/netns/other}}, spec: {nodeName: one}, status: {podIPs: [{ip: 10.0.0.2}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: cart, namespace: shop}, spec: {clusterIP: 10.96.0.1, ports: [{name: web, port: 80, appProtocol: http}, {name: raw, port: 81, appProtocol: tcp}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: cart-1, namespace: shop, labels: {kubernetes.io/service-name: cart}}, addressType: IPv4, ports: [{name: web, port: 8080}, {name: raw, port: 8081}], endpoints: [{addresses: [10.0.0.1]}]}
---
";

fn world(annotations: &str, policies: &[&str]) -> (Snapshot, Vec<Problem>) {
    let policy = |(number, spec): (usize, &&str)| {
        format!(
            "{{apiVersion: posthaste.dev/v1alpha1, kind: AuthorizationPolicy, metadata: {{name: p{number}, namespace: shop}}, spec: {{{spec}}}}}\n---\n"
        )
    };
    let policies: String = policies.iter().enumerate().map(policy).collect();
    snapshot(&(WORLD.replace("ANNOTATIONS", annotations) + &policies))
}

/// Whether a plain caller gets in to a port of a pod.
fn lets_in(snapshot: &Snapshot, pod: &str, port: u16) -> bool {
    let facts = Facts { identity: None, address: [192, 0, 2, 1].into(), port };
    snapshot.local_pods[pod].authorization.decide(&facts, None).without_http().allows()
}

#[test]
fn whom_a_policy_concerns() {
    let cases = [
        ("", [false, false, false]),
        ("selector: {matchLabels: {app: cart}}", [false, false, true]),
        ("selector: {matchLabels: {app: cart, tier: x}}", [true, true, true]),
        ("selector: {}", [false, false, false]),
        ("targetRefs: [{kind: Namespace, name: shop}]", [false, false, false]),
        ("targetRefs: [{kind: Service, name: cart}]", [false, false, true]),
        ("targetRefs: [{kind: Service, name: cart, sectionName: raw}]", [true, false, true]),
        ("action: DENY", [true, true, true]),
        ("action: DENY, rules: [{}]", [false, false, false]),
        ("rules: [{}]", [true, true, true]),
        ("dryRun: true", [true, true, true]),
    ];
    for (spec, expected) in cases {
        let (snapshot, problems) = world("", &[spec]);
        assert_eq!(fields(&problems), Vec::<&str>::new(), "{spec}");
        let found = [("shop/cart", 8080), ("shop/cart", 8081), ("shop/other", 8080)]
            .map(|(pod, port)| lets_in(&snapshot, pod, port));
        assert_eq!(found, expected, "{spec}");
    }
}

#[test]
fn a_namespace_may_deny_by_default() {
    let (closed, problems) = world("posthaste.dev/default-access: deny", &[]);
    assert!(problems.is_empty() && !lets_in(&closed, "shop/cart", 8080));
    let (mistyped, problems) = world("posthaste.dev/default-access: denied", &[]);
    assert_eq!(fields(&problems), ["metadata.annotations[posthaste.dev/default-access]"]);
    assert!(!lets_in(&mistyped, "shop/cart", 8080));
    let (opened, _) =
        world("posthaste.dev/default-access: deny", &["selector: {matchLabels: {app: cart}}, rules: [{}]"]);
    assert!(lets_in(&opened, "shop/cart", 8080) && !lets_in(&opened, "shop/other", 8080));
}

#[test]
fn what_does_not_fit_is_said_and_never_opens() {
    let rule = "spec.rules[0]";
    let cases = [
        ("from: [{source: {ipBlocks: [10.0.0.0/33]}}]", format!("{rule}.from[0].source.ipBlocks[0]")),
        (
            "from: [{source: {principals: ['spiffe://a/ns/b/sa/c']}}]",
            format!("{rule}.from[0].source.principals[0]"),
        ),
        ("from: [{source: {serviceAccounts: ['a/*']}}]", format!("{rule}.from[0].source.serviceAccounts[0]")),
        ("from: [{source: {namespaces: []}}]", format!("{rule}.from[0].source.namespaces")),
        ("to: [{operation: {ports: ['http']}}]", format!("{rule}.to[0].operation.ports[0]")),
        ("to: [{operation: {notPorts: ['0']}}]", format!("{rule}.to[0].operation.notPorts[0]")),
        ("to: [{operation: {paths: ['/{x}']}}]", format!("{rule}.to[0].operation.paths[0]")),
        ("when: [{key: request.auth.claims, values: [a]}]", format!("{rule}.when[0].key")),
        ("when: [{key: source.ip}]", format!("{rule}.when[0].values")),
        ("when: [{key: source.ip, values: [x]}]", format!("{rule}.when[0].values[0]")),
    ];
    for (broken, field) in cases {
        for action in ["ALLOW", "DENY"] {
            let (snapshot, problems) = world("", &[&format!("action: {action}, rules: [{{{broken}}}]")]);
            assert_eq!(fields(&problems), [field.as_str()], "{broken}");
            assert!(!lets_in(&snapshot, "shop/cart", 8080), "{action} {broken}");
        }
    }
    let (_, problems) = world(
        "",
        &["targetRefs: [{kind: Service, name: crat}, {kind: Namespace, name: shop2}, {kind: Pod, name: a}]"],
    );
    assert_eq!(
        fields(&problems),
        ["spec.targetRefs[0].name", "spec.targetRefs[1].name", "spec.targetRefs[2].kind"]
    );
}

#[test]
fn conditions_of_http_on_a_port_that_is_not_are_said() {
    let get = "rules: [{to: [{operation: {methods: [GET]}}]}]";
    let (snapshot, problems) = world("", &[get]);
    assert_eq!(fields(&problems), ["spec.rules[0]"]);
    assert!(
        problems[0].reason.contains("port 8081 is declared as tcp (Service cart, port 81)"),
        "{}",
        problems[0]
    );
    assert!(!lets_in(&snapshot, "shop/cart", 8081));
    let only_web = "rules: [{to: [{operation: {methods: [GET], ports: ['8080']}}]}]";
    assert_eq!(fields(&world("", &[only_web]).1), Vec::<&str>::new());
    let of_web = format!("targetRefs: [{{kind: Service, name: cart, sectionName: web}}], {get}");
    let (snapshot, problems) = world("", &[&of_web]);
    assert_eq!(fields(&problems), Vec::<&str>::new());
    let facts = Facts { identity: None, address: [192, 0, 2, 1].into(), port: 8080 };
    let decision = snapshot.local_pods["shop/cart"].authorization.decide(&facts, None);
    assert!(
        matches!(decision, Decision::Undecided(verdict) if verdict.effect == Effect::Deny && verdict.by == By::NoneAllows)
    );
}

#[test]
fn the_most_patient_service_says_how_long_a_head_may_take_where_requests_are_read() {
    let service = "{apiVersion: v1, kind: Service, metadata: {name: too, namespace: shop}, spec: {clusterIP: 10.96.0.2, ports: [{name: web, port: 80}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: too-1, namespace: shop, labels: {kubernetes.io/service-name: too}}, addressType: IPv4, ports: [{name: web, port: 8080}], endpoints: [{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}]}
---
";
    let get = "{apiVersion: posthaste.dev/v1alpha1, kind: AuthorizationPolicy, metadata: {name: get, namespace: shop}, \
               spec: {selector: {matchLabels: {app: cart}}, rules: [{to: [{operation: {methods: [GET], ports: ['8080']}}]}]}}\n---\n";
    let times = |asks: &str, of: [&str; 2]| {
        let policies = ["cart", "too"].into_iter().zip(of).filter(|(_, time)| !time.is_empty()).map(|(name, time)| {
            format!(
                "{{apiVersion: posthaste.dev/v1alpha1, kind: TrafficPolicy, metadata: {{name: {name}, namespace: shop}}, \
                 spec: {{targetRefs: [{{kind: Service, name: {name}}}], limits: {{requestHeadersTimeout: {time}}}}}}}\n---\n"
            )
        });
        let policies: String = policies.collect();
        let world = WORLD.replace("ANNOTATIONS", "");
        let (snapshot, problems) = snapshot(&format!("{world}{service}{asks}{policies}"));
        assert_eq!(fields(&problems), Vec::<&str>::new());
        let mut times: Vec<_> =
            snapshot.head_times.into_iter().map(|(at, time)| (at.to_string(), time)).collect();
        times.sort();
        times
    };
    let at = |time: u64| vec![("10.0.0.1:8080".to_owned(), time)];
    assert_eq!(times(get, ["2s", "5s"])[..1], at(5_000_000_000));
    assert_eq!(times(get, ["0s", "5s"])[..1], at(0));
    assert_eq!(times(get, ["2s", "90s"])[..1], at(90_000_000_000));
    assert_eq!(
        times(get, ["2s", ""]).len(),
        1,
        "the default of the other one is longer; only port 8081 is the first one's alone"
    );
    assert_eq!(times("", ["2s", "5s"]), []);
}

#[test]
fn policies_of_others_cost_a_pod_nothing() {
    let of_other = "selector: {matchLabels: {app: other}}";
    let (snapshot, _) = world("", &vec![of_other; 50]);
    assert!(snapshot.local_pods["shop/cart"].authorization.is_open());
    assert_eq!(snapshot.local_pods["shop/other"].authorization.allow.len(), 50);
}
