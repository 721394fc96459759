//! `posthaste-peer serve BEHAVIOUR PORT ARGUMENTS..` and `posthaste-peer call BEHAVIOUR ADDRESS ARGUMENTS..`: see `peer` of the harness.

use posthaste_tests::peer::{client, server};
use std::{io, process::ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("posthaste-peer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> io::Result<()> {
    let text = |at: usize| arguments.get(at).map_or("", String::as_str);
    let wrong = |error: &dyn std::fmt::Display| io::Error::other(format!("`{}`: {error}", text(2)));
    match text(0) {
        "serve" => {
            let port = text(2).parse().map_err(|error| wrong(&error))?;
            server::run(text(1), port, arguments.get(3..).unwrap_or_default())
        }
        "call" => {
            let to = text(2).parse().map_err(|error| wrong(&error))?;
            client::run(text(1), to, arguments.get(3..).unwrap_or_default())
        }
        _ => {
            Err(io::Error::other("usage: posthaste-peer serve BEHAVIOUR PORT .. | call BEHAVIOUR ADDRESS .."))
        }
    }
}
