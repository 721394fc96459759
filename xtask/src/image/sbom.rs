//! The bill of materials of the binary: every crate that is compiled into it, and into the eBPF programs, as CycloneDX 1.5 JSON
//! (`bom-1.5.schema.json`). What only builds or tests is left out. The document is a plain function of what cargo says.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::{Value, json};

use super::{Facts, layout};
use crate::{run, toolchain::Compiler, workspace};

/// A crate as its purl names it: name and version.
type Crate = (String, String);

/// The crates of one lock file, and what each needs.
#[derive(Default)]
struct Graph {
    /// By package id.
    packages: BTreeMap<String, Value>,
    needs: BTreeMap<String, BTreeSet<String>>,
}

/// Asks cargo and writes the document.
pub(super) fn gather(program: &[u8], facts: &Facts) -> Result<Vec<u8>, String> {
    let host = Compiler::ask().map_err(|error| error.to_string())?.host;
    let graphs = [
        reachable(&metadata("Cargo.toml", &["--filter-platform", &host])?, "posthaste")?,
        reachable(&metadata("agent-ebpf/Cargo.toml", &[])?, "agent-ebpf")?,
    ];
    let mut checksums = BTreeMap::new();
    for lock in ["Cargo.lock", "agent-ebpf/Cargo.lock"] {
        let path = workspace::root().join(lock);
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        checksums.extend(checksums_in(&text));
    }
    let document = document(&graphs, &checksums, &layout::digest(program), facts);
    serde_json::to_vec_pretty(&document).map_err(|error| error.to_string())
}

fn metadata(manifest: &str, more: &[&str]) -> Result<Value, String> {
    let mut command = Command::new("cargo");
    command.args(["metadata", "--format-version", "1", "--locked", "--manifest-path", manifest]).args(more);
    let text = run::output(command.current_dir(workspace::root()))?;
    serde_json::from_str(&text).map_err(|error| format!("cargo metadata: {error}"))
}

/// What is linked into the package `root`: its normal dependencies, and theirs.
fn reachable(metadata: &Value, root: &str) -> Result<Graph, String> {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let list =
        |pointer: &str| metadata.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut packages: BTreeMap<String, Value> =
        list("/packages").into_iter().filter_map(|package| Some((text(&package, "id")?, package))).collect();
    let nodes: BTreeMap<String, Value> =
        list("/resolve/nodes").into_iter().filter_map(|node| Some((text(&node, "id")?, node))).collect();
    let named = |package: &&Value| package.get("name").and_then(Value::as_str) == Some(root);
    let start = packages.values().find(named).and_then(|package| text(package, "id"));
    let mut waiting = vec![start.ok_or_else(|| format!("cargo metadata knows no package {root}"))?];
    let mut graph = Graph::default();
    while let Some(id) = waiting.pop() {
        let Some(package) = packages.remove(&id) else { continue };
        let needs: BTreeSet<String> = nodes.get(&id).map(normal_dependencies).unwrap_or_default();
        waiting.extend(needs.iter().cloned());
        graph.packages.insert(id.clone(), package);
        graph.needs.insert(id, needs);
    }
    Ok(graph)
}

/// The ids of the dependencies of one node that are neither for building nor for tests.
fn normal_dependencies(node: &Value) -> BTreeSet<String> {
    let dependencies = node.get("deps").and_then(Value::as_array).into_iter().flatten();
    let normal = dependencies.filter(|dependency| {
        let kinds = dependency.get("dep_kinds").and_then(Value::as_array).into_iter().flatten();
        kinds.into_iter().any(|kind| kind.get("kind").is_some_and(Value::is_null))
    });
    normal.filter_map(|dependency| Some(dependency.get("pkg")?.as_str()?.to_owned())).collect()
}

/// `checksum` by crate in the text of a lock file.
fn checksums_in(lock: &str) -> BTreeMap<Crate, String> {
    let field = |block: &str, name: &str| {
        let start = format!("{name} = \"");
        block.lines().find_map(|line| Some(line.strip_prefix(&start)?.trim_end_matches('"').to_owned()))
    };
    let blocks = lock.split("[[package]]");
    blocks
        .filter_map(|block| {
            Some(((field(block, "name")?, field(block, "version")?), field(block, "checksum")?))
        })
        .collect()
}

