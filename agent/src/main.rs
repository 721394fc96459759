//! The one binary: reads the flags and runs the command they name.

use std::{
    io::IsTerminal,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::ExitCode,
};

use clap::Parser;
use posthaste::{
    bpf,
    ca::{self, AuthorityOptions, CaOptions, SigningOptions, cluster::ClusterOptions},
    cli::{self, Arguments, Command, cluster::place::is_plugin},
    config::{CaAction, CaArguments, ClusterArguments},
    node,
    observe::views::RequirementView,
};
use tokio::signal::unix::{SignalKind, signal};

/// Where Istio's CA listens as well.
const CA_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 15012);

fn main() -> ExitCode {
    let Arguments { mut options, command } = Arguments::parse();
    options.place.plugin = is_plugin(std::env::args().next().as_deref());
    let result = match command {
        Command::Inspect(command) => return cli::run(&options, &command, &requirements),
        Command::Agent(arguments) => {
            log(&arguments.log);
            node::run(*arguments, options.place.admin_socket).map_err(|error| error.to_string())
        }
        Command::Ca(arguments) => authority(*arguments),
        Command::Guard(arguments) => {
            log("warn");
            node::guard::run(&arguments).map(|said| println!("{said}")).map_err(|error| error.to_string())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("posthaste: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The log goes to standard error: standard output may carry the access log.
fn log(filter: &str) {
    let filter = tracing_subscriber::EnvFilter::new(filter);
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
}

fn requirements() -> Vec<RequirementView> {
    let view = |found: bpf::Requirement| RequirementView {
        name: found.name.to_owned(),
        found: found.found,
        required: found.needed,
        detail: found.detail,
        advice: found.advice.to_owned(),
    };
    bpf::probe().into_iter().chain([node::guard::requirement()]).map(view).collect()
}

fn authority(mut arguments: CaArguments) -> Result<(), String> {
    let action = arguments.action.take();
    if let Some(CaAction::Rotate { cluster, state, trust_domain, overlap }) = action {
        arguments.trust_domain = trust_domain;
        arguments.overlap = overlap.or(arguments.overlap);
        let said = match (cluster.kubernetes, state) {
            (false, Some(state)) => {
                ca::rotate(&AuthorityOptions { state, signing: signing(&arguments) }, overlap)
            }
            _ => running(ca::cluster::rotate(&in_cluster(&arguments, cluster)))?,
        };
        println!("{}", said.map_err(|error| error.to_string())?);
        return Ok(());
    }
    log(&arguments.log);
    let served = if arguments.cluster.kubernetes {
        let options = in_cluster(&arguments, arguments.cluster.clone());
        running(ca::cluster::run(&options, stopped()))?
    } else {
        running(ca::run(in_folder(&arguments)?, stopped()))?
    };
    served.map_err(|error| error.to_string())
}

fn signing(arguments: &CaArguments) -> SigningOptions {
    SigningOptions {
        trust_domain: arguments.trust_domain.clone(),
        default_validity: arguments.validity,
        longest_validity: arguments.longest_validity,
    }
}

fn in_folder(arguments: &CaArguments) -> Result<CaOptions, String> {
    let (Some(state), Some(listen), Some(token_file)) =
        (arguments.state.clone(), arguments.listen, arguments.join_token_file.clone())
    else {
        return Err(
            "--state, --listen and --join-token-file are needed, or --kubernetes and --listen".to_owned()
        );
    };
    let authority = AuthorityOptions { state, signing: signing(arguments) };
    Ok(CaOptions { authority, listen, token_file, names: arguments.name.clone() })
}

fn in_cluster(arguments: &CaArguments, cluster: ClusterArguments) -> ClusterOptions {
    ClusterOptions {
        signing: signing(arguments),
        kubeconfig: cluster.kubeconfig,
        namespace: cluster.namespace,
        audience: arguments.audience.clone(),
        agent_accounts: arguments.agent_account.clone(),
        overlap: arguments.overlap,
        listen: arguments.listen.unwrap_or(CA_ADDRESS),
        health: arguments.health_address,
        names: arguments.name.clone(),
    }
}

/// Runs it on an event loop of this thread.
fn running<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.map_err(|error| format!("cannot start the event loop: {error}"))?.block_on(work))
}

/// Resolves at SIGTERM or SIGINT.
async fn stopped() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
