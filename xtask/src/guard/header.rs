//! Rule: every Rust file opens with `//!` and a sentence that says what it is. Pure.

use super::Finding;
use super::source::SourceFile;

/// Shorter than this is a placeholder.
const SHORTEST: usize = 20;

pub(super) fn header(file: &SourceFile) -> Vec<Finding> {
    if !file.is_rust() {
        return Vec::new();
    }
    let first = file.text.lines().next().unwrap_or_default();
    if !first.starts_with("//!") {
        return vec![Finding::new(
            file,
            1,
            "must open with //! and say what it is, whether it is Pure, what it refuses",
        )];
    }
    let words = text_of(file);
    if words.chars().count() < SHORTEST {
        return vec![Finding::new(file, 1, format!("the header '{words}' does not say what the file is"))];
    }
    Vec::new()
}

/// The whole header, one line.
pub(super) fn text_of(file: &SourceFile) -> String {
    let lines = file.text.lines().map_while(|line| line.strip_prefix("//!"));
    lines.map(str::trim).collect::<Vec<_>>().join(" ").trim().to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_file_without_a_header_is_found() {
        assert_eq!(header(&SourceFile::new("a.rs", "use std::fmt;\n")).len(), 1);
        assert_eq!(header(&SourceFile::new("a.rs", "")).len(), 1);
        assert_eq!(header(&SourceFile::new("a.rs", "//! x\n")).len(), 1);
        assert!(header(&SourceFile::new("a.rs", "//! Reads the manifests of a folder.\n")).is_empty());
        assert!(header(&SourceFile::new("a.toml", "")).is_empty());
    }
}
