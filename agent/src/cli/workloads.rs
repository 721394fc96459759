//! `posthaste workloads`: the pods that the agent knows.

use super::{
    CliError, Options, client, present,
    table::{Column, Fit, draw},
};
use crate::observe::views::WorkloadView;
use std::io::Write;

/// Which of them.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct WorkloadsArguments {
    /// Only of this namespace
    #[arg(short, long)]
    pub namespace: Option<String>,
}

/// Asks and shows.
pub(super) fn show(
    options: &Options,
    arguments: &WorkloadsArguments,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let mut pods: Vec<WorkloadView> = client::ask(&options.place, "/workloads")?;
    pods.retain(|pod| arguments.namespace.as_ref().is_none_or(|namespace| *namespace == pod.namespace));
    present(options, &pods, out, |fit| table(&pods, fit))
}

fn table(pods: &[WorkloadView], fit: Fit) -> String {
    if pods.is_empty() {
        return "no workloads\n".to_owned();
    }
    let columns = [
        Column { title: "NAMESPACE", rank: 0, least: 9 },
        Column { title: "POD", rank: 0, least: 12 },
        Column { title: "ADDRESSES", rank: 1, least: 15 },
        Column { title: "NODE", rank: 3, least: 6 },
        Column { title: "MESH", rank: 0, least: 8 },
        Column { title: "MTLS", rank: 2, least: 6 },
        Column { title: "IDENTITY", rank: 4, least: 20 },
        Column { title: "NOTE", rank: 1, least: 12 },
    ];
    let rows: Vec<Vec<String>> = pods.iter().map(row).collect();
    draw(&columns, &rows, fit)
}

fn row(pod: &WorkloadView) -> Vec<String> {
    let mesh = match (pod.captured_here, pod.meshed) {
        (true, _) => "here",
        (false, true) => "tunnel",
        (false, false) => "no",
    };
    vec![
        pod.namespace.clone(),
        pod.pod.clone(),
        pod.addresses.join(","),
        pod.node.clone(),
        mesh.to_owned(),
        pod.mtls.clone(),
        pod.identity.clone(),
        note(pod),
    ]
}

/// What is out of the ordinary.
fn note(pod: &WorkloadView) -> String {
    match (&pod.not_captured, pod.connections_before.len()) {
        (Some(reason), _) => format!("not captured: {reason}"),
        (None, 0) => String::new(),
        (None, 1) => "1 connection from before".to_owned(),
        (None, count) => format!("{count} connections from before"),
    }
}
