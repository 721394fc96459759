//! What a file's text turns into.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;

const GOOD: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIP: 10.0.0.1}\n";

fn yaml(text: &str) -> Vec<Item> {
    parse("f.yaml", text, Format::Yaml)
}

/// `+` good, `-` bad, `.` ignored.
fn shape(items: &[Item]) -> String {
    items
        .iter()
        .map(|item| match item {
            Item::Good(..) => '+',
            Item::InPart(..) | Item::Bad(..) => '-',
            Item::Ignored => '.',
        })
        .collect()
}

fn problem(text: &str) -> String {
    match &yaml(text)[..] {
        [Item::Bad(_, problem)] => problem.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_bad_document_hides_no_other() {
    let table = [
        (format!("{GOOD}---\n{{[\n---\n{GOOD}"), "+-+"),
        (format!("# only words\n---\n\n---\n{GOOD}...\n---\n"), "+"),
        (format!("%YAML 1.2\n--- # words\n{GOOD}"), "+"),
        (format!("\u{feff}{GOOD}---\r\n{GOOD}"), "++"),
        (format!("{GOOD}--- {{apiVersion: v1, kind: ConfigMap}}\n"), "+."),
        (format!("data: |\n  text\n---\n{GOOD}"), "-+"),
        ("- 1\n- 2\n".to_owned(), "-"),
        (format!("{GOOD}---\nkind: Service\nkind: Pod\n"), "+-"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {unknown: *nothing}".to_owned(), "-"),
        (String::new(), ""),
    ];
    for (text, expected) in table {
        assert_eq!(shape(&yaml(&text)), expected, "{text:?}");
    }
}

#[test]
fn knows_whose_kind_it_is() {
    let table = [
        ("v1", "Service", '+'),
        ("v2", "Service", '-'),
        ("core/v1", "Service", '-'),
        ("serving.knative.dev/v1", "Service", '.'),
        ("apps/v1", "Deployment", '.'),
        ("gateway.networking.k8s.io/v1", "HTTPRoute", '+'),
        ("gateway.networking.k8s.io/v1beta1", "HTTPRoute", '+'),
        ("gateway.networking.k8s.io/v1alpha2", "HTTPRoute", '-'),
        ("gateway.networking.k8s.io/v1alpha2", "GRPCRoute", '+'),
        ("gateway.networking.k8s.io/v1", "ReferenceGrant", '+'),
        ("gateway.networking.k8s.io/v1beta1", "ReferenceGrant", '+'),
        ("gateway.networking.k8s.io/v1", "Gateway", '.'),
        ("example.com/v1", "HTTPRoute", '.'),
        ("v1", "EndpointSlice", '-'),
        ("discovery.k8s.io/v1beta1", "EndpointSlice", '-'),
        ("''", "Service", '-'),
    ];
    for (version, kind, expected) in table {
        let text =
            format!("{{apiVersion: {version}, kind: {kind}, metadata: {{name: a}}, addressType: IPv4}}");
        assert_eq!(shape(&yaml(&text)), expected.to_string(), "{version} {kind}");
    }
}

/// A policy that nobody reads protects nobody: what was plainly meant for us is never passed over in silence.
#[test]
fn a_slip_in_kind_or_group_of_ours_is_said() {
    const OURS: &str = "posthaste.dev/v1alpha1";
    let table = [
        ("security.istio.io/v1", "AuthorizationPolicy", None),
        ("example.com/v1", "TrafficPolicy", None),
        ("example.com/v1", "AuthorisationPolicy", None),
        (
            OURS,
            "AuthorizationPolicie",
            Some(
                "kind: `AuthorizationPolicie` is no kind of posthaste.dev, which has TrafficPolicy and AuthorizationPolicy",
            ),
        ),
        (
            OURS,
            "AuthorisationPolicy",
            Some("kind: `AuthorisationPolicy` is no kind that the mesh reads; write AuthorizationPolicy"),
        ),
        (OURS, "PeerAuthentication", Some("kind: `PeerAuthentication` is no kind of posthaste.dev")),
        (
            OURS,
            "HTTPRoute",
            Some(
                "apiVersion: `posthaste.dev/v1alpha1` has no HTTPRoute that the mesh reads; use `gateway.networking.k8s.io/v1`",
            ),
        ),
        ("posthaste.dev/v1", "AuthorizationPolicy", Some("use `posthaste.dev/v1alpha1`")),
        ("posthaste.dev/v1", "TraficPolicy", Some("write TrafficPolicy")),
        ("posthaste.dev", "TrafficPolicy", Some("use `posthaste.dev/v1alpha1`")),
        (
            "posthaste.io/v1alpha1",
            "TrafficPolicy",
            Some(
                "apiVersion: `posthaste.io/v1alpha1` is no group and version of ours; write `posthaste.dev/v1alpha1`",
            ),
        ),
        ("posthast.dev/v1alpha1", "AuthorizationPolicy", Some("write `posthaste.dev/v1alpha1`")),
        ("policy.posthaste.dev/v1", "TrafficPolicie", Some("write `posthaste.dev/v1alpha1`")),
    ];
    for (version, kind, expected) in table {
        let text = format!("{{apiVersion: {version}, kind: {kind}, metadata: {{name: a}}}}");
        match expected {
            None => assert_eq!(shape(&yaml(&text)), ".", "{version} {kind}"),
            Some(words) => {
                let found = problem(&text);
                assert!(found.contains(&format!("{kind}/")) && found.contains(words), "{found}\n{words}");
            }
        }
    }
}

#[test]
fn names_file_document_object_field_and_reason() {
    let table = [
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: n}\nspec: {ports: [{port: 80}, {port: x}]}",
            "f.yaml document 1: Service/n/a: spec.ports[1].port: invalid type",
        ),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: A_b}", "Pod/default/A_b: metadata.name: `A_b` is not"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {}", "Pod/default/: metadata.name: is missing"),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [], serviceAccountName: a/b}",
            "spec.serviceAccountName: `a/b`",
        ),
        ("kind: Pod\nmetadata: {name: a}", "Pod/a: apiVersion: is missing"),
        ("apiVersion: v1\nmetadata: {name: a}", "a: kind: is missing"),
        ("# x\nkind: Pod\nmetadata:\n  name: a\n  - b", "Pod/a: is not YAML (line 5 of the file)"),
    ];
    for (text, expected) in table {
        let found = problem(text);
        assert!(found.contains(expected), "{found}\n{expected}");
    }
}

