//! The one binary: reads the flags and runs the command they name.

use std::{io::IsTerminal, process::ExitCode};

use clap::Parser;
use posthaste::{
    bpf,
    ca::{self, AuthorityOptions, CaOptions},
    cli::{self, Arguments, Command, cluster::place::is_plugin},
    config::{CaAction, CaArguments},
    node,
    observe::views::RequirementView,
};
use tokio::signal::unix::{SignalKind, signal};

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
        required: true,
        detail: found.detail,
        advice: found.advice.to_owned(),
    };
    bpf::probe().into_iter().map(view).collect()
}

fn authority(arguments: CaArguments) -> Result<(), String> {
    let of = |state, trust_domain| AuthorityOptions {
        state,
        trust_domain,
        default_validity: arguments.validity,
        longest_validity: arguments.longest_validity,
    };
    if let Some(CaAction::Rotate { state, trust_domain, overlap }) = arguments.action {
        let said = ca::rotate(&of(state, trust_domain), overlap).map_err(|error| error.to_string())?;
        println!("{said}");
        return Ok(());
    }
    log(&arguments.log);
    let (Some(state), Some(listen), Some(token_file)) =
        (arguments.state.clone(), arguments.listen, arguments.join_token_file.clone())
    else {
        return Err("--state, --listen and --join-token-file are needed".to_owned());
    };
    let options = CaOptions {
        authority: of(state, arguments.trust_domain.clone()),
        listen,
        token_file,
        names: arguments.name.clone(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start the event loop: {error}"))?;
    runtime.block_on(async { ca::run(options, stopped()).await.map_err(|error| error.to_string()) })
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
