//! Rules about manifests: every crate inherits the workspace's lints, and each dependency of the workspace stands
//! on one line that says why it is there and takes no default features, or why it does. Pure.

use super::Finding;
use super::source::SourceFile;

/// Crates taken with their default features, each with the reason.
const DEFAULT_FEATURES: [(&str, &str); 4] = [
    ("agent-common", "ours; it has no features"),
    ("libc", "its only default feature is std"),
    ("http", "its only default feature is std"),
    ("socket2", "it has no default features"),
];

/// A member that is no member: it compiles for another target, with lints of its own that mirror the workspace's.
const OWN_WORKSPACE: &str = "agent-ebpf/Cargo.toml";

pub(super) fn inherits_lints(file: &SourceFile) -> Vec<Finding> {
    let is_member = file.path.ends_with("/Cargo.toml") && file.path != OWN_WORKSPACE;
    let inherits = file
        .text
        .split("\n[lints]\n")
        .nth(1)
        .is_some_and(|rest| rest.trim_start().starts_with("workspace = true"));
    if !is_member || inherits {
        return Vec::new();
    }
    vec![Finding::new(
        file,
        0,
        "must hold [lints] workspace = true, else the workspace's rules do not apply here",
    )]
}

pub(super) fn reasons(file: &SourceFile) -> Vec<Finding> {
    if file.path != "Cargo.toml" {
        return member_versions(file);
    }
    let numbered = file.text.lines().enumerate().map(|(index, line)| (index + 1, line));
    let inside = numbered.skip_while(|(_, line)| *line != "[workspace.dependencies]").skip(1);
    let lines = inside.take_while(|(_, line)| !line.starts_with('['));
    lines
        .flat_map(|(number, line)| judge(line).into_iter().map(move |what| (number, what)))
        .map(|(number, what)| Finding::new(file, number, what))
        .collect()
}

fn judge(line: &str) -> Vec<String> {
    let Some((name, value)) = line.split_once('=').filter(|_| !line.trim_start().starts_with('#')) else {
        return Vec::new();
    };
    let name = name.trim();
    let mut findings = Vec::new();
    let is_ours = value.contains("path =");
    if !is_ours && value.split_once(" # ").is_none_or(|(_, reason)| reason.trim().len() < 6) {
        findings.push(format!("{name}: say behind # why it is there"));
    }
    let excepted = DEFAULT_FEATURES.iter().any(|(crate_name, _)| *crate_name == name);
    if !excepted && !value.contains("default-features = false") {
        findings.push(format!("{name}: default-features = false, and name the features that are used"));
    }
    findings
}

/// Members take versions from the workspace: `name.workspace = true`.
fn member_versions(file: &SourceFile) -> Vec<Finding> {
    if !file.path.ends_with("/Cargo.toml") || file.path == OWN_WORKSPACE {
        return Vec::new();
    }
    let mut in_dependencies = false;
    let mut findings = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        if line.starts_with('[') {
            in_dependencies = line.contains("dependencies");
        } else if in_dependencies
            && line.contains('=')
            && !line.contains("workspace = true")
            && !line.starts_with('#')
        {
            findings.push(Finding::new(
                file,
                index + 1,
                "takes its version from the workspace: name.workspace = true",
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_crate_without_the_lints_is_found() {
        assert_eq!(
            inherits_lints(&SourceFile::new("agent/Cargo.toml", "[package]\nname = \"x\"\n")).len(),
            1
        );
        assert!(
            inherits_lints(&SourceFile::new("agent/Cargo.toml", "[package]\n\n[lints]\nworkspace = true\n"))
                .is_empty()
        );
    }

    #[test]
    fn a_dependency_without_reason_or_with_defaults_is_found() {
        let manifest = |line: &str| {
            SourceFile::new(
                "Cargo.toml",
                &format!("[workspace]\n[workspace.dependencies]\n{line}\n[x]\ny = 1\n"),
            )
        };
        assert_eq!(reasons(&manifest("h2 = \"0.4\"")).len(), 2);
        assert_eq!(reasons(&manifest("h2 = \"0.4\" # HTTP/2, the tunnel")).len(), 1);
        assert_eq!(reasons(&manifest("h2 = { version = \"0.4\", default-features = false }")).len(), 1);
        assert!(
            reasons(&manifest(
                "# --- wire\nh2 = { version = \"0.4\", default-features = false } # HTTP/2, the tunnel"
            ))
            .is_empty()
        );
    }

    #[test]
    fn a_member_with_a_version_of_its_own_is_found() {
        let text = "[package]\nversion = \"1\"\n[dependencies]\nh2 = \"0.4\"\nhttp.workspace = true\n";
        assert_eq!(reasons(&SourceFile::new("agent/Cargo.toml", text)).len(), 1);
    }
}
