//! `cargo xtask COMMAND`: the developer's commands. One file (or folder) per command; this one only reads the
//! arguments and turns an error into a message and an exit status. Depends on nothing that the set-up brings,
//! so that it builds first.

mod crds;
mod deny;
mod ebpf;
mod guard;
mod image;
mod lint;
mod programs;
mod run;
mod setup;
mod test;
mod toolchain;
mod workspace;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer commands of Posthaste", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Bring what the build needs (bpf-linker, the source of `core`) into target/tools. Run it once
    Setup,
    /// Two nodes, unmodified programs, one mesh: see it work in this terminal
    Demo {
        /// Options of the demo, such as --keep
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run every test, the cheapest first
    Test(test::Selection),
    /// Compare with direct connections and with HAProxy
    Bench {
        /// Options of the benchmark, such as --json FILE
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Write deploy/crds from the Rust types
    Crds,
    /// Build the OCI image of the static binary, and its bill of materials
    Image(image::Arguments),
    /// Build the eBPF programs and show their sizes
    Ebpf,
    /// Check the rules of the source tree that no compiler knows
    Guard,
    /// Format the source
    Fmt {
        /// Change nothing, fail where something would change
        #[arg(long)]
        check: bool,
    },
    /// Clippy without warnings
    Lint,
    /// Check licences, duplicates and sources of the dependencies
    Deny {
        /// Also ask the advisory database (needs to reach its repository)
        #[arg(long)]
        advisories: bool,
    },
}

fn main() -> ExitCode {
    match act(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            if !message.is_empty() {
                eprintln!("error: {message}");
            }
            ExitCode::FAILURE
        }
    }
}

fn act(action: Action) -> Result<(), String> {
    let needs_root = "makes network namespaces and loads eBPF programs";
    match action {
        Action::Setup => setup::run().map_err(|error| error.to_string()),
        Action::Demo { arguments } => programs::run("demo", needs_root, &arguments),
        Action::Test(selection) => {
            if test::run(&selection) {
                Ok(())
            } else {
                Err(String::new())
            }
        }
        Action::Bench { arguments } => programs::run("bench", needs_root, &arguments),
        Action::Crds => crds::run(),
        Action::Image(arguments) => image::run(&arguments),
        Action::Ebpf => ebpf::run(),
        Action::Guard => guard::run(),
        Action::Fmt { check: false } => lint::format(),
        Action::Fmt { check: true } => lint::format_check(),
        Action::Lint => lint::lints(Duration::from_secs(3600)),
        Action::Deny { advisories } => deny::run(advisories),
    }
}
