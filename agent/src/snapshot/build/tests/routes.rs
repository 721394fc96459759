//! Routes from the words of the Gateway API: what they attach to, lead to, refuse and say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;

use http::{HeaderMap, Method};

use super::{build, context, fields, inputs, snapshot};
use crate::snapshot::{
    Problem, Snapshot,
    routes::{Action, RequestView, Rule},
};

const SERVICES: &str = "
{apiVersion: v1, kind: Service, metadata: {name: cart, namespace: shop}, spec: {clusterIP: 10.9.0.1, ports: [{port: 80, name: http}, {port: 81, name: admin}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: cart-v2, namespace: shop}, spec: {clusterIP: 10.9.0.2, ports: [{port: 80}, {port: 53, protocol: UDP, name: dns}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: bank, namespace: money}, spec: {clusterIP: 10.9.0.3, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: outside, namespace: shop}, spec: {type: ExternalName, externalName: a.b, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: headless, namespace: shop}, spec: {clusterIP: None, ports: [{port: 80}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: h, namespace: shop, labels: {kubernetes.io/service-name: headless}}, addressType: IPv4, ports: [{port: 80}], endpoints: [{addresses: [10.1.0.1]}]}
---
";

const PARENT: &str = "parentRefs: [{group: '', kind: Service, name: cart}]";
const BACKEND: &str = "backendRefs: [{name: cart, port: 80}]";

fn route(kind: &str, name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: {kind}, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{{spec}}}}}\n---\n"
    )
}

fn with(routes: &str) -> (Snapshot, Vec<Problem>) {
    snapshot(&format!("{SERVICES}{routes}"))
}

/// One HTTPRoute of the service `cart` with one rule.
fn with_rule(rule: &str) -> (Snapshot, Vec<Problem>) {
    with(&route("HTTPRoute", "r", "shop", &format!("{PARENT}, rules: [{{{rule}}}]")))
}

fn choose(snapshot: &Snapshot, address: &str, namespace: &str, path: &str) -> Option<Arc<Rule>> {
    let address: std::net::SocketAddr = address.parse().unwrap();
    let routes = snapshot.routes.get(&(address.ip(), address.port()))?;
    let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, "application/grpc".parse().unwrap())]);
    let request = RequestView { method: &Method::GET, path, query: None, headers: &headers, authority: "" };
    routes.of(namespace)?.choose(&request).map(|choice| choice.rule.clone())
}

/// The service of each backend with its weight, or the reason.
fn backends(rule: &Rule) -> Vec<(u32, String)> {
    let Action::Forward(backends) = &rule.action else { panic!("{:?}", rule.action) };
    let name = |port: &Result<Arc<crate::snapshot::ServicePort>, String>| match port {
        Ok(port) => format!("{}:{}", port.service_name, port.port),
        Err(reason) => reason.split(' ').next().unwrap_or_default().to_owned(),
    };
    backends.iter().map(|backend| (backend.weight, name(&backend.port))).collect()
}

fn rule(snapshot: &Snapshot) -> Arc<Rule> {
    choose(snapshot, "10.9.0.1:80", "x", "/").unwrap()
}

#[test]
fn attaches_to_ports_as_the_parent_says() {
    let table = [
        ("{kind: Service, name: cart}", 2, vec![]),
        ("{group: '', kind: Service, name: cart, port: 81}", 1, vec![]),
        ("{group: core, kind: Service, name: cart, sectionName: http}", 1, vec![]),
        (
            "{group: '', kind: Service, name: cart, sectionName: http, port: 81}",
            0,
            vec!["spec.parentRefs[0]"],
        ),
        ("{group: '', kind: Service, name: cart, port: 8080}", 0, vec!["spec.parentRefs[0]"]),
        ("{group: '', kind: Service, name: missing}", 0, vec!["spec.parentRefs[0]"]),
        ("{group: '', kind: Service, name: headless}", 0, vec!["spec.parentRefs[0]"]),
        ("{group: '', kind: Service, name: outside}", 0, vec!["spec.parentRefs[0]"]),
        ("{group: '', kind: Service, name: cart}, {kind: Service, name: cart, port: 80}", 2, vec![]),
        ("{name: gateway}", 0, vec![]),
        ("{group: networking.istio.io, kind: ServiceEntry, name: cart}", 0, vec![]),
        ("", 0, vec!["spec.parentRefs"]),
    ];
    for (parents, count, problems) in table {
        let spec = format!("parentRefs: [{parents}], hostnames: [a.b], rules: [{{{BACKEND}}}]");
        let (snapshot, found) = with(&route("HTTPRoute", "r", "shop", &spec));
        assert_eq!((snapshot.routes.len(), fields(&found)), (count, problems), "{parents}");
    }
}

