//! `posthaste probe live|ready`: asks the agent of this pod how it is, for the probes of kubelet. The answer is the exit status;
//! the reason is printed.

use std::{io::Write, process::ExitCode};

use super::{CliError, Options, client};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Probe {
    /// Whether it answers at all
    Live,
    /// Whether pods can rely on it, or it stands by for another agent
    Ready,
}

/// Asks.
pub(super) fn show(options: &Options, probe: Probe, out: &mut dyn Write) -> Result<ExitCode, CliError> {
    let page = match probe {
        Probe::Live => "/healthz",
        Probe::Ready => "/readyz",
    };
    out.write_all(&client::fetch(&options.place, page)?)?;
    Ok(ExitCode::SUCCESS)
}
