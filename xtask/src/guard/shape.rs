//! Rules about the shape of the tree: files that fit into a head, and names that say what is inside. Pure.

use super::Finding;
use super::source::SourceFile;

const MAX_LINES: usize = 400;

/// Names that say only "things".
const DRAWERS: [&str; 14] = [
    "util",
    "utils",
    "utility",
    "utilities",
    "helper",
    "helpers",
    "type",
    "types",
    "common",
    "misc",
    "manager",
    "managers",
    "shared",
    "stuff",
];

/// Rust files have fewer than 400 lines, tests included.
pub(super) fn size(file: &SourceFile) -> Vec<Finding> {
    let lines = file.text.lines().count();
    if !file.is_rust() || lines < MAX_LINES {
        return Vec::new();
    }
    vec![Finding::new(
        file,
        0,
        format!("has {lines} lines; split it by what its parts do (limit {MAX_LINES})"),
    )]
}

/// No file or folder is a drawer.
pub(super) fn drawers(file: &SourceFile) -> Vec<Finding> {
    let parts = file.path.split('/').map(|part| part.strip_suffix(".rs").unwrap_or(part));
    let bad = parts.filter(|part| DRAWERS.contains(&part.to_lowercase().as_str()));
    bad.map(|part| {
        Finding::new(file, 0, format!("'{part}' says nothing of what is inside; name what it does"))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_long_file_is_found() {
        let long = "//! x\n".repeat(400);
        assert_eq!(size(&SourceFile::new("a/b.rs", &long)).len(), 1);
        assert!(size(&SourceFile::new("Cargo.lock", &long)).is_empty());
        assert!(size(&SourceFile::new("a/b.rs", &"x\n".repeat(399))).is_empty());
    }

    #[test]
    fn a_drawer_is_found_as_file_and_as_folder() {
        assert_eq!(drawers(&SourceFile::new("agent/src/utils.rs", "")).len(), 1);
        assert_eq!(drawers(&SourceFile::new("agent/src/helpers/mod.rs", "")).len(), 1);
        assert!(drawers(&SourceFile::new("agent-common/src/lib.rs", "")).is_empty());
    }
}
