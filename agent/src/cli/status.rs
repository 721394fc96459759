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
    let view: StatusView = client::ask(&options.admin_socket, "/status")?;
    present(options, &view, out, |fit| text(&view, fit))
}

fn text(view: &StatusView, fit: Fit) -> String {
    let mut text = String::new();
    for (name, value) in facts(view) {
        text.push_str(&format!("{name:<13} {value}\n"));
    }
    section(&mut text, "Problems in objects", problems(view, fit));
    let uncaptured =
        view.uncaptured.iter().map(|pod| vec![pod.namespace.clone(), pod.pod.clone(), pod.reason.clone()]);
    section(
        &mut text,
        "Pods that are not captured",
        table(&["NAMESPACE", "POD", "REASON"], uncaptured.collect(), fit),
    );
    section(&mut text, "While no agent lived", counts(&view.capture.meanwhile, fit));
    section(&mut text, "Capture", counts(&view.capture.pods, fit));
    section(&mut text, "Kernel maps", maps(&view.capture, fit));
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

fn problems(view: &StatusView, _fit: Fit) -> String {
    // Never shortened: each is something to be read whole.
    let lines = view.problems.iter().map(|problem| {
        let field = if problem.field.is_empty() { String::new() } else { format!(" {}", problem.field) };
        format!("{}: {}{field}\n    {}\n", problem.origin, problem.object, problem.reason)
    });
    lines.collect::<String>().replace(|one: char| one.is_control() && one != '\n', "?")
}

fn counts(pods: &[CaptureCount], fit: Fit) -> String {
    let heads = ["NAMESPACE", "POD", "CAPTURED", "REFUSED", "PASSED", "EXCLUDED", "MAP FULL"];
    let rows = pods.iter().map(|pod| {
        let numbers = [pod.captured, pod.refused, pod.passed, pod.excluded, pod.map_full];
        let mut row = vec![pod.namespace.clone(), pod.pod.clone()];
        row.extend(numbers.map(|number| number.to_string()));
        row
    });
    table(&heads, rows.collect(), fit)
}

fn maps(capture: &CaptureView, fit: Fit) -> String {
    let rows = capture.maps.iter().map(|map| {
        let percent = if map.capacity == 0 { 0 } else { map.entries.saturating_mul(100) / map.capacity };
        vec![map.name.clone(), map.entries.to_string(), map.capacity.to_string(), format!("{percent} %")]
    });
    table(&["MAP", "ENTRIES", "CAPACITY", "FILL"], rows.collect(), fit)
}

fn table(heads: &[&'static str], rows: Vec<Vec<String>>, fit: Fit) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let columns: Vec<Column> = heads.iter().map(|title| Column { title, rank: 0, least: 6 }).collect();
    draw(&columns, &rows, fit)
}

fn section(text: &mut String, title: &str, body: String) {
    if !body.is_empty() {
        text.push_str(&format!("\n{title}\n{body}"));
    }
}
