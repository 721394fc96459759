//! `posthaste routes`: the routes of services, match by match, in order of precedence.

use super::{
    CliError, Options, client, present,
    table::{Column, Fit, WIDE, draw},
};
use crate::observe::{
    query::encode,
    views::{RouteBackendView, RouteMatchView, RoutesView},
};
use std::io::Write;

/// Which of them.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct RoutesArguments {
    /// Only of this service: `name`, `name.namespace` or the whole host name
    pub service: Option<String>,
    /// Only of services in this namespace
    #[arg(short, long)]
    pub namespace: Option<String>,
}

/// Asks and shows.
pub(super) fn show(
    options: &Options,
    arguments: &RoutesArguments,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let target = target("/routes", [("service", &arguments.service), ("namespace", &arguments.namespace)]);
    let routes: Vec<RoutesView> = client::ask(&options.place, &target)?;
    let of = arguments.service.as_ref().map_or(String::new(), |service| format!(" for `{service}`"));
    present(options, &routes, out, |fit| {
        if routes.is_empty() { format!("no routes{of}\n") } else { text(&routes, fit) }
    })
}

/// A path with the parts of a query that are there.
pub(super) fn target<'a>(
    path: &str,
    parts: impl IntoIterator<Item = (&'a str, &'a Option<String>)>,
) -> String {
    let mut target = path.to_owned();
    let mut mark = '?';
    for (name, value) in parts {
        if let Some(value) = value {
            target.push_str(&format!("{mark}{name}={}", encode(value)));
            mark = '&';
        }
    }
    target
}

fn text(routes: &[RoutesView], fit: Fit) -> String {
    let columns = [
        Column { title: "SERVICE", rank: 2, least: 12 },
        Column { title: "CALLERS", rank: 3, least: 7 },
        Column { title: "MATCH", rank: 0, least: 12 },
        Column { title: "TO", rank: 0, least: 16 },
        Column { title: "ENDPOINTS", rank: 3, least: 9 },
        Column { title: "FILTERS", rank: 5, least: 8 },
        Column { title: "TIMEOUT", rank: 4, least: 7 },
        Column { title: "RETRIES", rank: 6, least: 7 },
        Column { title: "ROUTE", rank: 1, least: 16 },
        Column { title: "TRY-TIMEOUT", rank: WIDE, least: 7 },
        Column { title: "REQUESTS", rank: WIDE, least: 8 },
        Column { title: "RETRIED", rank: WIDE, least: 7 },
        Column { title: "REFUSED", rank: WIDE, least: 7 },
        Column { title: "EJECTIONS", rank: WIDE, least: 7 },
    ];
    let rows: Vec<_> =
        routes.iter().flat_map(|port| port.matches.iter().map(move |one| row(port, one))).collect();
    let mut text = draw(&columns, &rows, fit);
    for (route, problem) in routes.iter().flat_map(|port| &port.matches).flat_map(problems) {
        text.push_str(&format!("{route}: {problem}\n"));
    }
    text
}

fn row(port: &RoutesView, one: &RouteMatchView) -> Vec<String> {
    let milliseconds = |time: Option<u64>| time.map_or_else(|| "-".to_owned(), |time| format!("{time}ms"));
    vec![
        format!("{}.{}:{}", port.service, port.namespace, port.port),
        port.callers.clone().unwrap_or_else(|| "all".to_owned()),
        one.matches.clone(),
        match &*one.action {
            "forward" => of_each(one, backend),
            "invalid" => "500: not valid".to_owned(),
            action => action.to_owned(),
        },
        if one.backends.is_empty() { "-".to_owned() } else { of_each(one, endpoints) },
        if one.filters.is_empty() { "-".to_owned() } else { one.filters.join(", ") },
        milliseconds(one.request_timeout_ms),
        one.retries.map_or_else(|| "-".to_owned(), |retries| retries.to_string()),
        one.route.clone(),
        milliseconds(one.backend_timeout_ms),
        of_each(one, |backend| backend.counts.requests.to_string()),
        of_each(one, |backend| (backend.counts.retries + backend.counts.hedges).to_string()),
        of_each(one, |backend| (backend.counts.budget_refused + backend.counts.overflow).to_string()),
        of_each(one, |backend| backend.counts.ejections.to_string()),
    ]
}