#[test]
fn producers_are_for_all_and_consumers_for_their_own() {
    let spec = |service: &str| {
        format!(
            "parentRefs: [{{kind: Service, name: cart, namespace: shop}}], rules: [{{backendRefs: [{{name: {service}, namespace: shop, port: 80}}]}}]"
        )
    };
    let (snapshot, problems) = with(
        &(route("HTTPRoute", "producer", "shop", &spec("cart-v2"))
            + &route("HTTPRoute", "consumer", "money", &spec("cart"))),
    );
    assert_eq!(problems, []);
    for (namespace, name) in [("shop", "producer"), ("other", "producer"), ("money", "consumer")] {
        let rule = choose(&snapshot, "10.9.0.1:80", namespace, "/").unwrap();
        assert_eq!(&*rule.name.name, name, "{namespace}");
    }
    assert!(choose(&snapshot, "10.9.0.2:80", "shop", "/").is_none());
}

#[test]
fn a_backend_in_another_namespace_needs_a_grant() {
    let spec = format!("{PARENT}, rules: [{{backendRefs: [{{name: bank, namespace: money, port: 80}}]}}]");
    let from = "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}";
    let to = "{group: '', kind: Service}";
    let table = [
        ("money", from, to, "v1beta1", true),
        ("money", from, "{group: '', kind: Service, name: bank}", "v1", true),
        ("money", from, "{group: '', kind: Service, name: other}", "v1beta1", false),
        ("money", from, "{group: '', kind: Secret}", "v1beta1", false),
        (
            "money",
            "{group: gateway.networking.k8s.io, kind: GRPCRoute, namespace: shop}",
            to,
            "v1beta1",
            false,
        ),
        (
            "money",
            "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: other}",
            to,
            "v1beta1",
            false,
        ),
        ("money", "{group: '', kind: HTTPRoute, namespace: shop}", to, "v1beta1", false),
        ("shop", from, to, "v1beta1", false),
    ];
    for (namespace, from, to, version, granted) in table {
        let grant = format!(
            "{{apiVersion: gateway.networking.k8s.io/{version}, kind: ReferenceGrant, metadata: {{name: g, namespace: {namespace}}}, spec: {{from: [{from}], to: [{to}]}}}}\n---\n"
        );
        let (snapshot, problems) = with(&(grant + &route("HTTPRoute", "r", "shop", &spec)));
        let expected = if granted { "bank:80" } else { "namespace" };
        assert_eq!(backends(&rule(&snapshot)), [(1, expected.to_owned())], "{from} {to}");
        let field = ["spec.rules[0].backendRefs[0].namespace"];
        assert_eq!(fields(&problems), if granted { &field[..0] } else { &field[..] });
    }
}

#[test]
fn a_backend_that_cannot_be_used_spoils_its_share() {
    let table = [
        ("{name: cart-v2, port: 80, weight: 9}", 9, "cart-v2:80", ""),
        ("{name: headless, port: 80, weight: 0}", 0, "headless:80", ""),
        ("{name: missing, port: 80}", 1, "name", "name"),
        ("{name: cart}", 1, "port", "port"),
        ("{name: cart, port: 8080}", 1, "port", "port"),
        ("{name: cart-v2, port: 53}", 1, "port", "port"),
        ("{name: outside, port: 80}", 1, "name", "name"),
        ("{kind: Secret, name: cart, port: 80}", 1, "kind", "kind"),
        ("{group: multicluster.x-k8s.io, kind: ServiceImport, name: cart, port: 80}", 1, "kind", "kind"),
        ("{name: cart, port: 80, weight: -1}", 1, "weight", "weight"),
        ("{name: cart, port: 80, weight: 1000001}", 1, "weight", "weight"),
        (
            "{name: cart, port: 80, filters: [{type: RequestRedirect, requestRedirect: {}}]}",
            1,
            "filters",
            "filters",
        ),
        ("{name: cart, port: 80, filters: [{type: Nonsense}]}", 1, "filters[0].type", "filters[0].type"),
    ];
    for (backend, weight, name, field) in table {
        let (snapshot, problems) = with_rule(&format!("backendRefs: [{{name: cart, port: 81}}, {backend}]"));
        let expected = [(1, "cart:81".to_owned()), (weight, name.to_owned())];
        assert_eq!(backends(&rule(&snapshot)), expected, "{backend}");
        let field = format!("spec.rules[0].backendRefs[1].{field}");
        assert_eq!(fields(&problems), if name.contains(':') { vec![] } else { vec![field.as_str()] });
        assert!(problems.iter().all(|problem| problem.object == "HTTPRoute/shop/r"));
    }
}

