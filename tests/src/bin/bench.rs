//! `bench`: compares direct connections, Posthaste and pairs of HAProxy and Envoy; see `bench` of the harness for how. It needs
//! root, a release build of `posthaste`, the Debian packages iproute2, haproxy, wrk, nginx-light and iperf3, and the Envoy that
//! `cargo xtask bench` brings.

use clap::{Parser, ValueEnum};
use posthaste_tests::{
    Doing, Fault,
    bench::{self, Plan, case::Case, report, subject::Kind, usage},
    world,
};
use std::{fs, path::PathBuf, process::ExitCode};

/// Compares direct connections, Posthaste and pairs of HAProxy and Envoy with mutual TLS, in one run, alternating, medians
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Arguments {
    /// Only this case (may be given more than once)
    #[arg(long = "case", value_enum)]
    cases: Vec<Case>,
    /// Only this subject (may be given more than once)
    #[arg(long = "subject", value_enum)]
    subjects: Vec<Kind>,
    /// Runs of each subject in each case; the median counts
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Seconds of one run
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// Connections of the case idle
    #[arg(long, default_value_t = 10_000)]
    idle_connections: u32,
    /// Writes the rows to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("bench: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Fault> {
    let plan = Plan {
        cases: all_unless(&arguments.cases),
        subjects: all_unless(&arguments.subjects),
        runs: arguments.runs.max(1),
        seconds: arguments.seconds.max(1),
        idle_connections: arguments.idle_connections.clamp(1, most_connections()),
    };
    if plan.idle_connections < arguments.idle_connections {
        eprintln!("{} idle connections: more files may not be open on this machine", plan.idle_connections);
    }
    let busy = usage::machine_busy()?;
    if busy > 0.1 {
        eprintln!("the machine is {:.0} % busy with other work: do not trust these numbers", busy * 100.0);
    }
    println!("congestion control of the kernel: {}", congestion_control()?);
    let rows = bench::run(&plan)?;
    println!("{}", report::table(&rows));
    println!(
        "CPU: user and system time of both proxies. RSS and KiB/conn: resident memory of both proxies (not the kernel's \
         sockets). Latency: from a request's first byte to its answer's last."
    );
    if let Some(file) = &arguments.json {
        let text = format!("{:#}\n", report::json(&rows));
        fs::write(file, text).doing(format!("write {}", file.display()))?;
    }
    Ok(())
}

/// A proxy of two sockets per connection must be able to hold them all.
fn most_connections() -> u32 {
    u32::try_from(world::descriptor_limit().saturating_sub(200) / 2).unwrap_or(u32::MAX)
}

fn all_unless<T: ValueEnum + Copy>(chosen: &[T]) -> Vec<T> {
    if chosen.is_empty() { T::value_variants().to_vec() } else { chosen.to_vec() }
}

fn congestion_control() -> Result<String, Fault> {
    let path = "/proc/sys/net/ipv4/tcp_congestion_control";
    fs::read_to_string(path).map(|text| text.trim().to_owned()).doing(format!("read {path}"))
}