/// Texts of the backends, in their order.
fn of_each(one: &RouteMatchView, text: impl Fn(&RouteBackendView) -> String) -> String {
    one.backends.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// How many take requests, of how many, and what became of the others.
fn endpoints(backend: &RouteBackendView) -> String {
    if backend.service.is_none() {
        return "-".to_owned();
    }
    let healthy = backend.endpoints.saturating_sub(backend.ejected + backend.half_open);
    let mut text = format!("{healthy}/{}", backend.endpoints);
    for (count, what) in [(backend.ejected, "ejected"), (backend.half_open, "half-open")] {
        if count > 0 {
            text.push_str(&format!(" {count} {what}"));
        }
    }
    if backend.panic {
        text.push_str(" panic");
    }
    text
}

fn backend(backend: &RouteBackendView) -> String {
    let name = backend.service.as_deref().unwrap_or("500");
    format!("{name} {:.4}", backend.percent).trim_end_matches('0').trim_end_matches('.').to_owned() + "%"
}

fn problems(one: &RouteMatchView) -> Vec<(&str, &str)> {
    let backends = one.backends.iter().filter_map(|backend| backend.problem.as_deref());
    one.problem.as_deref().into_iter().chain(backends).map(|problem| (&*one.route, problem)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::observe::views::RouteCountsView;

    fn backend_of(service: Option<&str>, percent: f64) -> RouteBackendView {
        let problem = service.is_none().then(|| "no Service `gone`".to_owned());
        let (ejected, endpoints) = if service.is_some() { (1, 3) } else { (0, 0) };
        let counts =
            RouteCountsView { requests: 1234, overflow: 5, budget_refused: 6, ..RouteCountsView::default() };
        let service = service.map(str::to_owned);
        RouteBackendView {
            service,
            weight: 1,
            percent,
            problem,
            endpoints,
            ejected,
            counts,
            ..RouteBackendView::default()
        }
    }

    #[test]
    fn weights_and_problems_are_seen() {
        let one = RouteMatchView {
            matches: "/cart/* GET".to_owned(),
            route: "HTTPRoute/shop/cart[0]".to_owned(),
            action: "forward".to_owned(),
            backends: vec![backend_of(Some("cart.shop:80"), 90.0), backend_of(None, 10.0)],
            request_timeout_ms: Some(1500),
            ..RouteMatchView::default()
        };
        let bad = RouteMatchView {
            matches: "/".to_owned(),
            route: "HTTPRoute/shop/bad[2]".to_owned(),
            action: "invalid".to_owned(),
            problem: Some("two URLRewrite filters".to_owned()),
            ..RouteMatchView::default()
        };
        let view = RoutesView {
            namespace: "shop".to_owned(),
            service: "cart".to_owned(),
            port: 80,
            callers: None,
            matches: vec![one, bad],
        };
        let wide = text(std::slice::from_ref(&view), Fit { width: None, wide: true });
        assert!(
            wide.contains("REFUSED") && wide.contains("  1234, 1234  ") && wide.contains("  11, 11  "),
            "{wide}"
        );
        let text = text(&[view], Fit { width: None, wide: false });
        for part in [
            "cart.shop:80  all      /cart/* GET  cart.shop:80 90%, 500 10%  2/3 1 ejected, -",
            "1500ms",
            "500: not valid",
            "HTTPRoute/shop/cart[0]: no Service `gone`\n",
            "HTTPRoute/shop/bad[2]: two URLRewrite filters\n",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }

    #[test]
    fn a_name_cannot_break_the_request() {
        let parts = [("service", &Some("a b\r\nx&y".to_owned())), ("namespace", &None)];
        assert_eq!(target("/routes", parts), "/routes?service=a%20b%0D%0Ax%26y");
    }
}
