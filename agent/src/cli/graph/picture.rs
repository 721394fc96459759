//! The graph in three languages of pictures. Pure.

use super::{Edge, Graph};
use std::collections::HashMap;

/// Good, doubtful, bad.
const COLOURS: [&str; 3] = ["#2e7d32", "#ef6c00", "#c62828"];

/// Of an edge, by its success: from 99 % on good, from 95 % on doubtful.
fn colour(edge: &Edge) -> &'static str {
    let [good, doubtful, bad] = COLOURS;
    match edge.success().unwrap_or(1.0) {
        share if share >= 0.99 => good,
        share if share >= 0.95 => doubtful,
        _ => bad,
    }
}

/// Mermaid's `flowchart`.
pub(super) fn mermaid(graph: &Graph) -> String {
    let mut text = "flowchart LR\n".to_owned();
    let places = places(graph);
    for (place, node) in graph.nodes.iter().enumerate() {
        text.push_str(&format!("  n{place}[\"{}\"]\n", node.replace('"', "#quot;")));
    }
    for (number, edge) in graph.edges.iter().enumerate() {
        let (Some(from), Some(to)) = (places.get(&*edge.from), places.get(&*edge.to)) else { continue };
        text.push_str(&format!("  n{from} -->|\"{}\"| n{to}\n", edge.label()));
        text.push_str(&format!("  linkStyle {number} stroke:{}\n", colour(edge)));
    }
    text
}

/// Graphviz.
pub(super) fn dot(graph: &Graph) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let mut text = "digraph posthaste {\n  rankdir=LR;\n  node [shape=box];\n".to_owned();
    graph.nodes.iter().for_each(|node| text.push_str(&format!("  {};\n", quoted(node))));
    for edge in &graph.edges {
        let (from, to, label) = (quoted(&edge.from), quoted(&edge.to), quoted(&edge.label()));
        text.push_str(&format!("  {from} -> {to} [label={label}, color=\"{}\"];\n", colour(edge)));
    }
    text + "}\n"
}

/// Width of a column, height of a row, size of a box, all in pixels.
const COLUMN: usize = 420;
const ROW: usize = 90;
const BOX: (usize, usize) = (200, 40);
const MARGIN: usize = 20;

/// A picture of columns: callers left of what they call.
pub(super) fn svg(graph: &Graph) -> String {
    let spots = spots(graph);
    let width = spots.iter().map(|(x, _)| x + BOX.0 + MARGIN).max().unwrap_or(2 * MARGIN);
    let height = spots.iter().map(|(_, y)| y + BOX.1 + MARGIN).max().unwrap_or(2 * MARGIN);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n"
    );
    let places = places(graph);
    for edge in &graph.edges {
        let ends = [&edge.from, &edge.to].map(|node| places.get(&**node).and_then(|place| spots.get(*place)));
        if let [Some(from), Some(to)] = ends {
            text.push_str(&arrow(edge, *from, *to));
        }
    }
    for (node, (x, y)) in graph.nodes.iter().zip(&spots) {
        let (width, height) = BOX;
        let (middle, line) = (x + width / 2, y + height / 2 + 4);
        text.push_str(&format!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"6\" fill=\"#fff\" stroke=\"#455a64\"/>\n<text x=\"{middle}\" y=\"{line}\" text-anchor=\"middle\">{}</text>\n",
            escaped(node)
        ));
    }
    text + "</svg>\n"
}

fn arrow(edge: &Edge, (from_x, from_y): (usize, usize), (to_x, to_y): (usize, usize)) -> String {
    let (start, end) = ((from_x + BOX.0, from_y + BOX.1 / 2), (to_x, to_y + BOX.1 / 2));
    let colour = colour(edge);
    let (x, y) = (usize::midpoint(start.0, end.0), usize::midpoint(start.1, end.1).saturating_sub(6));
    let (tip, up, down) = (end.0.saturating_sub(8), end.1.saturating_sub(4), end.1 + 4);
    format!(
        "<path d=\"M{} {} C{x} {} {x} {} {} {}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n<path d=\"M{tip} {up} L{} {} L{tip} {down} Z\" fill=\"{colour}\"/>\n<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\" fill=\"{colour}\">{}</text>\n",
        start.0,
        start.1,
        start.1,
        end.1,
        end.0,
        end.1,
        end.0,
        end.1,
        escaped(&edge.label())
    )
}

/// Upper left corners of the nodes, in their order.
fn spots(graph: &Graph) -> Vec<(usize, usize)> {
    let columns = columns(graph);
    let mut filled: HashMap<usize, usize> = HashMap::new();
    columns
        .into_iter()
        .map(|column| {
            let row = filled.entry(column).or_default();
            *row += 1;
            (MARGIN + column * COLUMN, MARGIN + (*row - 1) * ROW)
        })
        .collect()
}

/// One to the right of every caller, as far as calls do not go round in a circle.
fn columns(graph: &Graph) -> Vec<usize> {
    let places = places(graph);
    let mut columns = vec![0; graph.nodes.len()];
    for _ in 1..graph.nodes.len() {
        for edge in &graph.edges {
            let (Some(from), Some(to)) = (places.get(&*edge.from), places.get(&*edge.to)) else { continue };
            let wanted = columns.get(*from).copied().unwrap_or_default() + 1;
            if let Some(column) = columns.get_mut(*to).filter(|column| from != to && **column < wanted)
                && wanted < graph.nodes.len()
            {
                *column = wanted;
            }
        }
    }
    columns
}

fn places(graph: &Graph) -> HashMap<&str, usize> {
    graph.nodes.iter().enumerate().map(|(place, node)| (&**node, place)).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::graph::tests::three;

    #[test]
    fn each_language_has_nodes_edges_and_colours() {
        let graph = three();
        let mermaid = mermaid(&graph);
        assert!(
            mermaid.contains("n1 -->|\"100 requests, 90.0% good, mTLS\"| n3\n  linkStyle 1 stroke:#c62828"),
            "{mermaid}"
        );
        let dot = dot(&graph);
        assert!(
            dot.contains(
                "\"shop/web\" -> \"shop/db\" [label=\"8 connections, 87.5% good, mTLS\", color=\"#c62828\"];"
            ),
            "{dot}"
        );
        let svg = svg(&graph);
        assert!(svg.contains("<text x=\"120\"") && svg.matches("<rect ").count() == 4, "{svg}");
        assert_eq!(columns(&graph), [0, 0, 2, 1]);
        assert_eq!(svg.matches("<path ").count(), 6);
    }

    #[test]
    fn a_circle_ends_and_names_are_escaped() {
        let edge = |from: &str, to: &str| Edge {
            from: from.into(),
            to: to.into(),
            connections: 1.0,
            ..Edge::default()
        };
        let graph = Graph {
            nodes: vec!["a".into(), "<b>".into()],
            edges: vec![edge("a", "<b>"), edge("<b>", "a"), edge("a", "a")],
        };
        let svg = svg(&graph);
        assert!(svg.contains("&lt;b&gt;") && !svg.contains("<b>"), "{svg}");
        assert!(super::svg(&Graph::default()).ends_with("</svg>\n"));
    }
}
