//! The topology as a drawing of characters. Pure.

/// What one node holds: its name and, for each pod, name and address.
pub(crate) struct NodePicture {
    pub(crate) name: &'static str,
    pub(crate) pods: Vec<(String, String)>,
}

/// Inner width of a node's box.
const WIDTH: usize = 25;
/// What lies between the boxes; the middle line carries the tunnel.
const GAP: &str = "                      ";
const WIRE: &str = "══ HBONE, mutual TLS ═";

/// Two boxes side by side, joined by the tunnel between the agents.
pub(crate) fn draw(left: &NodePicture, right: &NodePicture) -> String {
    let rows = left.pods.len().max(right.pods.len());
    let (mut first, mut second) = (node_box(left, rows), node_box(right, rows));
    let agents = rows + 3;
    let lines = first.drain(..).zip(second.drain(..)).enumerate();
    let joined = lines.map(|(index, (left, right))| {
        let between = if index == agents { WIRE } else { GAP };
        format!("{left}{between}{right}")
    });
    joined.collect::<Vec<_>>().join("\n")
}

fn node_box(node: &NodePicture, rows: usize) -> Vec<String> {
    let title = format!("─ node {} ", node.name);
    let mut lines = vec![format!("┌{title}{}┐", "─".repeat(WIDTH.saturating_sub(title.chars().count())))];
    for row in 0..rows {
        let text =
            node.pods.get(row).map_or(String::new(), |(name, address)| format!(" {name:<9}{address:>14}"));
        lines.push(inside(&text));
    }
    lines.push(inside("    │ captured by eBPF"));
    lines.push(inside("    ▼"));
    lines.push(inside(" [ posthaste agent ]"));
    lines.push(format!("└{}┘", "─".repeat(WIDTH)));
    lines
}

fn inside(text: &str) -> String {
    let padding = " ".repeat(WIDTH.saturating_sub(text.chars().count()));
    format!("│{text}{padding}│")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn every_line_is_equally_wide_and_the_wire_joins_the_agents() {
        let pod = |name: &str| (name.to_owned(), "10.77.2.1".to_owned());
        let left = NodePicture { name: "a", pods: vec![pod("client"), pod("prices")] };
        let right = NodePicture { name: "b", pods: vec![pod("orders-1")] };
        let text = draw(&left, &right);
        let widths: Vec<usize> = text.lines().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0] && *width <= 77), "{text}");
        let wire = text.lines().find(|line| line.contains(WIRE)).unwrap();
        assert_eq!(wire.matches("posthaste agent").count(), 2, "{text}");
    }
}
