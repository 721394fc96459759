//! What is cut out, and what is left.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;

fn read(spec: &str) -> AuthorizationPolicy {
    let text = format!("{{metadata: {{name: a, namespace: b}}, spec: {spec}}}");
    in_part(&serde_yaml_ng::from_str(&text).unwrap(), &"f".into()).unwrap()
}

fn member(path: &str) -> Part {
    Part::Member(path.into())
}

#[test]
fn the_smallest_part_is_cut_out() {
    let table: &[(&str, &str, &[Part])] = &[
        ("{action: Deny}", "spec.action", &[Part::Action]),
        ("{acton: DENY}", "spec.acton", &[Part::Action]),
        ("{action: DENY, selector: app=a}", "spec.selector", &[Part::Target]),
        ("{selector: {matchLabels: {a: 1}}}", "spec.selector.matchLabels.a", &[Part::Target]),
        ("{targetRefs: [{kind: Service, name: 1}]}", "spec.targetRefs[0].name", &[Part::Target]),
        ("{dryRun: 'yes'}", "spec.dryRun", &[Part::Trial]),
        ("{rule: [{}]}", "spec.rule", &[Part::Rule(0)]),
        ("{rules: all}", "spec.rules", &[Part::Rule(0)]),
        ("{rules: [{}, 7]}", "spec.rules[1]", &[Part::Rule(1)]),
        ("{rules: [{form: []}]}", "spec.rules[0].form", &[Part::Rule(0)]),
        ("{rules: [{from: x}]}", "spec.rules[0].from", &[Part::Rule(0)]),
        (
            "{rules: [{from: [{source: {}}, {source: {principal: [a]}}]}]}",
            "spec.rules[0].from[1].source.principal",
            &[member("spec.rules[0].from[1]")],
        ),
        (
            "{rules: [{to: [{operation: {ports: [80]}}]}]}",
            "spec.rules[0].to[0].operation.ports[0]",
            &[member("spec.rules[0].to[0]")],
        ),
        ("{rules: [{when: [{values: [a]}]}]}", "spec.rules[0].when[0]", &[member("spec.rules[0].when[0]")]),
        ("[]", "spec", &[Part::Target, Part::Action, Part::Trial, Part::Rule(0)]),
        ("{action: DENY, sources: []}", "spec.sources", &[Part::Target, Part::Trial, Part::Rule(0)]),
    ];
    for (spec, field, parts) in table {
        let policy = read(spec);
        let unread = policy.unread.unwrap_or_else(|| panic!("{spec}: whole"));
        let [fault] = &*unread.faults else { panic!("{spec}: {:?}", unread.faults) };
        assert_eq!((&*fault.field, &*fault.parts), (*field, *parts), "{spec}: {}", fault.reason);
    }
}

#[test]
fn all_faults_are_said_and_too_many_are_one() {
    let policy = read("{action: DENI, rules: [{from: [{source: {a: 1}}], b: 1}], selector: 1}");
    let fields: Vec<&str> =
        policy.unread.as_ref().unwrap().faults.iter().map(|fault| &*fault.field).collect();
    assert_eq!(fields.len(), 4, "{fields:?}");
    let many = format!("{{rules: [{}]}}", "1, ".repeat(MOST + 1));
    let unread = read(&many).unread.unwrap();
    assert_eq!((&*unread.faults[0].field, unread.faults.len()), ("spec", 1));
    assert!(read("{action: DENY, rules: [{}]}").unread.is_none());
    for nobody in ["{spec: {}}", "{metadata: {name: 7}}", "[]", "7"] {
        assert!(in_part(&serde_yaml_ng::from_str(nobody).unwrap(), &"f".into()).is_none(), "{nobody}");
    }
}
