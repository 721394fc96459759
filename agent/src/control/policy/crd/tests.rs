//! The definition is the one in `deploy/crds`, and structural as the API server wants it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;

use super::*;
use crate::snapshot::input::duration;

#[test]
fn the_file_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds/trafficpolicy.yaml");
    let file = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(file == yaml().unwrap(), "deploy/crds/trafficpolicy.yaml is stale: run `cargo xtask crds`");
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
    let definition = definition();
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut count = 0;
    walk(schema, "", &mut |path, schema| {
        count += 1;
        assert!(schema["type"].is_string(), "{path}: {schema}");
        for forbidden in
            ["$ref", "$defs", "anyOf", "oneOf", "allOf", "additionalProperties", "title", "default"]
        {
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
