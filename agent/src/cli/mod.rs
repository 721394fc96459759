//! The commands. Those that inspect ask the agent over its Unix socket and show what it says; `agent` and `ca` are started by `main`.

use crate::{
    config::{AgentArguments, CaArguments, GuardArguments},
    observe::views::RequirementView,
};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

pub mod certs;
pub mod check;
pub mod client;
pub mod cluster;
pub mod connections;
pub mod coverage;
pub mod dashboard;
pub mod dump;
pub mod endpoints;
pub mod explain;
pub mod graph;
pub mod joined;
pub mod probe;
pub mod routes;
pub mod services;
pub mod status;
pub mod table;
pub mod tap;
pub mod terminal;
pub mod top;
pub mod units;
pub mod workloads;

use cluster::{ClusterError, place::Place};

/// Where an agent listens unless it is told otherwise.
pub const ADMIN_SOCKET: &str = "/run/posthaste/admin.sock";

/// A service mesh without sidecars.
#[derive(Debug, Parser)]
#[command(name = "posthaste", version, about, max_term_width = 100)]
pub struct Arguments {
    /// What all commands share.
    #[command(flatten)]
    pub options: Options,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What all commands share.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Of every command")]
pub struct Options {
    /// Which agent is asked.
    #[command(flatten)]
    pub place: Place,
    /// Unix socket of another agent, for what several know (`explain`, `coverage`, `graph`, `dashboard`, `connections --joined`); may be given several times
    #[arg(long = "peer-socket", global = true, value_name = "PATH")]
    pub peer_sockets: Vec<PathBuf>,
    /// How to show it
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Width of tables; the terminal's unless given (what is no number is taken for absent, since shells set it)
    #[arg(long, global = true, env = "COLUMNS", hide = true)]
    pub columns: Option<String>,
}

impl Options {
    /// Where the agent is, then where other agents are.
    fn places(&self) -> impl Iterator<Item = Place> {
        let others = self.peer_sockets.iter();
        let others = others.map(|path| Place { admin_socket: path.clone(), ..Place::default() });
        std::iter::once(self.place.clone()).chain(others)
    }
}

/// How to show an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table that fits the terminal
    Table,
    /// All columns, whatever the width
    Wide,
    /// JSON with stable field names
    Json,
}

/// All commands. The long-running ones are wired by `main`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent of a node
    Agent(Box<AgentArguments>),
    /// Run the certificate authority
    Ca(Box<CaArguments>),
    /// Hold every pod of a node that boots until its agent has read the cluster, where something may be strict; runs before kubelet, once
    Guard(Box<GuardArguments>),
    /// Commands that inspect.
    #[command(flatten)]
    Inspect(Inspect),
}

