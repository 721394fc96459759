//! `posthaste endpoints SERVICE`: how requests to a service are balanced over its endpoints, and which are left alone.

use super::{
    CliError, Options, client, present,
    routes::target,
    services,
    table::{Column, Fit, WIDE, draw},
    units::{age, micros},
};
use crate::observe::views::{EndpointsView, HealthView};
use std::io::Write;

/// Which of them.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct EndpointsArguments {
    /// `name`, `name.namespace` or the whole host name
    pub service: Option<String>,
    /// Only services of this namespace
    #[arg(short, long)]
    pub namespace: Option<String>,
}

/// Asks and shows.
pub(super) fn show(
    options: &Options,
    arguments: &EndpointsArguments,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let parts = [("service", &arguments.service), ("namespace", &arguments.namespace)];
    let ports: Vec<EndpointsView> = client::ask(&options.place, &target("/endpoints", parts))?;
    present(options, &ports, out, |fit| text(&ports, fit))?;
    match &arguments.service {
        Some(service) if ports.is_empty() => {
            services::known(options, service)?;
            Err(CliError::NoService { name: service.clone(), near: String::new() })
        }
        _ => Ok(()),
    }
}

fn text(ports: &[EndpointsView], fit: Fit) -> String {
    if ports.is_empty() {
        return String::new();
    }
    let blocks: Vec<String> = ports.iter().map(|port| block(port, fit)).collect();
    blocks.join("\n")
}

fn block(port: &EndpointsView, fit: Fit) -> String {
    let running: Vec<_> =
        port.running.iter().map(|one| format!("{} {}/{}", one.name, one.now, one.limit)).collect();
    let mut text = format!("{}.{}:{}", port.service, port.namespace, port.port);
    text.push_str(&format!("  {}{}\n", family(port), port.balancer));
    if !running.is_empty() {
        text.push_str(&format!("under way: {}\n", running.join("  ")));
    }
    if !port.policies.is_empty() {
        text.push_str(&format!("by {}\n", port.policies.join(", ")));
    }
    if port.panic {
        text.push_str("too few are healthy: ejections are not honoured\n");
    }
    if port.endpoints.is_empty() {
        return text + "no endpoints\n";
    }
    // Numbers are never shortened.
    let columns = [
        Column { title: "ENDPOINT", rank: 0, least: 15 },
        Column { title: "POD", rank: 4, least: 12 },
        Column { title: "WEIGHT", rank: 0, least: 7 },
        Column { title: "RESPONSE", rank: 1, least: 9 },
        Column { title: "RUNNING", rank: 2, least: 10 },
        Column { title: "CONNS", rank: 5, least: 10 },
        Column { title: "STATE", rank: 0, least: 9 },
        Column { title: "FOR", rank: 0, least: 7 },
        Column { title: "WHY", rank: 1, least: 12 },
        Column { title: "FAILED", rank: 6, least: 10 },
        Column { title: "CONNECT", rank: WIDE, least: 9 },
    ];
    let rows: Vec<_> = port.endpoints.iter().map(row).collect();
    text + &draw(&columns, &rows, fit)
}

/// A service of both address families has a block for each.
fn family(port: &EndpointsView) -> &'static str {
    match port.endpoints.first() {
        Some(one) if one.address.starts_with('[') => "IPv6  ",
        Some(_) => "IPv4  ",
        None => "",
    }
}

fn row(one: &HealthView) -> Vec<String> {
    let dash = || "-".to_owned();
    let spared = one.penalised_ms.filter(|_| one.state == "healthy");
    vec![
        one.address.clone(),
        one.pod.clone().unwrap_or_else(dash),
        format!("{:.1}%", one.weight_percent),
        if one.response_us == 0 { dash() } else { micros(one.response_us) },
        one.requests.to_string(),
        one.connections.to_string(),
        if spared.is_some() { "spared".to_owned() } else { one.state.clone() },
        one.ejected_ms.or(spared).map_or_else(dash, age),
        one.why.clone().unwrap_or_else(dash),
        one.failures.to_string(),
        if one.connect_us == 0 { dash() } else { micros(one.connect_us) },
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::observe::views::RunningView;

    #[test]
    fn who_is_ejected_until_when_and_why() {
        let well = HealthView {
            address: "10.0.1.9:8080".to_owned(),
            weight_percent: 100.0,
            response_us: 1500,
            state: "healthy".to_owned(),
            ..HealthView::default()
        };
        let spared =
            HealthView { address: "10.0.1.10:8080".to_owned(), penalised_ms: Some(900), ..well.clone() };
        let ejected = HealthView {
            address: "10.0.1.11:8080".to_owned(),
            state: "ejected".to_owned(),
            why: Some("success_rate".to_owned()),
            ejected_ms: Some(61_000),
            weight_percent: 0.0,
            ..well.clone()
        };
        let port = EndpointsView {
            namespace: "shop".to_owned(),
            service: "cart".to_owned(),
            port: 80,
            balancer: "power_of_two".to_owned(),
            running: vec![RunningView { name: "requests".to_owned(), now: 2, limit: 8192 }],
            endpoints: vec![well, spared, ejected],
            ..EndpointsView::default()
        };
        let text = text(&[port], Fit { width: Some(80), wide: false });
        let expected = "cart.shop:80  IPv4  power_of_two\n\
            under way: requests 2/8192\n\
            ENDPOINT        WEIGHT  RESPONSE  RUNNING  CONNS  STATE    FOR    WHY\n\
            10.0.1.9:8080   100.0%  1.5ms     0        0      healthy  -      -\n\
            10.0.1.10:8080  100.0%  1.5ms     0        0      spared   900ms  -\n\
            10.0.1.11:8080  0.0%    1.5ms     0        0      ejected  1m1s   success_rate\n";
        assert_eq!(text, expected);
    }
}
