//! `cargo xtask guard`: rules of the source tree that no compiler knows, as plain functions from file texts to
//! findings. The tests of this module run every rule over the tree, and each rule over a made-up text that breaks
//! it, so that a rule which finds nothing is known to be able to.

mod dependencies;
mod header;
mod layers;
mod machine;
mod purity;
mod shape;
mod source;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{run, workspace};
use source::SourceFile;

/// One place that breaks one rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    path: String,
    /// From 1; 0 means the file as a whole.
    line: usize,
    what: String,
}

impl Finding {
    fn new(file: &SourceFile, line: usize, what: impl Into<String>) -> Self {
        Self { path: file.path.clone(), line, what: what.into() }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// A rule: reads one file, says what breaks it.
type Rule = fn(&SourceFile) -> Vec<Finding>;

const RULES: [(&str, Rule); 8] = [
    ("files stay under 400 lines", shape::size),
    ("no drawer names", shape::drawers),
    ("every file opens with what it is", header::header),
    ("files that declare themselves pure are pure", purity::purity),
    ("who may use whom", layers::layers),
    ("every crate inherits the workspace's lints", dependencies::inherits_lints),
    ("every dependency has a reason and no default features", dependencies::reasons),
    ("nothing of one machine is written down", machine::machine),
];

/// Checks the whole tree; prints every finding.
pub(crate) fn run() -> Result<(), String> {
    let files = tree()?;
    let mut count = 0;
    for (name, rule) in RULES {
        let findings: Vec<Finding> = files.iter().flat_map(rule).collect();
        println!("{} {name}", if findings.is_empty() { "ok    " } else { "BROKEN" });
        findings.iter().for_each(|finding| println!("  {finding}"));
        count += findings.len();
    }
    if count == 0 { Ok(()) } else { Err(format!("{count} findings in {} files", files.len())) }
}

/// Every text file that git tracks or would track.
fn tree() -> Result<Vec<SourceFile>, String> {
    let root = workspace::root();
    let mut command = Command::new("git");
    command.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(&root);
    let listed = run::output(&mut command)?;
    let paths = listed.split('\0').filter(|path| !path.is_empty());
    Ok(paths.filter_map(|path| read(&root, path)).collect())
}

/// `None` for what is no text, and for files that are deleted but still tracked.
fn read(root: &Path, path: &str) -> Option<SourceFile> {
    let full: PathBuf = root.join(path);
    Some(SourceFile::new(path, &std::fs::read_to_string(full).ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn the_tree_keeps_every_rule() {
        let files = tree().unwrap();
        assert!(files.iter().any(|file| file.path == "xtask/src/guard/mod.rs"), "the walk misses this file");
        let findings: Vec<String> = RULES
            .iter()
            .flat_map(|(_, rule)| files.iter().flat_map(rule))
            .map(|finding| finding.to_string())
            .collect();
        assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
    }
}