/// The commands that inspect.
#[derive(Clone, Debug, Subcommand)]
pub enum Inspect {
    /// How the agent of this node is: readiness, problems in objects, capture, certificates
    Status,
    /// Connections with bytes, identities, endpoints and round trips
    Connections(connections::ConnectionsArguments),
    /// Is everything encrypted: what goes through the mesh, what does not and why
    Coverage(coverage::CoverageArguments),
    /// Pods that the agent knows
    Workloads(workloads::WorkloadsArguments),
    /// Services and their endpoints as this node picks from them
    Services(services::ServicesArguments),
    /// Routes of services: matches in order of precedence, backends, problems
    Routes(routes::RoutesArguments),
    /// Endpoints of a service as requests are balanced over them: weight, response time, ejections
    Endpoints(endpoints::EndpointsArguments),
    /// What would become of a connection or a request, stage by stage, and why
    Explain(explain::ExplainArguments),
    /// Who calls whom, as Mermaid, DOT or SVG, coloured by success
    Graph(graph::GraphArguments),
    /// One local web page with all of it, live: topology, services, connections, explain
    Dashboard(dashboard::DashboardArguments),
    /// Requests per second, success rate and percentiles by service, live
    Top(top::TopArguments),
    /// Requests as they end, with filters
    Tap(tap::TapArguments),
    /// Certificates of the pods of this node
    Certs,
    /// The objects that the agent goes by, as manifests: `posthaste agent --manifests` replays them at a desk
    Dump,
    /// How the agent is, as an exit status for probes
    Probe {
        /// What to ask
        what: probe::Probe,
    },
    /// Can this kernel and machine run the agent: what is needed, what is missing, what to do. With --context, --kubeconfig or as
    /// a plug-in of kubectl: can the mesh work in that cluster
    Check,
    /// Install the mesh in a cluster, or print the objects that it is made of
    Install(cluster::install::InstallArguments),
    /// Enrol a namespace of a cluster, or show what that would change
    Enroll(cluster::enroll::EnrollArguments),
    /// The CustomResourceDefinitions of the mesh, for `kubectl apply --server-side -f -`
    Crds,
    /// Completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// A command failed; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The agent could not be asked.
    #[error(transparent)]
    Client(#[from] client::ClientError),
    /// No agent has a record with that id.
    #[error(
        "no connection `{0}`: the agents keep the last thousand that closed; `posthaste connections --closed -o wide` shows their ids"
    )]
    NoConnection(String),
    /// Nothing of that name.
    #[error("no service `{name}`{near}: `posthaste services` lists those that this agent knows")]
    NoService {
        /// What was asked for.
        name: String,
        /// ` (did you mean ...?)`, or nothing.
        near: String,
    },
    /// The cluster could not be asked.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The dashboard cannot start.
    #[error(transparent)]
    Dashboard(#[from] dashboard::DashboardError),
    /// The answer could not be shown.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// The answer could not be turned into JSON.
    #[error("cannot write JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Runs a command that inspects and prints to standard output; errors go to standard error. `requirements` is asked by `check` only.
pub fn run(
    options: &Options,
    command: &Inspect,
    requirements: &dyn Fn() -> Vec<RequirementView>,
) -> ExitCode {
    let mut out = io::stdout().lock();
    match execute(options, command, requirements, &mut out) {
        Ok(code) => code,
        // The reader left, as `head` does.
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("posthaste: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The same into any output.
///
/// # Errors
/// The agent cannot be asked, or the output not be written.
pub fn execute(
    options: &Options,
    command: &Inspect,
    requirements: &dyn Fn() -> Vec<RequirementView>,
    out: &mut dyn Write,
) -> Result<ExitCode, CliError> {
    match command {
        Inspect::Status => status::show(options, out)?,
        Inspect::Connections(arguments) => connections::show(options, arguments, out)?,
        Inspect::Coverage(arguments) => coverage::show(options, arguments, out)?,
        Inspect::Workloads(arguments) => workloads::show(options, arguments, out)?,
        Inspect::Services(arguments) => services::show(options, arguments, out)?,
        Inspect::Routes(arguments) => routes::show(options, arguments, out)?,
        Inspect::Endpoints(arguments) => endpoints::show(options, arguments, out)?,
        Inspect::Explain(arguments) => explain::show(options, arguments, out)?,
        Inspect::Graph(arguments) => graph::show(options, arguments, out)?,
        Inspect::Dashboard(arguments) => dashboard::show(options, arguments, out)?,
        Inspect::Top(arguments) => top::show(options, arguments, out)?,
        Inspect::Tap(arguments) => tap::show(options, arguments, out)?,
        Inspect::Certs => certs::show(options, out)?,
        Inspect::Dump => dump::show(options, out)?,
        Inspect::Crds => {
            let text = crate::control::policy::crd::yaml().map_err(io::Error::other)?;
            out.write_all(text.as_bytes())?;
        }
        Inspect::Probe { what } => return probe::show(options, *what, out),
        Inspect::Install(arguments) => cluster::install::run(options, arguments, out)?,
        Inspect::Enroll(arguments) => cluster::enroll::run(options, arguments, out)?,
        Inspect::Check if options.place.is_cluster() => return cluster::check::run(options, out),
        Inspect::Check => return check::show(options, &requirements(), out),
        Inspect::Completions { shell } => {
            clap_complete::generate(*shell, &mut Arguments::command(), "posthaste", out);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows `value` as JSON, or what `table` draws of it.
fn present<T: serde::Serialize>(
    options: &Options,
    value: &T,
    out: &mut dyn Write,
    draw: impl FnOnce(table::Fit) -> String,
) -> Result<(), CliError> {
    let text = match options.output {
        Output::Json => serde_json::to_string_pretty(value)? + "\n",
        Output::Wide => draw(table::Fit { width: None, wide: true }),
        Output::Table => draw(table::Fit {
            width: terminal::width(options.columns.as_deref().and_then(|columns| columns.parse().ok())),
            wide: false,
        }),
    };
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn the_commands_are_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn options_may_follow_the_command() {
        let arguments =
            Arguments::try_parse_from(["posthaste", "connections", "-o", "json", "--closed"]).unwrap();
        assert_eq!(arguments.options.output, Output::Json);
    }

    #[test]
    fn which_agent_stands_before_the_command() {
        let line = ["posthaste", "--pod", "shop/web", "connections", "--pod", "db"];
        let arguments = Arguments::try_parse_from(line).unwrap();
        assert_eq!(arguments.options.place.pod.as_deref(), Some("shop/web"));
        let Command::Inspect(Inspect::Connections(connections)) = arguments.command else {
            panic!("another command")
        };
        assert_eq!(connections.pod.as_deref(), Some("db"));
        let both = Arguments::try_parse_from(["posthaste", "--pod", "shop/web", "--node", "one", "status"]);
        assert!(both.is_err());
    }

    #[test]
    fn completions_name_the_commands() {
        let arguments = Arguments::try_parse_from(["posthaste", "completions", "bash"]).unwrap();
        let Command::Inspect(command) = &arguments.command else { panic!("not a command that inspects") };
        let mut out = Vec::new();
        execute(&arguments.options, command, &Vec::new, &mut out).unwrap();
        assert!(String::from_utf8(out).unwrap().contains("workloads"));
    }
}