#[test]
fn opens_lists_and_json() {
    let member = "{apiVersion: v1, kind: Pod, metadata: {name: a}}";
    assert_eq!(
        shape(&yaml(&format!("{{apiVersion: v1, kind: List, items: [{member}, 5, {member}]}}"))),
        "+-+"
    );
    let typed = "{apiVersion: v1, kind: PodList, items: [{metadata: {name: a}}, {metadata: {name: b}}]}";
    assert_eq!(shape(&yaml(typed)), "++");
    let json = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}} {"apiVersion":"v1","kind":"Pod","metadata":{"name":"b"}} {"#;
    assert_eq!(shape(&parse("f.json", json, Format::Json)), "++-");
}

#[test]
fn refuses_bombs() {
    use std::fmt::Write;
    let mut bomb = format!("a: &x0 {}\n", "lol".repeat(1000));
    for level in 1..9 {
        let below = format!("*x{},", level - 1).repeat(10);
        writeln!(bomb, "b{level}: &x{level} [{below}]").unwrap();
    }
    let found = problem(&bomb);
    assert!(found.contains("aliases") || found.contains("repetition"), "{found}");
    assert_eq!(shape(&yaml(&"[".repeat(100_000))), "-");
    assert_eq!(shape(&yaml("a: &a [*a]\n")), "-");
    // Honest aliases are fine.
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: &n a, labels: {app: *n}}";
    assert_eq!(shape(&yaml(text)), "+");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(256))]
    #[test]
    fn never_panics(text in "(---|apiVersion: v1|kind: (Pod|Service|List)|items:|metadata:|[ \\-:{}\\[\\]&*|>%\n\t'\"a#!~]){0,40}") {
        let _ = yaml(&text);
        let _ = parse("f.json", &text, Format::Json);
    }
}

#[test]
fn a_match_with_a_field_that_nobody_knows_is_refused() {
    let route = |rule: &str| {
        format!(
            "{{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {{name: a}}, spec: {{rules: [{{{rule}}}]}}}}"
        )
    };
    assert!(problem(&route("matches: [{pth: {value: /x}}]")).contains("spec.rules[0].matches[0].pth"));
    assert!(
        problem(&route("backendRefs: [{name: a, port: b}]")).contains("spec.rules[0].backendRefs[0].port")
    );
    assert_eq!(shape(&yaml(&route("sessionPersistence: {}, matches: [{path: {value: /x}}]"))), "+");
}
