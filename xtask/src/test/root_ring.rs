//! The rings that need root: test binaries are built as the user and only then run, through `sudo` where the user
//! is not root. Refuses a package without integration tests: a ring with no test in it proves nothing.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::package_folder;
use crate::run::{self, RunError, as_root, is_root};
use crate::test::tally::{Tally, failed_test};
use crate::workspace;

/// How many tests of a binary may be tried a second time, alone: more are no accident of a busy machine.
const SECOND_CHANCES: usize = 2;

/// The integration tests of one package, or one binary of them.
pub(super) struct RootRing {
    pub(super) package: &'static str,
    /// The test binary; all of the package where there is none.
    pub(super) binary: Option<&'static str>,
    /// What it does that needs root, for the person who is asked for a password.
    pub(super) why: &'static str,
}

/// A test binary and the folder it expects to run in.
#[derive(Debug, PartialEq, Eq)]
struct Binary {
    name: String,
    path: PathBuf,
    folder: PathBuf,
}

impl RootRing {
    /// Builds, then runs every binary even when one before it failed.
    pub(super) fn run(&self, filter: &[String], limit: Duration, tally: &mut Tally) -> Result<(), String> {
        let binaries = self.build()?;
        if binaries.is_empty() {
            let which = self.binary.unwrap_or("any");
            return Err(format!("package {} has no integration tests ({which})", self.package));
        }
        if !is_root() {
            println!("these tests run through sudo, because this ring {}", self.why);
        }
        let deadline = Instant::now() + limit;
        let mut failed = Vec::new();
        for binary in binaries {
            println!("\n--- {} {}", self.package, binary.name);
            if let Err(error) = binary.run(filter, deadline, tally) {
                failed.push(format!("{}: {error}", binary.name));
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
    }

    /// Builds the integration tests of all packages, and with them every program that they run: the same features for
    /// everything, in every ring, so that no dependency is compiled twice. `xtask` stays out, as in the unit tests.
    fn build(&self) -> Result<Vec<Binary>, String> {
        let mut command = Command::new("cargo");
        command.args(["test", "--workspace", "--exclude", "xtask", "--test", "*", "--no-run"]);
        command.args(["--message-format", "json-render-diagnostics"]);
        command.current_dir(workspace::root()).stderr(Stdio::inherit());
        let output = command.output().map_err(|error| format!("cargo could not be started: {error}"))?;
        if !output.status.success() {
            return Err("the integration tests, or the programs that they run, do not build".to_owned());
        }
        let messages = String::from_utf8_lossy(&output.stdout);
        let messages = messages.lines().filter_map(|line| serde_json::from_str(line).ok());
        let ours = messages.filter(|message| package(message) == Some(self.package));
        let wanted = |binary: &Binary| self.binary.is_none_or(|name| name == binary.name);
        Ok(ours.filter_map(|message| test_binary(&message)).filter(wanted).collect())
    }
}

impl Binary {
    /// Runs it. Whole nodes beside each other on a small machine can starve one another: a few tests that fail are tried again,
    /// each alone, and are named when they pass then. What is wrong fails twice.
    fn run(&self, filter: &[String], deadline: Instant, tally: &mut Tally) -> Result<(), RunError> {
        let (mut own, mut names) = (Tally::default(), Vec::new());
        let mut outcome = self.once(filter, deadline, |line| {
            own.see(line);
            names.extend(failed_test(line).map(str::to_owned));
        });
        let few = (1..=SECOND_CHANCES).contains(&names.len());
        if few && matches!(outcome, Err(RunError::Failed { .. })) {
            println!("\n--- again, alone: {}", names.join(", "));
            outcome = names.iter().try_for_each(|name| {
                self.once(&[name.clone(), "--exact".to_owned()], deadline, |_| ())?;
                println!("{name} failed beside others and passed alone");
                own.forgive(1);
                Ok(())
            });
        }
        tally.add(own);
        outcome
    }

    fn once(&self, arguments: &[String], deadline: Instant, see: impl FnMut(&str)) -> Result<(), RunError> {
        let mut command = as_root(&self.path.to_string_lossy());
        command.args(arguments).current_dir(&self.folder);
        run::stream(&mut command, deadline.saturating_duration_since(Instant::now()), see)
    }
}

/// The package that one of cargo's messages is about, from `path+file:///r/agent#posthaste@0.1.0` or, where the folder is
/// named like the package, `path+file:///r/xtask#0.1.0` (cargo's package id specification).
fn package(message: &Value) -> Option<&str> {
    let (path, rest) = message.get("package_id")?.as_str()?.split_once('#')?;
    rest.split_once('@').map(|(name, _)| name).or_else(|| path.rsplit('/').next())
}

/// The binary that one of cargo's messages announces, if it is an integration test.
fn test_binary(message: &Value) -> Option<Binary> {
    let target = message.get("target")?;
    let is_test = target.get("kind")?.as_array()?.iter().any(|kind| kind == "test");
    let path = PathBuf::from(message.get("executable")?.as_str()?);
    let folder = package_folder(message.get("manifest_path")?.as_str()?)?.to_path_buf();
    let name = target.get("name")?.as_str()?.to_owned();
    is_test.then_some(Binary { name, path, folder })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_cargos_messages() {
        let message = json!({"reason": "compiler-artifact", "manifest_path": "/r/agent/Cargo.toml",
            "target": {"kind": ["test"], "name": "capture"}, "executable": "/r/target/debug/deps/capture-1"});
        let binary = test_binary(&message).unwrap();
        assert_eq!((binary.name.as_str(), binary.folder), ("capture", PathBuf::from("/r/agent")));
        let library = json!({"manifest_path": "/r/agent/Cargo.toml", "target": {"kind": ["lib"], "name": "posthaste"}, "executable": null});
        assert_eq!(test_binary(&library), None);
    }

    #[test]
    fn knows_whose_message_it_is() {
        let of = |id: &str| package(&json!({"package_id": id})).map(str::to_owned);
        assert_eq!(of("path+file:///r/agent#posthaste@0.1.0").as_deref(), Some("posthaste"));
        assert_eq!(of("path+file:///r/xtask#0.1.0").as_deref(), Some("xtask"));
        assert_eq!(package(&json!({"reason": "build-finished"})), None);
    }
}
