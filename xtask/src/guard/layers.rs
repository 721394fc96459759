//! Rule: who may use whom, as the architecture fixes it. Pure. Seen are paths such as `crate::path` and members of
//! grouped imports (`use crate::{path, bpf}`); a re-export under another name would escape.

use super::Finding;
use super::source::{SourceFile, has_word};

/// A folder of the agent and the modules of ours it must not name.
const MODULES: [(&str, &[&str]); 5] = [
    ("agent/src/path/", &["control", "bpf", "ca", "cli"]),
    ("agent/src/control/", &["path", "bpf", "tls", "tunnel", "identity", "ca", "cli"]),
    (
        "agent/src/snapshot/",
        &[
            "path",
            "bpf",
            "tls",
            "tunnel",
            "identity",
            "ca",
            "cli",
            "control",
            "observe",
            "resilience",
            "config",
            "worker",
            "netns",
        ],
    ),
    ("agent/src/bpf/", &["path", "control", "ca", "cli", "tunnel"]),
    (
        "agent/src/resilience/",
        &[
            "path", "bpf", "tls", "tunnel", "identity", "ca", "cli", "control", "observe", "config",
            "worker", "netns",
        ],
    ),
];

/// A crate or module of the standard library, and the only places that may name it.
const OWNERS: [(&str, &[&str]); 8] = [
    ("aya", &["agent/src/bpf/"]),
    ("aya_log", &["agent/src/bpf/"]),
    ("aya_ebpf", &["agent-ebpf/"]),
    ("aya_log_ebpf", &["agent-ebpf/"]),
    ("kube", &["agent/src/control/", "agent/src/ca/", "agent/src/cli/cluster/", "tests/", "agent/tests/"]),
    (
        "std::env",
        &[
            "agent/src/config.rs",
            "agent/src/config/",
            "agent/src/main.rs",
            "agent/src/cli/",
            "agent/build.rs",
            "xtask/",
            "tests/",
            "agent/tests/",
        ],
    ),
    (
        "clap",
        &[
            "agent/src/config.rs",
            "agent/src/config/",
            "agent/src/main.rs",
            "agent/src/cli/",
            "xtask/",
            "tests/src/bin/",
            "tests/src/demo/",
            "tests/src/bench/",
        ],
    ),
    (
        "k8s_openapi",
        &["agent/src/control/", "agent/src/ca/", "agent/src/cli/cluster/", "tests/", "agent/tests/"],
    ),
];

/// Tests may look from outside: a snapshot's tables read like Kubernetes, and the kernel is asked what is left.
fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.starts_with("agent/") && path.contains("/tests/")
}

pub(super) fn layers(file: &SourceFile) -> Vec<Finding> {
    if !file.is_rust() || is_test(&file.path) {
        return Vec::new();
    }
    let mut findings = foreign_crates(file);
    findings.extend(forbidden_modules(file));
    findings
}

fn foreign_crates(file: &SourceFile) -> Vec<Finding> {
    let strangers =
        OWNERS.iter().filter(|(_, places)| !places.iter().any(|place| file.path.starts_with(place)));
    let hits = strangers.flat_map(|(name, places)| {
        let lines = file.code.iter().enumerate().filter(|(_, line)| names_crate(line, name));
        lines.map(move |(index, _)| (index + 1, format!("{name} is used only in {}", places.join(", "))))
    });
    hits.map(|(line, what)| Finding::new(file, line, what)).collect()
}

/// A path that begins with the crate, `use crate;` included: `kube::Client`, `use kube as k`.
fn names_crate(line: &str, name: &str) -> bool {
    let by_path = has_word(line, &format!("{name}::")) && !line.contains(&format!("::{name}::"));
    let by_use = line.trim_start().strip_prefix("use ").is_some_and(|rest| {
        let rest = rest.strip_prefix(name).unwrap_or_default();
        rest.starts_with([';', ' '])
    });
    by_path || by_use
}

fn forbidden_modules(file: &SourceFile) -> Vec<Finding> {
    let rules = MODULES.iter().filter(|(folder, _)| file.path.starts_with(folder));
    let imports = modules_named(&file.code);
    let hits = rules.flat_map(|(folder, forbidden)| {
        let bad = imports.iter().filter(|(_, name)| forbidden.contains(&name.as_str()));
        bad.map(move |(line, name)| {
            (*line, format!("{folder} must not use `{name}` (who may use whom, in the architecture)"))
        })
    });
    hits.map(|(line, what)| Finding::new(file, line, what)).collect()
}

/// (line, top-level module of our crate that it names), for `crate::name` and the members of `crate::{…}`.
fn modules_named(code: &[String]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut group_depth = 0_usize;
    for (index, line) in code.iter().enumerate() {
        let mut rest = line.as_str();
        if group_depth > 0 {
            group_depth = members(rest, group_depth, index + 1, &mut found);
            continue;
        }
        while let Some((_, behind)) = rest.split_once("crate::") {
            if let Some(inside) = behind.strip_prefix('{') {
                group_depth = members(inside, 1, index + 1, &mut found);
            } else {
                found.push((index + 1, first_word(behind)));
            }
            rest = behind;
        }
    }
    found
}

/// Reads the members of a group at its first depth; answers with the depth at the end of the line.
fn members(text: &str, mut depth: usize, line: usize, found: &mut Vec<(usize, String)>) -> usize {
    let mut at_start = true;
    for (at, character) in text.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if depth == 1 && at_start && (character.is_alphanumeric() || character == '_') {
            found.push((line, first_word(text.get(at..).unwrap_or_default())));
        }
        at_start = character == ',' || (at_start && character == ' ');
    }
    depth
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn count(path: &str, code: &str) -> usize {
        layers(&SourceFile::new(path, &format!("//! A header that says enough.\n{code}\n"))).len()
    }

    #[test]
    fn a_crate_outside_its_place_is_found() {
        assert_eq!(count("agent/src/path/mod.rs", "use aya::maps::HashMap;"), 1);
        assert_eq!(count("agent/src/path/mod.rs", "let x = kube::Client::new();"), 1);
        assert_eq!(count("agent/src/path/mod.rs", "use kube;"), 1);
        assert_eq!(count("agent/src/tunnel/pool.rs", "let x = std::env::var(\"X\");"), 1);
        assert_eq!(count("agent/src/bpf/load.rs", "use aya::Ebpf;"), 0);
        assert_eq!(count("agent/src/path/mod.rs", "use crate::snapshot::clap::x;"), 0);
    }

    #[test]
    fn a_module_that_must_not_be_used_is_found() {
        assert_eq!(count("agent/src/path/accept.rs", "use crate::control::files;"), 1);
        assert_eq!(count("agent/src/control/files.rs", "fn f() -> crate::bpf::Capture {}"), 1);
        assert_eq!(count("agent/src/snapshot/build.rs", "use crate::{snapshot::model, observe::Table};"), 1);
        assert_eq!(
            count(
                "agent/src/bpf/plan.rs",
                "use crate::{\n    snapshot::{model, path},\n    path::accept,\n};"
            ),
            1
        );
        assert_eq!(count("agent/src/path/accept.rs", "use crate::snapshot::path::control;"), 0);
    }
}