#[test]
fn a_rule_that_is_not_valid_answers_and_says_why() {
    let header = "requestHeaderModifier";
    let modifier = |body: &str| format!("filters: [{{type: RequestHeaderModifier, {header}: {{{body}}}}}]");
    let redirect = "{type: RequestRedirect, requestRedirect: {scheme: https}}";
    let rewrite = "{type: URLRewrite, urlRewrite: {hostname: a.b}}";
    let prefix = "{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /x}}}";
    let table = [
        (format!("filters: [{redirect}]"), "filters"),
        ("filters: [{type: Nonsense}]".into(), "filters[0].type"),
        ("filters: [{type: ExtensionRef, extensionRef: {name: a}}]".into(), "filters[0].type"),
        ("filters: [{}]".into(), "filters[0].type"),
        ("filters: [{type: CORS}]".into(), "filters[0].cors"),
        (format!("filters: [{rewrite}, {rewrite}]"), "filters[1].type"),
        (modifier("set: [{name: 'a b', value: c}]"), "filters[0].requestHeaderModifier.set[0].name"),
        (modifier("set: [{name: a, value: b}], remove: [A]"), "filters[0].requestHeaderModifier.remove[0]"),
        (modifier("set: [{name: Content-Length, value: '1'}]"), "filters[0].requestHeaderModifier.set[0].name"),
        (modifier("remove: [host]"), "filters[0].requestHeaderModifier.remove[0]"),
        (modifier("add: [{name: a, value: \"b\\r\\nc: d\"}]"), "filters[0].requestHeaderModifier.add[0].value"),
        (format!("matches: [{{path: {{type: Exact, value: /}}}}], filters: [{prefix}]"), "matches"),
        (format!("matches: [{{}}, {{path: {{type: Exact, value: /x}}}}], backendRefs: [{{name: cart, port: 80, filters: [{prefix}]}}]"), "matches"),
        ("matches: [{}, {path: {type: Glob, value: /x}}]".into(), "matches[1].path"),
        ("matches: [{}, {path: {value: x}}]".into(), "matches[1].path"),
        ("matches: [{}, {path: {value: /a//b}}]".into(), "matches[1].path"),
        ("matches: [{}, {path: {type: RegularExpression, value: '('}}]".into(), "matches[1].path"),
        ("matches: [{}, {method: get}]".into(), "matches[1].method"),
        ("matches: [{}, {method: {service: a}}]".into(), "matches[1].method"),
        ("matches: [{}, {headers: [{name: 'a b', value: c}]}]".into(), "matches[1].headers[0].name"),
        ("matches: [{}, {headers: [{type: Nearly, name: a, value: c}]}]".into(), "matches[1].headers[0]"),
        ("matches: [{}, {queryParams: [{type: RegularExpression, name: a, value: '['}]}]".into(), "matches[1].queryParams[0]"),
        ("timeouts: {request: 1.5s}".into(), "timeouts.request"),
        ("timeouts: {request: 1s, backendRequest: 2s}".into(), "timeouts.backendRequest"),
        ("retry: {codes: [200]}".into(), "retry.codes[0]"),
        ("retry: {attempts: -1}".into(), "retry.attempts"),
        ("retry: {backoff: soon}".into(), "retry.backoff"),
        ("filters: [{type: RequestMirror, requestMirror: {backendRef: {name: cart, port: 80}, percent: 101}}]".into(), "filters[0].requestMirror.percent"),
        ("filters: [{type: CORS, cors: {allowOrigins: ['*', 'http://a']}}]".into(), "filters[0].cors.allowOrigins"),
        ("filters: [{type: CORS, cors: {allowOrigins: [shop]}}]".into(), "filters[0].cors.allowOrigins[0]"),
    ];
    for (given, field) in table {
        let given = if given.contains("backendRefs") { given } else { format!("{given}, {BACKEND}") };
        let (snapshot, problems) = with_rule(&given);
        let invalid = rule(&snapshot);
        let Action::Invalid(reason) = &invalid.action else { panic!("{given}: {:?}", invalid.action) };
        let field = match field {
            "filters" => "spec.rules[0].backendRefs".to_owned(),
            field => format!("spec.rules[0].{field}"),
        };
        assert_eq!(fields(&problems), [field], "{given}");
        assert!(reason.contains(&problems[0].reason), "{reason}");
    }
    let both = format!("filters: [{redirect}, {rewrite}]");
    assert_eq!(fields(&with_rule(&both).1), ["spec.rules[0].filters"]);
}

