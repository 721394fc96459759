//! `posthaste dashboard`: one local web page with the topology, services, connections and `explain`, live. It asks the agents as the
//! other commands do, so it works on a node, and from a laptop through the cluster's API server. It changes nothing, listens on loopback
//! only, and answers whoever has the token that it printed.

mod access;
mod answers;
mod sample;
mod sampler;
mod state;

use super::{CliError, Options, Output, cluster};
use crate::{
    observe::http::{Listener, serve_with},
    tls::provider,
};
use answers::Dashboard;
use sampler::Sampler;
use serde::Serialize;
use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

/// Random bytes of a token.
const TOKEN: usize = 32;

/// Where it listens.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Shows what the agent of this node knows, and those at --peer-socket; from outside a cluster (--context, --kubeconfig or as a plug-in of
kubectl) what all agents know, or those of one --node or --pod. Runs until Ctrl-C.

On another machine, forward the port and open the printed address with the port that you chose:
  ssh -L 8080:127.0.0.1:PORT NODE")]
pub struct DashboardArguments {
    /// Port; 0 takes one that is free
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// Loopback address
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), value_parser = loopback)]
    pub address: IpAddr,
}

fn loopback(text: &str) -> Result<IpAddr, String> {
    let advice =
        "the dashboard listens at 127.0.0.1 or ::1 only; from elsewhere, forward a port to it (ssh -L)";
    match text.parse::<IpAddr>() {
        Ok(address) if address == Ipv4Addr::LOCALHOST || address == std::net::Ipv6Addr::LOCALHOST => {
            Ok(address)
        }
        Ok(_) => Err(format!("`{text}` is not this machine's own: {advice}")),
        Err(_) => Err(format!("`{text}` is no IP address: {advice}")),
    }
}

/// It cannot start.
#[derive(Debug, thiserror::Error)]
pub enum DashboardError {
    /// The port is taken, or not for us.
    #[error("cannot listen at {address}: {source}; choose another --port, or 0 for one that is free")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// No threads.
    #[error("cannot start: {0}")]
    Start(io::Error),
    /// No random numbers.
    #[error("the system gives no random numbers for a token")]
    Random,
}

/// What is printed with `-o json`.
#[derive(Serialize)]
struct Printed {
    url: String,
}

/// Serves until the process ends.
pub(super) fn show(
    options: &Options,
    arguments: &DashboardArguments,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let sampler = Arc::new(Sampler::of(places(options)?));
    for failure in sampler.try_all()? {
        eprintln!("posthaste: {failure}; the dashboard goes on asking");
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(DashboardError::Start)?;
    let address = SocketAddr::new(arguments.address, arguments.port);
    let listen = runtime.block_on(tokio::net::TcpListener::bind(address));
    let listener = listen.map_err(|source| DashboardError::Listen { address, source })?;
    let address = listener.local_addr().map_err(DashboardError::Start)?;
    let token = token()?;
    sampler.start().map_err(DashboardError::Start)?;
    print(options, &format!("http://{address}/#token={token}"), out)?;
    let dashboard = Dashboard::new(&token, options, sampler);
    let respond = move |request| dashboard.clone().respond(request);
    runtime.block_on(async { match serve_with(Listener::Tcp(listener), respond).await {} })
}

/// One agent where one is meant, else all that can be found.
fn places(options: &Options) -> Result<Vec<cluster::place::Place>, CliError> {
    let place = &options.place;
    if place.is_cluster() && place.node.is_none() && place.pod.is_none() {
        return Ok(cluster::everywhere::agents_of(place)?);
    }
    Ok(options.places().collect())
}

fn print(options: &Options, url: &str, out: &mut dyn Write) -> Result<(), CliError> {
    let text = match options.output {
        Output::Json => serde_json::to_string(&Printed { url: url.to_owned() })? + "\n",
        _ => format!(
            "{url}\nOpen it in a browser of this machine. Its end is a secret: whoever has it may look. Ctrl-C ends the dashboard.\n"
        ),
    };
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

fn token() -> Result<String, DashboardError> {
    let mut bytes = [0; TOKEN];
    provider().secure_random.fill(&mut bytes).map_err(|_| DashboardError::Random)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use clap::Parser;

    #[test]
    fn only_loopback() {
        for (text, expected) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("0.0.0.0", false),
            ("::", false),
            ("10.0.0.1", false),
            ("127.0.0.2", false),
            ("localhost", false),
        ] {
            assert_eq!(loopback(text).is_ok(), expected, "{text}");
            let line = ["posthaste", "dashboard", "--address", text];
            assert_eq!(super::super::Arguments::try_parse_from(line).is_ok(), expected, "{text}");
        }
        assert!(loopback("10.0.0.1").unwrap_err().contains("ssh -L"));
    }

    #[test]
    fn tokens_are_long_and_never_the_same() {
        let (one, other) = (token().unwrap(), token().unwrap());
        assert!(one.len() == 2 * TOKEN && one != other);
    }
}
