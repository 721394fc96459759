//! What is said of small worlds, with a kernel that captures everything but port 9.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::{IpAddr, SocketAddr};

use agent_common::Counter;

use super::{Comer, Question, Unanswered, World, arrival, explain};
use crate::{
    bpf::{Inbound, Judged, Outbound},
    observe::{
        CloseReason, Security,
        query::Query,
        views::{ExplainView, OutcomeKind},
    },
    snapshot::{
        Snapshot, SpiffeId,
        build::{build, tests},
    },
    worker::ConnectLimits,
};

const OBJECTS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {posthaste.dev/mesh: enabled}, annotations: {posthaste.dev/mtls: strict}}
---
apiVersion: v1
kind: Pod
metadata: {name: caller, namespace: shop, uid: u-caller, annotations: {posthaste.dev/netns: /run/netns/caller}}
spec: {nodeName: one}
status: {phase: Running, podIPs: [{ip: 10.0.0.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: probe, namespace: shop, uid: u-probe}
spec: {nodeName: one, hostNetwork: true}
status: {phase: Running, podIPs: [{ip: 192.168.0.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: shop, uid: u-server, annotations: {posthaste.dev/netns: /run/netns/server}}
spec: {nodeName: one, serviceAccountName: server}
status: {phase: Running, podIPs: [{ip: 10.0.0.2}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, namespace: shop, uid: u-far}
spec: {nodeName: two, serviceAccountName: far}
status: {phase: Running, podIPs: [{ip: 10.0.0.3}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1], ports: [{name: http, port: 80}, {name: tcp-x, port: 81}, {name: http-none, port: 82}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: tcp-x, port: 8081}]
endpoints: [{addresses: [10.0.0.2]}, {addresses: [10.0.0.3]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: web, port: 80}]
  rules:
  - {matches: [{path: {type: PathPrefix, value: /old}}], filters: [{type: RequestRedirect, requestRedirect: {statusCode: 301, hostname: new.example}}]}
  - {matches: [{path: {type: PathPrefix, value: /half}}], backendRefs: [{name: web, port: 80, weight: 1}, {name: gone, port: 80, weight: 3}]}
  - {matches: [{path: {type: Exact, value: /}}], backendRefs: [{name: web, port: 80}]}
"#;

fn snapshot() -> Snapshot {
    build(&tests::inputs(OBJECTS), &tests::context(), None).0
}

fn ask_in(snapshot: &Snapshot, certificate: bool, query: &str) -> Result<ExplainView, Unanswered> {
    in_world(snapshot, certificate, |world| explain(world, &Question::parse(&Query::parse(query))?))
}

fn in_world<T>(snapshot: &Snapshot, certificate: bool, ask: impl FnOnce(&World<'_>) -> T) -> T {
    let judge = |_: &str, destination: SocketAddr| {
        let excluded = destination.port() == 9;
        let verdict =
            if excluded { Outbound::PassCounted(Counter::ExcludedOutbound) } else { Outbound::Capture };
        Some(Judged { verdict, program: "on_connect4", number: Some(7) })
    };
    let arrive = |_: &str, _: IpAddr, _: SocketAddr| {
        Some(Judged { verdict: Inbound::Steer, program: "on_sk_lookup", number: Some(8) })
    };
    let has = |_: &SpiffeId| if certificate { Ok(()) } else { Err("the CA is away".to_owned()) };
    let world = World {
        node: "one",
        snapshot,
        outbound: &judge,
        inbound: &arrive,
        certificate: &has,
        connect: ConnectLimits::default(),
        now_ns: 1_000_000_000,
    };
    ask(&world)
}

fn ask(query: &str) -> ExplainView {
    ask_in(&snapshot(), true, query).unwrap()
}

#[test]
fn connections_end_where_they_would() {
    use OutcomeKind::{Answered, Forwarded, Outside, Refused, Uncaptured};
    // (destination, rest of the query, kind, reason, stage of the last step)
    let table = [
        ("web:80", "", Forwarded, None, "retries"),
        ("web.shop:81", "", Forwarded, None, "arrival"),
        ("web:82", "", Refused, Some(CloseReason::NoEndpoints), "route"),
        ("web:83", "", Refused, Some(CloseReason::UnknownPort), "route"),
        ("web:80", "&path=/else", Answered, None, "rule"),
        ("web:80", "&path=/old/x", Answered, None, "rule"),
        ("10.96.0.1:80", "&tcp=true", Forwarded, None, "arrival"),
        ("shop/far:70", "", Forwarded, None, "arrival"),
        ("192.0.2.1:443", "", Outside, None, "identity"),
        ("10.0.0.3:9", "", Refused, Some(CloseReason::PlaintextRefused), "arrival"),
        ("192.0.2.1:9", "", Uncaptured, None, "capture"),
        ("10.96.0.1:9", "", Uncaptured, None, "capture"),
    ];
    for (destination, rest, kind, reason, stage) in table {
        let view = ask(&format!("source=shop/caller&destination={destination}{rest}"));
        let outcome = &view.outcomes[0];
        assert_eq!((outcome.kind, outcome.reason), (kind, reason), "{destination}{rest}: {view:#?}");
        assert_eq!(view.steps.last().unwrap().stage, stage, "{destination}{rest}: {view:#?}");
    }
    let host = ask("source=shop/probe&destination=10.0.0.2:80");
    assert_eq!(
        (host.outcomes[0].kind, host.outcomes[0].reason),
        (Refused, Some(CloseReason::PlaintextRefused))
    );
    assert!(host.steps[0].says.contains("host"), "{host:?}");
}

#[test]
fn a_port_with_a_mode_of_its_own_is_told_by_it() {
    let of = |annotations: &str| {
        let pod = "/run/netns/server}";
        let objects = OBJECTS.replace(pod, &format!("/run/netns/server, {annotations}}}"));
        assert_ne!(objects, OBJECTS);
        build(&tests::inputs(&objects), &tests::context(), None).0
    };
    let (strict, permissive) = (OutcomeKind::Refused, OutcomeKind::Uncaptured);
    for (annotations, at_80, at_81) in [
        ("posthaste.dev/mtls-ports: 80=permissive", permissive, strict),
        ("posthaste.dev/mtls: permissive, posthaste.dev/mtls-ports: 80=strict", strict, permissive),
    ] {
        let snapshot = of(annotations);
        for (port, kind) in [(80, at_80), (81, at_81)] {
            let query = format!("source=shop/probe&destination=10.0.0.2:{port}");
            let view = ask_in(&snapshot, true, &query).unwrap();
            assert_eq!(view.outcomes[0].kind, kind, "{annotations}, {port}: {view:#?}");
        }
    }
}

#[test]
fn rules_are_chosen_or_passed_over_and_shares_add_up() {
    let view = ask("source=10.0.0.1&destination=web:80&path=/half/x&method=POST");
    let whys: Vec<_> = view.rules.iter().map(|rule| (rule.chosen, rule.why.as_deref())).collect();
    let path = Some("the path is another");
    assert_eq!(whys, [(false, path), (true, None), (false, path)], "{view:#?}");
    let [good, gone] = &*view.outcomes else { panic!("{view:#?}") };
    assert_eq!(
        (good.probability, good.kind, gone.probability, gone.status),
        (0.25, OutcomeKind::Forwarded, 0.75, Some(500))
    );
    let [near, far] = &*good.endpoints else { panic!("{view:#?}") };
    assert_eq!((near.probability, far.probability, near.security), (0.5, 0.5, Security::MutualTls));
    assert_eq!(far.expected_identity.as_deref(), Some("spiffe://cluster.local/ns/shop/sa/far"));
    let retries = view.steps.iter().find(|step| step.stage == "retries").unwrap();
    assert!(retries.says.contains("not idempotent") && retries.says.contains("10 left"), "{retries:?}");
}

#[test]
fn an_ejected_endpoint_and_an_absent_certificate_are_seen() {
    let snapshot = snapshot();
    let port = snapshot.service_ports.get(&("10.96.0.1".parse().unwrap(), 80)).unwrap();
    port.endpoints[0].load.ejected_until_ns.store(9_000_000_000, std::sync::atomic::Ordering::Relaxed);
    let query = "source=shop/caller&destination=web:80";
    let view = ask_in(&snapshot, true, query).unwrap();
    let [only] = &*view.outcomes[0].endpoints else { panic!("{view:#?}") };
    assert_eq!((&*only.address, only.probability), ("10.0.0.3:8080", 1.0));
    assert_eq!(view.services[0].endpoints[0].state, "ejected");
    let view = ask_in(&snapshot, false, query).unwrap();
    assert_eq!(view.outcomes[0].endpoints[0].refused, Some(CloseReason::IdentityError));
}

/// Denies what begins with `/secret`; what is no HTTP cannot show that it does not.
const POLICY: &str = r#"
---
apiVersion: posthaste.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: closed, namespace: shop}
spec: {action: DENY, rules: [{to: [{operation: {paths: ["/secret*"]}}]}]}
"#;

#[test]
fn policies_of_the_called_pod_are_asked() {
    let snapshot = build(&tests::inputs(&format!("{OBJECTS}{POLICY}")), &tests::context(), None).0;
    for (question, refused, words) in [
        ("destination=web:80", None, "let in"),
        ("destination=10.0.0.2:8080&tcp=true", Some(CloseReason::PolicyDenied), "shop/closed"),
    ] {
        let view = ask_in(&snapshot, true, &format!("source=shop/caller&{question}")).unwrap();
        assert_eq!(view.outcomes[0].endpoints[0].refused, refused, "{view:#?}");
        let policy = view.steps.iter().find(|step| step.stage == "policy").unwrap();
        assert!(policy.says.contains(words) && policy.passes == refused.is_none(), "{policy:?}");
    }
}

#[test]
fn the_agent_of_another_node_is_asked_and_answers_as_for_itself() {
    let policy = POLICY.replace("/secret*", "/half/s*");
    let snapshot = build(&tests::inputs(&format!("{OBJECTS}{policy}")), &tests::context(), None).0;
    let answer = |target: &str| {
        let (path, query) = target.split_once('?').unwrap();
        assert_eq!(path, "/explain/arrival");
        // What is asked of the pod on the other node, asked of the one here.
        let query = query.replace("shop/far", "shop/server").replace("10.0.0.3", "10.0.0.2");
        in_world(&snapshot, true, |world| arrival(world, &Comer::parse(&Query::parse(&query))?)).unwrap()
    };
    for (path, refused, status) in
        [("/half/open", None, None), ("/half/secret", Some(CloseReason::PolicyDenied), Some(403))]
    {
        let query = format!("source=shop/caller&destination=web:80&path={path}&header=x-a: b");
        let view = ask_in(&snapshot, true, &query).unwrap();
        let far = view.outcomes[0].endpoints.iter().find_map(|one| one.elsewhere.as_ref());
        let ask = far.unwrap_or_else(|| panic!("{view:#?}"));
        assert_eq!((&*ask.pod, ask.node.as_deref()), ("shop/far", Some("two")));
        let open = view.steps.iter().find(|step| step.unknown).unwrap();
        assert!(open.says.contains("the agent of node two decides"), "{open:?}");
        let told = answer(&ask.target);
        assert_eq!((told.refused, told.status), (refused, status), "{path}: {told:?}");
    }
    let bytes = ask_in(&snapshot, true, "source=shop/caller&destination=web:81&tcp=true").unwrap();
    let far = bytes.outcomes[0].endpoints.iter().find_map(|one| one.elsewhere.clone()).unwrap();
    let told = answer(&far.target);
    assert_eq!((told.refused, told.status), (Some(CloseReason::PolicyDenied), None));
    let nobody = in_world(&snapshot, true, |world| {
        let query = far.target.split_once('?').unwrap().1.to_owned();
        arrival(world, &Comer::parse(&Query::parse(&query))?)
    });
    assert!(nobody.unwrap_err().to_string().contains("no pod shop/far is captured on node `one`"));
}

#[test]
fn what_means_nothing_is_refused_with_the_reason() {
    for (query, words) in [
        ("source=shop/caller", "`destination` is missing"),
        ("source=caller&destination=web:80", "write `namespace/pod`"),
        ("source=shop/caller&destination=web", "needs one of its ports: [80, 81, 82]"),
        ("source=shop/far&destination=web:80", "runs on node `two`"),
        ("source=10.9.9.9&destination=web:80", "no pod that this agent knows"),
        ("source=shop/caller&destination=shop/far", "needs a port"),
        ("source=shop/caller&destination=web:80&method=G%20T", "is no method"),
        ("source=shop/caller&destination=web:80&path=x", "begins with /"),
        ("source=shop/caller&destination=web:80&header=x", "write `name: value`"),
        ("source=shop/caller&destination=nobody:80", "no service `nobody.shop`"),
        ("source=shop/caller&destination=shop/nobody:80", "no pod `shop/nobody`"),
    ] {
        let error = ask_in(&snapshot(), true, query).unwrap_err();
        assert!(error.to_string().contains(words), "{query}: {error}");
        // Only where the calling pod is another agent's may that one be asked.
        let elsewhere = matches!(error, Unanswered::NotHere(_));
        assert_eq!(elsewhere, words.contains("runs on") || words.contains("no pod that"), "{query}");
    }
}