#[test]
fn a_match_that_is_not_understood_matches_nothing() {
    let (snapshot, problems) =
        with_rule(&format!("matches: [{{path: {{type: Glob, value: /x}}}}], {BACKEND}"));
    assert_eq!(fields(&problems), ["spec.rules[0].matches[0].path"]);
    assert!(choose(&snapshot, "10.9.0.1:80", "x", "/x").is_none());
    let table = snapshot.routes[&("10.9.0.1".parse().unwrap(), 80)].of("x").unwrap().clone();
    assert!(matches!(table.rules(), [rule] if matches!(rule.action, Action::Invalid(_))));
}

#[test]
fn reads_time_outs_and_retries() {
    let (snapshot, problems) = with_rule(&format!(
        "timeouts: {{request: 2s, backendRequest: 500ms}}, retry: {{codes: [500, 503], attempts: 4, backoff: 100ms}}, {BACKEND}"
    ));
    assert_eq!(problems, []);
    let rule = rule(&snapshot);
    assert_eq!((rule.request_timeout_ns, rule.backend_timeout_ns), (Some(2_000_000_000), Some(500_000_000)));
    let retry = rule.retry.as_ref().unwrap();
    assert_eq!((retry.attempts, retry.codes.as_slice(), retry.any_method), (4, &[500, 503][..], true));
    assert_eq!((retry.backoff_ns, retry.backoff_max_ns), (100_000_000, 1_000_000_000));
    let table = [
        ("timeouts: {request: 0s, backendRequest: 1s}", (None, Some(1_000_000_000)), None),
        ("timeouts: {request: 1s, backendRequest: 0s}", (Some(1_000_000_000), None), None),
        ("retry: {attempts: 0}", (None, None), Some((0, false))),
        ("retry: {}", (None, None), Some((2, false))),
        ("retry: {codes: []}", (None, None), Some((2, false))),
    ];
    for (given, times, retry) in table {
        let (snapshot, problems) = with_rule(&format!("{given}, {BACKEND}"));
        let rule = self::rule(&snapshot);
        assert_eq!(problems, [], "{given}");
        assert_eq!((rule.request_timeout_ns, rule.backend_timeout_ns), times, "{given}");
        assert_eq!(rule.retry.as_ref().map(|retry| (retry.attempts, retry.any_method)), retry, "{given}");
    }
}

#[test]
fn reads_every_filter() {
    let (snapshot, problems) = with_rule(&format!(
        "filters: [
          {{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: X-A, value: '1'}}]}}}},
          {{type: ResponseHeaderModifier, responseHeaderModifier: {{remove: [x-b]}}}},
          {{type: URLRewrite, urlRewrite: {{hostname: a.b, path: {{type: ReplaceFullPath, replaceFullPath: /x}}}}}},
          {{type: RequestMirror, requestMirror: {{backendRef: {{name: cart-v2, port: 80}}, percent: 5}}}},
          {{type: RequestMirror, requestMirror: {{backendRef: {{name: cart, port: 81}}, fraction: {{numerator: 1, denominator: 3}}}}}},
          {{type: RequestMirror, requestMirror: {{backendRef: {{name: missing, port: 80}}}}}},
          {{type: CORS, cors: {{allowOrigins: ['https://*.a.b'], maxAge: 9}}}}], {BACKEND}"
    ));
    assert_eq!(fields(&problems), ["spec.rules[0].filters[5].requestMirror.backendRef.name"]);
    let rule = rule(&snapshot);
    let filters = &rule.filters;
    assert_eq!(filters.request_headers.set[0].0, "x-a");
    assert_eq!(filters.response_headers.remove, ["x-b"]);
    assert_eq!(filters.rewrite.as_ref().unwrap().hostname.as_ref().unwrap(), "a.b");
    let shares: Vec<(u32, u32, bool)> = filters
        .mirrors
        .iter()
        .map(|mirror| (mirror.numerator, mirror.denominator, mirror.port.is_ok()))
        .collect();
    assert_eq!(shares, [(5, 100, true), (1, 3, true), (1, 1, false)]);
    assert_eq!(filters.cors.as_ref().unwrap().max_age, 9);
    assert!(matches!(rule.action, Action::Forward(_)));
    let (snapshot, problems) =
        with_rule("filters: [{type: RequestRedirect, requestRedirect: {statusCode: 308, port: 8443}}]");
    assert!(problems.is_empty());
    assert!(
        matches!(&self::rule(&snapshot).action, Action::Redirect(to) if to.status == 308 && to.port == Some(8443))
    );
}