fn document(graphs: &[Graph], checksums: &BTreeMap<Crate, String>, program: &str, facts: &Facts) -> Value {
    let mut components = BTreeMap::new();
    let mut needs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for graph in graphs {
        let reference = |id: &String| graph.packages.get(id).and_then(name_of).map(|name| purl(&name));
        for (id, package) in &graph.packages {
            let Some(name) = name_of(package) else { continue };
            let wanted = graph.needs.get(id).into_iter().flatten().filter_map(reference);
            needs.entry(purl(&name)).or_default().extend(wanted);
            components.insert(purl(&name), component(package, &name, checksums));
        }
    }
    let own = purl(&("posthaste".to_owned(), facts.version.clone()));
    let mut main = components.remove(&own).unwrap_or_else(|| json!({}));
    if let Some(main) = main.as_object_mut() {
        main.insert("type".to_owned(), json!("application"));
        let hash = program.trim_start_matches("sha256:");
        main.insert("hashes".to_owned(), json!([{"alg": "SHA-256", "content": hash}]));
    }
    let dependencies: Vec<Value> = needs.iter().map(|(of, on)| json!({"ref": of, "dependsOn": on})).collect();
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"timestamp": layout::date(facts.epoch), "component": main},
        "components": components.into_values().collect::<Vec<_>>(),
        "dependencies": dependencies,
    })
}

fn name_of(package: &Value) -> Option<Crate> {
    let text = |key: &str| package.get(key).and_then(Value::as_str).map(str::to_owned);
    Some((text("name")?, text("version")?))
}

/// The package URL (purl-spec, type `cargo`).
fn purl((name, version): &Crate) -> String {
    format!("pkg:cargo/{name}@{version}")
}

fn component(package: &Value, name: &Crate, checksums: &BTreeMap<Crate, String>) -> Value {
    let mut component = json!({
        "type": "library",
        "bom-ref": purl(name),
        "purl": purl(name),
        "name": name.0,
        "version": name.1,
    });
    let Some(fields) = component.as_object_mut() else { return component };
    // `MIT/Apache-2.0` is how licences were written before SPDX expressions.
    let license = package.get("license").and_then(Value::as_str).map(|text| text.replace('/', " OR "));
    if let Some(expression) = license {
        fields.insert("licenses".to_owned(), json!([{"expression": expression}]));
    }
    if let Some(checksum) = checksums.get(name) {
        fields.insert("hashes".to_owned(), json!([{"alg": "SHA-256", "content": checksum}]));
    }
    component
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn package(name: &str) -> Value {
        json!({"id": name, "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0"})
    }

    fn needs(of: &str, on: &[(&str, Value)]) -> Value {
        let deps: Vec<_> =
            on.iter().map(|(id, kind)| json!({"pkg": id, "dep_kinds": [{"kind": kind}]})).collect();
        json!({"id": of, "deps": deps})
    }

    #[test]
    fn names_what_is_linked_and_nothing_else() {
        let metadata = json!({
            "packages": [package("posthaste"), package("used"), package("deep"), package("builds"), package("tests")],
            "resolve": {"nodes": [
                needs("posthaste", &[("used", Value::Null), ("builds", json!("build")), ("tests", json!("dev"))]),
                needs("used", &[("deep", Value::Null)]),
                needs("deep", &[]),
            ]},
        });
        let graph = reachable(&metadata, "posthaste").unwrap();
        let lock = "version = 4\n\n[[package]]\nname = \"used\"\nversion = \"1.0.0\"\nsource = \"x\"\nchecksum = \"ab\"\n";
        let facts = Facts { version: "1.0.0".to_owned(), revision: String::new(), epoch: 0 };
        let document = document(&[graph], &checksums_in(lock), "sha256:cd", &facts);
        let names: Vec<_> =
            document["components"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
        assert_eq!(names, ["deep", "used"]);
        assert_eq!(document["components"][1]["hashes"][0]["content"], "ab");
        assert_eq!(document["components"][1]["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(document["metadata"]["component"]["hashes"][0]["content"], "cd");
        assert_eq!(document["dependencies"][1]["dependsOn"], json!(["pkg:cargo/used@1.0.0"]));
        assert!(reachable(&metadata, "nobody").is_err());
    }
}
