//! `cargo xtask test`: every check in rings, the cheapest first. A ring that was asked for and cannot run fails
//! with its reason, none is skipped. Ends with one line `N passed, N failed`, real sums over all binaries.

mod root_ring;
mod tally;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::run::{self, RunError};
use crate::setup::{kubernetes, python};
use crate::{setup, workspace};
use tally::Tally;

/// A part of the tests, by what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ring {
    /// Formatting, guards, lints, and tests inside the crates: no root, no network
    Unit,
    /// The eBPF programs in the running kernel: root
    Kernel,
    /// Whole nodes with real programs in network namespaces: root
    Mesh,
    /// The same nodes with a real API server: root
    Kubernetes,
}

/// Which tests to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Selection {
    /// Only this ring (may be given more than once); all of them without it
    #[arg(long = "ring", value_enum)]
    rings: Vec<Ring>,
    /// Passed on to the test binaries: a name to filter by, or options such as --nocapture behind `--`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    filter: Vec<String>,
}

impl Selection {
    fn wants(&self, ring: Ring) -> bool {
        self.rings.is_empty() || self.rings.contains(&ring)
    }
}

const MINUTE: Duration = Duration::from_secs(60);

/// Runs what is selected; the answer is whether nothing failed.
pub(crate) fn run(selection: &Selection) -> bool {
    let mut report = Report::default();
    report.step("setup", |_| setup::ensure().map_err(|error| error.to_string()));
    if report.failures.is_empty() {
        if selection.wants(Ring::Unit) {
            unit(&mut report, &selection.filter);
        }
        if selection.wants(Ring::Kernel) {
            let why = "loads eBPF programs and makes network namespaces";
            let ring = root_ring::RootRing { package: "posthaste", binary: None, why };
            report.step("kernel ring", |tally| ring.run(&selection.filter, 15 * MINUTE, tally));
        }
        if selection.wants(Ring::Mesh) {
            let why = "makes network namespaces and runs agents in them";
            let ring = root_ring::RootRing { package: "posthaste-tests", binary: Some("mesh"), why };
            report.step("mesh ring", |tally| {
                python::bring(python::Packages::Tests).map_err(|error| error.to_string())?;
                ring.run(&selection.filter, 40 * MINUTE, tally)
            });
        }
        if selection.wants(Ring::Kubernetes) {
            let why = "makes network namespaces and runs agents in them";
            let ring = root_ring::RootRing { package: "posthaste-tests", binary: Some("kubernetes"), why };
            report.step("kubernetes ring", |tally| {
                kubernetes::bring().map_err(|error| error.to_string())?;
                ring.run(&selection.filter, 30 * MINUTE, tally)
            });
        }
    }
    report.close()
}

fn unit(report: &mut Report, filter: &[String]) {
    report.step("formatting", |_| crate::lint::format_check());
    let guards = ["test", "--quiet", "-p", "xtask", "--"];
    let with_filter = |fixed: &[&str]| -> Vec<String> {
        fixed.iter().map(|word| (*word).to_owned()).chain(filter.iter().cloned()).collect()
    };
    report.step("guards", |tally| cargo(&with_filter(&guards), 10 * MINUTE, tally));
    report.step("lints", |_| crate::lint::lints(30 * MINUTE));
    let unit = ["test", "--workspace", "--exclude", "xtask", "--lib", "--bins", "--no-fail-fast", "--"];
    report.step("unit tests", |tally| cargo(&with_filter(&unit), 30 * MINUTE, tally));
}

fn cargo<Word: AsRef<std::ffi::OsStr>>(
    arguments: &[Word],
    limit: Duration,
    tally: &mut Tally,
) -> Result<(), String> {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(workspace::root());
    streamed(&mut command, limit, tally).map_err(|error| error.to_string())
}

fn streamed(command: &mut Command, limit: Duration, tally: &mut Tally) -> Result<(), RunError> {
    run::stream(command, limit, |line| tally.see(line))
}

/// What happened so far.
#[derive(Default)]
struct Report {
    total: Tally,
    failures: Vec<(String, String)>,
    times: Vec<(String, Duration)>,
}

impl Report {
    /// Whether it succeeded.
    fn step(&mut self, name: &str, work: impl FnOnce(&mut Tally) -> Result<(), String>) -> bool {
        println!("\n=== {name}");
        let begin = Instant::now();
        let mut tally = Tally::default();
        let result = work(&mut tally);
        self.total.add(tally.of_step(result.is_ok()));
        self.times.push((name.to_owned(), begin.elapsed()));
        if let Err(reason) = &result {
            eprintln!("{name} failed: {reason}");
            self.failures.push((name.to_owned(), reason.clone()));
        }
        result.is_ok()
    }

    fn close(&self) -> bool {
        println!("\n=== summary");
        for (name, time) in &self.times {
            let failure = self.failures.iter().find(|(failed, _)| failed == name);
            let outcome = failure.map_or("ok".to_owned(), |(_, reason)| format!("FAILED: {reason}"));
            println!("{name:<20} {:>5} s  {outcome}", time.as_secs());
        }
        if self.total.alone > 0 {
            println!(
                "{} test(s) failed beside others and passed alone; see `again, alone` above",
                self.total.alone
            );
        }
        if self.total.ignored > 0 {
            println!("{} skipped (#[ignore])", self.total.ignored);
        }
        println!("{}", self.total.closing_line());
        self.total.failed == 0
    }
}

/// The folder in which cargo would run the tests of a package, as their relative paths expect.
fn package_folder(manifest: &str) -> Option<&Path> {
    Path::new(manifest).parent()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn no_ring_named_means_all() {
        let all = Selection { rings: vec![], filter: vec![] };
        let one = Selection { rings: vec![Ring::Mesh], filter: vec![] };
        assert!(all.wants(Ring::Unit) && all.wants(Ring::Kernel));
        assert!(one.wants(Ring::Mesh) && !one.wants(Ring::Kernel));
    }

    #[test]
    fn a_failed_step_is_counted_even_without_tests() {
        let mut report = Report::default();
        report.step("works", |tally| {
            tally.see("test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured");
            Ok(())
        });
        report.step("breaks", |_| Err("no reason".into()));
        assert_eq!(report.total.closing_line(), "2 passed, 1 failed");
        assert!(!report.close());
    }
}
