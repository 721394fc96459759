//! `posthaste status`: how the agent of this node is.

use super::{
    CliError, Options, client, present,
    table::{Column, Fit, draw},
    units::{age, left},
};
use crate::observe::views::{CaptureCount, CaptureView, StatusView};
use std::io::Write;

/// Asks and shows.
pub(super) fn show(options: &Options, out: &mut dyn Write) -> Result<(), CliError> {
    let view: StatusView = client::ask(&options.place, "/status")?;
    present(options, &view, out, |fit| text(&view, fit))
}

fn text(view: &StatusView, fit: Fit) -> String {
    let mut text = String::new();
    for (name, value) in facts(view) {
        text.push_str(&format!("{name:<13} {value}\n"));
    }
    section(&mut text, "Problems in objects", &problems(view));
    let uncaptured =
        view.uncaptured.iter().map(|pod| vec![pod.namespace.clone(), pod.pod.clone(), pod.reason.clone()]);
    section(
        &mut text,
        "Pods that are not captured",
        &table(&[("NAMESPACE", 0), ("POD", 0), ("REASON", 0)], &uncaptured.collect::<Vec<_>>(), fit),
    );
    section(&mut text, "While no agent lived", &counts(&view.capture.meanwhile, fit));
    section(&mut text, "Capture", &counts(&view.capture.pods, fit));
    section(&mut text, "Kernel maps", &maps(&view.capture, fit));
    text
}

fn facts(view: &StatusView) -> Vec<(&'static str, String)> {
    let ready = match &view.not_ready_reason {
        None => "yes".to_owned(),
        Some(reason) => format!("no: {reason}"),
    };
    let pods = format!("{} captured here, {} known", view.local_pods, view.workloads);
    let capture =
        if view.capture.state.is_empty() { "unknown".to_owned() } else { view.capture.state.clone() };
    vec![
        ("Node", view.node.clone()),
        ("Version", view.version.clone()),
        ("Running for", age(view.uptime_seconds.saturating_mul(1000))),
        ("Ready", ready),
        ("Snapshot", format!("generation {}, {} problems", view.snapshot_generation, view.problems.len())),
        ("Pods", pods),
        ("Services", view.services.to_string()),
        ("Connections", view.connections.to_string()),
        ("Capture", capture),
        ("Certificates", certificates(view)),
        ("CA", authority(view)),
    ]
}

fn certificates(view: &StatusView) -> String {
    let summary = &view.certificates;
    let mut text = format!("{} valid, {} missing", summary.valid, summary.missing);
    if let Some(seconds) = summary.first_expiry_seconds {
        text.push_str(&match left(seconds) {
            expired if expired == "expired" => ", the first is expired".to_owned(),
            time => format!(", the first expires in {time}"),
        });
    }
    text
}

fn authority(view: &StatusView) -> String {
    let authority = &view.authority;
    if authority.address.is_empty() {
        return "none".to_owned();
    }
    let error = authority.last_error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
    format!("{}, {}{error}", authority.address, authority.state)
}

fn problems(view: &StatusView) -> String {
    // Never shortened: each is something to be read whole.
    let lines = view.problems.iter().map(|problem| {
        let field = if problem.field.is_empty() { String::new() } else { format!(" {}", problem.field) };
        format!("{}: {}{field}\n    {}\n", problem.origin, problem.object, problem.reason)
    });
    lines.collect::<String>().replace(|one: char| one.is_control() && one != '\n', "?")
}

fn counts(pods: &[CaptureCount], fit: Fit) -> String {
    let heads = [
        ("NAMESPACE", 0),
        ("POD", 0),
        ("CAPTURED", 1),
        ("REFUSED", 0),
        ("PASSED", 0),
        ("EXCLUDED", 2),
        ("MAP FULL", 0),
    ];
    let rows = pods.iter().map(|pod| {
        let numbers = [pod.captured, pod.refused, pod.passed, pod.excluded, pod.map_full];
        let mut row = vec![pod.namespace.clone(), pod.pod.clone()];
        row.extend(numbers.map(|number| number.to_string()));
        row
    });
    table(&heads, &rows.collect::<Vec<_>>(), fit)
}

fn maps(capture: &CaptureView, fit: Fit) -> String {
    let rows = capture.maps.iter().map(|map| {
        let percent = map.entries.saturating_mul(100).checked_div(map.capacity).unwrap_or(0);
        vec![map.name.clone(), map.entries.to_string(), map.capacity.to_string(), format!("{percent} %")]
    });
    table(&[("MAP", 0), ("ENTRIES", 1), ("CAPACITY", 1), ("FILL", 0)], &rows.collect::<Vec<_>>(), fit)
}

fn table(heads: &[(&'static str, u8)], rows: &[Vec<String>], fit: Fit) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let columns: Vec<Column> =
        heads.iter().map(|(title, rank)| Column { title, rank: *rank, least: 6 }).collect();
    draw(&columns, rows, fit)
}

fn section(text: &mut String, title: &str, body: &str) {
    if !body.is_empty() {
        text.push_str(&format!("\n{title}\n{body}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::views::{AuthorityView, CertificateSummary, MapView, ProblemView};

    fn view() -> StatusView {
        let count = CaptureCount {
            namespace: "shop".to_owned(),
            pod: "cart-1".to_owned(),
            refused: 7,
            ..CaptureCount::default()
        };
        let map = MapView { name: "flows".to_owned(), entries: 500, capacity: 1000 };
        StatusView {
            node: "node-a".to_owned(),
            version: "0.1.0".to_owned(),
            uptime_seconds: 61,
            not_ready_reason: Some("no complete snapshot of the objects yet".to_owned()),
            problems: vec![ProblemView {
                origin: "shop.yaml (2)".to_owned(),
                object: "Pod/shop/cart".to_owned(),
                field: "status.podIPs[0]".to_owned(),
                reason: "`x` is no address: give an IPv4 or IPv6 address".to_owned(),
            }],
            capture: CaptureView {
                state: "taken over".to_owned(),
                maps: vec![map],
                meanwhile: vec![count],
                ..CaptureView::default()
            },
            certificates: CertificateSummary { valid: 2, missing: 1, first_expiry_seconds: Some(3600) },
            authority: AuthorityView {
                address: "embedded".to_owned(),
                state: "reachable".to_owned(),
                last_error: None,
            },
            ..StatusView::default()
        }
    }

    #[test]
    fn says_what_matters_first() {
        let shown = text(&view(), Fit { width: Some(60), wide: false });
        let wanted = "Node          node-a\n\
            Version       0.1.0\n\
            Running for   1m1s\n\
            Ready         no: no complete snapshot of the objects yet\n\
            Snapshot      generation 0, 1 problems\n\
            Pods          0 captured here, 0 known\n\
            Services      0\n\
            Connections   0\n\
            Capture       taken over\n\
            Certificates  2 valid, 1 missing, the first expires in 1h0m\n\
            CA            embedded, reachable\n\
            \n\
            Problems in objects\n\
            shop.yaml (2): Pod/shop/cart status.podIPs[0]\n    \
            `x` is no address: give an IPv4 or IPv6 address\n\
            \n\
            While no agent lived\n";
        assert!(shown.starts_with(wanted), "{shown}");
        assert!(shown.contains("flows  500      1000      50 %"), "{shown}");
        assert!(shown.lines().all(|line| line.chars().count() <= 60), "{shown}");
    }
}
