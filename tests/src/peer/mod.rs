//! The small programs that pods run where no ordinary program shows what a check needs (`posthaste-peer`): servers and
//! clients on plain blocking sockets that know nothing of the mesh. Every answer is one JSON object on one line.

pub mod client;
pub mod crowd;
mod drip;
pub mod faulty;
pub mod load;
pub mod pattern;
pub mod server;

use crate::{Fault, Running, Site, agent, wait::eventually};
use serde_json::Value;
use std::{net::SocketAddr, time::Duration};

/// Name of the program.
pub const PROGRAM: &str = "posthaste-peer";

/// Starts `posthaste-peer serve BEHAVIOUR PORT` at a site and waits until it listens (on all addresses, both families).
///
/// # Errors
/// The program is missing or the port is taken.
pub fn serve(site: &Site, behaviour: &str, port: u16) -> Result<Running, Fault> {
    serve_with(site, behaviour, port, &[])
}

/// The same with arguments.
///
/// # Errors
/// The program is missing or the port is taken.
pub fn serve_with(site: &Site, behaviour: &str, port: u16, arguments: &[&str]) -> Result<Running, Fault> {
    let (program, port) = (agent::beside(PROGRAM)?.display().to_string(), port.to_string());
    let mut running = site.start(&[&[program.as_str(), "serve", behaviour, &port], arguments].concat())?;
    running.wait_for_output("\"listening\"")?;
    Ok(running)
}

/// Starts `posthaste-peer call BEHAVIOUR ADDRESS ARGUMENTS..` at a site.
///
/// # Errors
/// The program is missing.
pub fn start_call(
    site: &Site,
    behaviour: &str,
    to: SocketAddr,
    arguments: &[&str],
) -> Result<Running, Fault> {
    let (program, to) = (agent::beside(PROGRAM)?.display().to_string(), to.to_string());
    site.start(&[&[program.as_str(), "call", behaviour, &to], arguments].concat())
}

/// The same to its end; returns the last line that it printed. A connection that fails is an answer too (`error`).
///
/// # Errors
/// It did not end within `limit`, or printed no JSON.
pub fn call_within(
    limit: Duration,
    site: &Site,
    behaviour: &str,
    to: SocketAddr,
    arguments: &[&str],
) -> Result<Value, Fault> {
    let finished = start_call(site, behaviour, to, arguments)?.finish(limit)?;
    let last = lines(&finished.stdout).pop();
    last.ok_or_else(|| {
        Fault::new(format!("no answer from the peer: {} {}", finished.stdout, finished.stderr))
    })
}

/// [`call_within`] half a minute.
///
/// # Errors
/// It did not end, or printed no JSON.
pub fn call(site: &Site, behaviour: &str, to: SocketAddr, arguments: &[&str]) -> Result<Value, Fault> {
    call_within(Duration::from_secs(30), site, behaviour, to, arguments)
}

/// Sends these bytes as they are and returns what came back within three seconds, and how it ended (`eof`, or the kind of error).
///
/// # Errors
/// The program did not end.
pub fn raw(site: &Site, to: SocketAddr, bytes: &[u8]) -> Result<(String, String), Fault> {
    let answer = call(site, "raw", to, &[&hexadecimal(bytes)])?;
    let text = |field: &str| answer[field].as_str().unwrap_or_default().to_owned();
    let end = if answer["end"].is_null() { text("error") } else { text("end") };
    Ok((text("answer"), end))
}

/// As the peers take bytes.
#[must_use]
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The JSON lines of an output.
#[must_use]
pub fn lines(text: &str) -> Vec<Value> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Waits for a line of a running peer that `fits`.
///
/// # Errors
/// There is none in time.
pub fn wait_line(running: &Running, what: &str, fits: impl Fn(&Value) -> bool) -> Result<Value, Fault> {
    eventually(what, || {
        let text = running.stdout();
        lines(&text).into_iter().find(&fits).ok_or(text)
    })
}
