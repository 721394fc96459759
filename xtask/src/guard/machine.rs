//! Rule: nothing of one machine is written down: no home of one user, no scratch folder, no address of a mirror
//! or registry. The machine's own configuration decides those. Pure.

use super::Finding;
use super::source::SourceFile;

/// Written in two halves so that this file keeps its own rule.
const TRACES: [(&str, &str); 9] = [
    ("/wo", "rk/"),
    ("/ro", "ot/"),
    ("/ho", "me/"),
    ("deb.deb", "ian.org"),
    ("snapshot.deb", "ian.org"),
    ("index.crat", "es.io"),
    ("static.crat", "es.io"),
    ("arti", "factory"),
    ("registry.npm", "js.org"),
];

/// Cargo writes the public registry's name into these by itself, and cargo-deny must be told it.
const FREE: [&str; 3] = ["Cargo.lock", "agent-ebpf/Cargo.lock", "deny.toml"];

pub(super) fn machine(file: &SourceFile) -> Vec<Finding> {
    if FREE.contains(&file.path.as_str()) {
        return Vec::new();
    }
    let traces: Vec<String> = TRACES.iter().map(|(first, second)| format!("{first}{second}")).collect();
    let mut findings = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for trace in traces.iter().filter(|trace| stands_alone(line, trace)) {
            findings.push(Finding::new(
                file,
                index + 1,
                format!("holds {trace}, which is true of one machine only"),
            ));
        }
    }
    findings
}

/// A path counts only where it begins; `target/work/` is no path of a machine.
fn stands_alone(line: &str, trace: &str) -> bool {
    line.match_indices(trace).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        !trace.starts_with('/')
            || !before.is_some_and(|each| each.is_alphanumeric() || "._-})/".contains(each))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn each_trace_is_found() {
        for (first, second) in TRACES {
            assert_eq!(
                machine(&SourceFile::new("a.md", &format!("see {first}{second}x\n"))).len(),
                1,
                "{first}"
            );
        }
    }

    #[test]
    fn parts_of_other_paths_are_free() {
        let text =
            format!("cd target{}{}x and cgroup{}{}\n", TRACES[0].0, TRACES[0].1, TRACES[1].0, TRACES[1].1);
        assert!(machine(&SourceFile::new("a.md", &text)).is_empty());
    }
}
