//! The definition is the one in `deploy/crds`, and structural as the API server wants it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;

use super::*;
use crate::snapshot::input::duration;

#[test]
fn the_files_are_fresh() {
    for one in Definition::ALL {
        let name = format!("deploy/crds/{}.yaml", one.about().singular);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(&name);
        let file = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(file == one.yaml().unwrap(), "{name} is stale: run `cargo xtask crds`");
    }
}

/// Every schema below, with its path.
fn walk(schema: &Value, path: &str, see: &mut impl FnMut(&str, &Value)) {
    see(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(property, &format!("{path}.{name}"), see);
    }
    if let Some(items) = schema.get("items") {
        walk(items, &format!("{path}[]"), see);
    }
}

#[test]
fn is_structural_and_says_all() {
    let definition = Definition::TrafficPolicy.object();
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut count = 0;
    walk(schema, "", &mut |path, schema| {
        count += 1;
        assert!(schema["type"].is_string(), "{path}: {schema}");
        for forbidden in ["$ref", "$defs", "anyOf", "oneOf", "allOf", "title", "default"] {
            assert!(schema.get(forbidden).is_none(), "{path} has {forbidden}");
        }
        let of_spec = path.starts_with(".spec");
        if of_spec && !path.ends_with("[]") {
            assert!(schema["description"].is_string(), "{path} has no description");
        }
        // A field that may be absent says what is then in force.
        let leaf = !["object", "array"].contains(&schema["type"].as_str().unwrap());
        if of_spec
            && leaf
            && !path.contains("targetRefs")
            && !path.contains("consistentHash")
            && !path.ends_with("[]")
        {
            let said = schema["description"].as_str().unwrap();
            assert!(
                ["Default", "default", "Absent"].iter().any(|word| said.contains(word)),
                "{path}: {said}"
            );
        }
        if schema["type"] == "integer" && of_spec {
            assert!(schema["minimum"].is_i64() && schema["maximum"].is_i64(), "{path}: {schema}");
            assert_eq!(schema["format"], "int64", "{path}");
        }
    });
    assert!(count > 60, "{count}");
    let spec = &schema["properties"]["spec"];
    assert_eq!(spec["required"], json!(["targetRefs"]));
    let balancer = &spec["properties"]["loadBalancer"]["properties"];
    assert_eq!(balancer["type"]["enum"], json!(["PowerOfTwo", "ConsistentHash"]));
    assert_eq!(balancer["slowStart"]["pattern"], duration::PATTERN);
    assert_eq!(spec["properties"]["targetRefs"]["maxItems"], 16);
    let reference = &spec["properties"]["targetRefs"]["items"];
    assert_eq!(reference["required"], json!(["kind", "name"]));
    assert_eq!(reference["x-kubernetes-validations"].as_array().unwrap().len(), 1);
}

#[test]
fn the_policy_of_callers_is_structural_too() {
    let definition = Definition::AuthorizationPolicy.object();
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    walk(schema, "", &mut |path, schema| {
        assert!(schema["type"].is_string(), "{path}: {schema}");
        assert!(schema.get("anyOf").is_none() && schema.get("oneOf").is_none(), "{path}: {schema}");
        assert!(!schema["additionalProperties"].is_boolean(), "{path}: {schema}");
        if path.starts_with(".spec") && !path.ends_with("[]") {
            assert!(schema["description"].is_string(), "{path} has no description");
        }
    });
    let spec = &schema["properties"]["spec"]["properties"];
    assert_eq!(spec["action"]["enum"], json!(["ALLOW", "DENY"]));
    assert_eq!(spec["selector"]["properties"]["matchLabels"]["additionalProperties"]["type"], "string");
    assert_eq!(spec["rules"]["items"]["properties"]["from"]["items"]["required"], json!(["source"]));
}