#[test]
fn a_rule_without_backends_answers_500_and_says_so() {
    for (rules, field) in [(", rules: [{}]", "spec.rules[0].backendRefs"), ("", "spec.rules[0].backendRefs")]
    {
        let (snapshot, problems) = with(&route("HTTPRoute", "r", "shop", &format!("{PARENT}{rules}")));
        assert_eq!(fields(&problems), [field]);
        assert!(rule(&snapshot).backend(7).is_none());
    }
}

#[test]
fn a_grpc_route_rules_http_routes_out() {
    let grpc = format!(
        "parentRefs: [{{kind: Service, name: cart, port: 80}}], rules: [{{matches: [{{method: {{service: shop.Cart}}}}], {BACKEND}}}]"
    );
    let (snapshot, problems) = with(
        &(route("GRPCRoute", "g", "shop", &grpc)
            + &route("HTTPRoute", "h", "shop", &format!("{PARENT}, rules: [{{{BACKEND}}}]"))),
    );
    assert_eq!(fields(&problems), ["spec.parentRefs[0]"]);
    assert_eq!(problems[0].object, "HTTPRoute/shop/h");
    let name = |address, path| choose(&snapshot, address, "x", path).map(|rule| rule.name.to_string());
    assert_eq!(name("10.9.0.1:80", "/shop.Cart/Get").as_deref(), Some("GRPCRoute/shop/g rule 0"));
    assert_eq!(name("10.9.0.1:80", "/other.Cart/Get"), None);
    assert_eq!(name("10.9.0.1:81", "/shop.Cart/Get").as_deref(), Some("HTTPRoute/shop/h rule 0"));
}

#[test]
fn a_grpc_route_refuses_what_is_of_http() {
    let table = [
        ("matches: [{}, {path: {value: /x}}]", "matches[1]"),
        ("matches: [{}, {method: GET}]", "matches[1].method"),
        ("matches: [{}, {method: {service: a/b}}]", "matches[1].method.service"),
        ("matches: [{}, {method: {type: Nearly, method: b}}]", "matches[1].method.method"),
        ("filters: [{type: CORS, cors: {}}]", "filters[0].type"),
    ];
    for (given, field) in table {
        let spec = format!("{PARENT}, rules: [{{{given}, {BACKEND}}}]");
        let (snapshot, problems) = with(&route("GRPCRoute", "g", "shop", &spec));
        assert_eq!(fields(&problems), [format!("spec.rules[0].{field}")], "{given}");
        assert!(matches!(rule(&snapshot).action, Action::Invalid(_)));
    }
}

#[test]
fn keeps_the_family_of_the_caller_and_compiles_an_expression_once() {
    let yaml = "{apiVersion: v1, kind: Service, metadata: {name: cart, namespace: shop}, spec: {clusterIPs: [10.9.0.1, 'fd00::1'], ports: [{port: 80}]}}\n---\n".to_owned()
        + &route("HTTPRoute", "r", "shop", &format!("{PARENT}, rules: [{{matches: [{{path: {{type: RegularExpression, value: '/.*'}}}}], {BACKEND}}}]"));
    let (first, problems) = build(&inputs(&yaml), &context(), None);
    assert_eq!(problems, []);
    for address in ["10.9.0.1:80", "[fd00::1]:80"] {
        let rule = choose(&first, address, "x", "/").unwrap();
        let Action::Forward(backends) = &rule.action else { panic!() };
        let address: std::net::SocketAddr = address.parse().unwrap();
        let own = &first.service_ports[&(address.ip(), 80)];
        assert!(Arc::ptr_eq(backends[0].port.as_ref().unwrap(), own));
    }
    let (second, _) = build(&inputs(&yaml), &context(), Some(&first));
    assert!(choose(&second, "10.9.0.1:80", "x", "/a").is_some());
}
