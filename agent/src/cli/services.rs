//! `posthaste services`: services and the endpoints that this node picks from.

use super::{
    CliError, Options, client, present,
    table::{Column, Fit, draw},
    units::{age, micros},
};
use crate::{
    control::spelling,
    observe::views::{EndpointView, ServicePortView, ServiceView},
};
use std::io::Write;

/// Names that are suggested at most.
const NEAR: usize = 3;

/// Which of them.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ServicesArguments {
    /// Only of this namespace
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// One row for each endpoint, with its load and health
    #[arg(long)]
    pub endpoints: bool,
}

/// Asks and shows.
pub(super) fn show(
    options: &Options,
    arguments: &ServicesArguments,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let mut services: Vec<ServiceView> = client::ask(&options.place, "/services")?;
    services.retain(|service| {
        arguments.namespace.as_ref().is_none_or(|namespace| *namespace == service.namespace)
    });
    present(options, &services, out, |fit| match (services.is_empty(), arguments.endpoints) {
        (true, _) => "no services\n".to_owned(),
        (false, true) => endpoint_table(&services, fit),
        (false, false) => service_table(&services, fit),
    })
}

/// Whether the agent has a service of this name: `name`, `name.namespace` or the whole host name.
///
/// # Errors
/// It has none, with those that may be meant.
pub(super) fn known(options: &Options, wanted: &str) -> Result<(), CliError> {
    let services: Vec<ServiceView> = client::ask(&options.place, "/services")?;
    among(&services, wanted)
}

fn among(services: &[ServiceView], wanted: &str) -> Result<(), CliError> {
    let (name, rest) = wanted.split_once('.').map_or((wanted, None), |(name, rest)| (name, Some(rest)));
    let of_namespace = |service: &ServiceView| {
        let namespace = rest.map(|rest| rest.split_once(".svc").map_or(rest, |(namespace, _)| namespace));
        namespace.is_none_or(|namespace| namespace == service.namespace)
    };
    if services.iter().any(|service| service.name == name && of_namespace(service)) {
        return Ok(());
    }
    let is_near = |service: &&ServiceView| {
        service.name == name || spelling::meant(name, std::iter::once(&*service.name)).is_some()
    };
    let near =
        services.iter().filter(is_near).map(|service| format!("`{}.{}`", service.name, service.namespace));
    let near: Vec<String> = near.take(NEAR).collect();
    let near =
        if near.is_empty() { String::new() } else { format!(" (did you mean {}?)", near.join(" or ")) };
    Err(CliError::NoService { name: wanted.to_owned(), near })
}

fn service_table(services: &[ServiceView], fit: Fit) -> String {
    let columns = [
        Column { title: "NAMESPACE", rank: 0, least: 9 },
        Column { title: "SERVICE", rank: 0, least: 12 },
        Column { title: "CLUSTER-IP", rank: 2, least: 12 },
        Column { title: "PORT", rank: 0, least: 5 },
        Column { title: "ENDPOINTS", rank: 0, least: 9 },
        Column { title: "USED", rank: 1, least: 4 },
        Column { title: "EJECTED", rank: 1, least: 7 },
    ];
    let mut rows = Vec::new();
    for service in services {
        if service.ports.is_empty() {
            rows.push(service_row(service, None));
        }
        rows.extend(service.ports.iter().map(|port| service_row(service, Some(port))));
    }
    // A port of two address families is one line where both are alike.
    rows.dedup();
    draw(&columns, &rows, fit)
}

fn service_row(service: &ServiceView, port: Option<&ServicePortView>) -> Vec<String> {
    let addresses =
        if service.cluster_ips.is_empty() { "headless".to_owned() } else { service.cluster_ips.join(",") };
    let number = |value: Option<usize>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let endpoints = port.map(|port| &port.endpoints);
    let ejected = endpoints.map(|all| all.iter().filter(|endpoint| endpoint.ejected_ms.is_some()).count());
    vec![
        service.namespace.clone(),
        service.name.clone(),
        addresses,
        port.map_or_else(|| "-".to_owned(), port_name),
        number(port.map(|port| port.known_endpoints)),
        number(endpoints.map(Vec::len)),
        number(ejected),
    ]
}

fn port_name(port: &ServicePortView) -> String {
    if port.name.is_empty() { port.port.to_string() } else { format!("{}/{}", port.port, port.name) }
}

fn endpoint_table(services: &[ServiceView], fit: Fit) -> String {
    let columns = [
        Column { title: "SERVICE", rank: 0, least: 12 },
        Column { title: "PORT", rank: 1, least: 5 },
        Column { title: "ENDPOINT", rank: 0, least: 15 },
        Column { title: "POD", rank: 3, least: 12 },
        Column { title: "OPEN", rank: 0, least: 4 },
        Column { title: "CONNECT", rank: 2, least: 7 },
        Column { title: "FAILED", rank: 2, least: 6 },
        Column { title: "EJECTED", rank: 0, least: 7 },
    ];
    let mut rows = Vec::new();
    for service in services {
        for port in &service.ports {
            rows.extend(port.endpoints.iter().map(|endpoint| endpoint_row(service, port, endpoint)));
        }
    }
    draw(&columns, &rows, fit)
}

fn endpoint_row(service: &ServiceView, port: &ServicePortView, endpoint: &EndpointView) -> Vec<String> {
    vec![
        format!("{}/{}", service.namespace, service.name),
        port_name(port),
        endpoint.address.clone(),
        endpoint.pod.clone().unwrap_or_else(|| "-".to_owned()),
        endpoint.outstanding.to_string(),
        if endpoint.connect_us == 0 { "-".to_owned() } else { micros(endpoint.connect_us) },
        endpoint.failures.to_string(),
        endpoint.ejected_ms.map_or_else(|| "no".to_owned(), age),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn what_may_be_meant_is_suggested() {
        let service = |name: &str, namespace: &str| ServiceView {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            ..ServiceView::default()
        };
        let services = [service("cart", "shop"), service("cart", "test"), service("catalog", "shop")];
        let table = [
            ("cart", None),
            ("cart.test", None),
            ("cart.shop.svc.cluster.local", None),
            ("cart.other", Some(" (did you mean `cart.shop` or `cart.test`?)")),
            ("crat", Some(" (did you mean `cart.shop` or `cart.test`?)")),
            ("catalogs.shop", Some(" (did you mean `catalog.shop`?)")),
            ("nothing", Some("")),
        ];
        for (wanted, expected) in table {
            let found = among(&services, wanted);
            let near = found.err().map(|error| match error {
                CliError::NoService { near, .. } => near,
                other => panic!("{other}"),
            });
            assert_eq!(near.as_deref(), expected, "{wanted}");
        }
    }
}
