//! Python programs of `tests/python`, run by the interpreter that `cargo xtask setup` has installed the pinned packages for.

use crate::{Fault, Running, Site, tools};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// Long enough for all checks of one script, each of which has a limit of its own.
const ALL_CHECKS: Duration = Duration::from_secs(120);

/// A program of the environment (`python3`, `uvicorn`, `hypercorn`).
///
/// # Errors
/// It is not installed.
pub fn program(name: &str) -> Result<String, Fault> {
    tools::program("python", name)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python")
}

/// Starts a program of the environment in the folder of the scripts.
///
/// # Errors
/// It is not installed.
pub fn start(site: &Site, name: &str, arguments: &[&str]) -> Result<Running, Fault> {
    let mut command = site.command(program(name)?)?;
    command.args(arguments).current_dir(folder());
    // Nothing is written beside the scripts, and what a program says is seen at once.
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUNBUFFERED", "1");
    // A proxy of this machine is none for the pods.
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(name);
    }
    site.launch(command)
}

/// uvicorn with `app.py`, HTTP/1.1 and WebSocket, IPv4.
///
/// # Errors
/// It does not listen in time.
pub fn uvicorn(site: &Site, port: u16) -> Result<Running, Fault> {
    let port_text = port.to_string();
    let line = ["app:application", "--host", "0.0.0.0", "--port", &port_text, "--log-level", "warning"];
    let running = start(site, "uvicorn", &line)?;
    listening(site, port, running)
}

/// hypercorn with `app.py`, HTTP/1.1, WebSocket and HTTP/2 with prior knowledge, both families.
///
/// # Errors
/// It does not listen in time.
pub fn hypercorn(site: &Site, port: u16) -> Result<Running, Fault> {
    let both = format!("[::]:{port}");
    let running = start(site, "hypercorn", &["app:application", "--bind", &both])?;
    listening(site, port, running)
}

/// The gRPC server of `grpc_server.py`, both families; it knows the name of its place.
///
/// # Errors
/// It does not listen in time.
pub fn grpc_server(site: &Site, port: u16) -> Result<Running, Fault> {
    let running = start(site, "python3", &["grpc_server.py", &port.to_string(), &site.name])?;
    listening(site, port, running)
}

/// `forward.py`, which passes requests on to a URL, both families.
///
/// # Errors
/// It does not listen in time.
pub fn forward(site: &Site, port: u16, url: &str) -> Result<Running, Fault> {
    let running = start(site, "python3", &["forward.py", &port.to_string(), url])?;
    listening(site, port, running)
}

fn listening(site: &Site, port: u16, running: Running) -> Result<Running, Fault> {
    match site.wait_listening(port) {
        Ok(()) => Ok(running),
        Err(fault) => Err(Fault::new(format!("{fault}: {}{}", running.stdout(), running.stderr()))),
    }
}

/// Runs the checks of a script; returns how many passed.
///
/// # Errors
/// A check failed, or there was none.
pub fn checks(site: &Site, script: &str, target: &str) -> Result<usize, Fault> {
    let finished = start(site, "python3", &[script, target])?.finish(ALL_CHECKS)?;
    let last = finished.stdout.lines().last().unwrap_or_default();
    let report: Value = serde_json::from_str(last).unwrap_or_default();
    let passed = report["passed"].as_array().map_or(0, Vec::len);
    let failed = report["failed"].as_object().is_none_or(|failed| !failed.is_empty());
    if passed == 0 || failed {
        return Err(Fault::new(format!("{script} {target}: {}{}", finished.stdout, finished.stderr)));
    }
    Ok(passed)
}
