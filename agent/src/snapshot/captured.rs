//! The annotation by which the agent of a node tells the others which pods it captures. Pure.

use std::sync::Arc;

/// On Pods, written by the agent of their node: `<node>/<generation>`.
pub const CAPTURED_ANNOTATION: &str = "posthaste.dev/captured";

/// Value of the annotation for pods that an agent of this node captures; the generation is that of the agent: when it started, in
/// seconds since 1970.
#[must_use]
pub fn value(node: &str, generation: i64) -> Arc<str> {
    format!("{node}/{generation}").into()
}

/// The node that a value of the annotation names. None for what no agent writes.
#[must_use]
pub fn node_of(value: &str) -> Option<&str> {
    let (node, generation) = value.rsplit_once('/')?;
    (!node.is_empty() && generation.parse::<i64>().is_ok()).then_some(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_names_its_node() {
        assert_eq!(node_of(&value("node-1.example", 17)), Some("node-1.example"));
        for bad in ["", "a", "a/", "/1", "a/b"] {
            assert_eq!(node_of(bad), None, "{bad}");
        }
    }
}
