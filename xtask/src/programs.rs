//! `cargo xtask demo` and `cargo xtask bench`: build the agent and the program of the tests crate, as the user,
//! then run that program as root.

use std::process::Command;

use crate::{run, setup, workspace};

/// Builds and runs one of the programs `demo` and `bench` of the crate `posthaste-tests`.
pub(crate) fn run(name: &str, why: &str, arguments: &[String]) -> Result<(), String> {
    setup::ensure().map_err(|error| error.to_string())?;
    if name == "bench" {
        // One subject of many: it fails by itself when it is asked for and is not there.
        if let Err(error) = setup::python::bring(setup::python::Packages::Bench) {
            println!("bench: the subject envoy-http will not work. {error}");
        }
    }
    println!("{name}: building the agent (release; the first time takes minutes)");
    // One command for both: two would ask for dependencies with different features, and compile those twice.
    let mut build = Command::new("cargo");
    build.args(["build", "--release", "-p", "posthaste", "-p", "posthaste-tests"]);
    // The peer is the program in some pods of the demo.
    build.args(["--bin", "posthaste", "--bin", "posthaste-peer", "--bin", name]);
    build.current_dir(workspace::root());
    run::run(&mut build).map_err(|error| error.to_string())?;
    if !run::is_root() {
        println!("{name}: runs through sudo, because it {why}");
    }
    let folder = workspace::target().join("release");
    let mut command = run::as_root(&folder.join(name).to_string_lossy());
    command.args(arguments).env("POSTHASTE_BIN", folder.join("posthaste")).current_dir(workspace::root());
    run::run(&mut command).map_err(|error| error.to_string())
}
