//! `posthaste explain`: what would become of a connection or a request, stage by stage, and why.

mod elsewhere;

use super::{
    CliError, Options,
    client::{self, ClientError},
    cluster::place::Place,
    joined, present,
    table::{Column, Fit, draw},
    units::micros,
};
use crate::observe::{
    query::encode,
    views::{ChanceView, EndpointsView, ExplainView, OutcomeView, StepView},
};
use std::io::Write;

/// Who calls what.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ExplainArguments {
    /// The calling pod: `namespace/name`, or its address
    #[arg(required_unless_present = "trace")]
    pub source: Option<String>,
    /// `service[.namespace][:PORT]`, `namespace/pod:PORT` or `ADDRESS:PORT`
    #[arg(required_unless_present = "trace")]
    pub destination: Option<String>,
    /// Instead: what became of the connection with this id, from the records of both agents
    #[arg(long, value_name = "ID", conflicts_with_all = ["source", "destination", "method", "path", "headers", "tcp"])]
    pub trace: Option<String>,
    /// Method of the request; GET unless given
    #[arg(short, long)]
    pub method: Option<String>,
    /// Path of the request, with its query; / unless given
    #[arg(short, long)]
    pub path: Option<String>,
    /// A header of the request, `name: value`; may be given several times
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    pub headers: Vec<String>,
    /// Bytes that are no HTTP, where the port does not say what it speaks
    #[arg(long, conflicts_with_all = ["method", "path", "headers"])]
    pub tcp: bool,
}

/// Asks the agent of the calling pod and shows what it says.
pub(super) fn show(
    options: &Options,
    arguments: &ExplainArguments,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    if let Some(id) = &arguments.trace {
        return trace(options, id, out);
    }
    let view = explained(options, arguments)?;
    present(options, &view, out, |fit| text(&view, fit))
}

/// What the agents that are concerned say, as far as they can be asked.
pub(super) fn explained(options: &Options, arguments: &ExplainArguments) -> Result<ExplainView, ClientError> {
    let mut view = ask(options, arguments)?;
    elsewhere::complete(options, &mut view);
    Ok(view)
}

fn trace(options: &Options, id: &str, out: &mut dyn Write) -> Result<(), CliError> {
    let found = joined::ask(options, &format!("/connections?all=true&id={}", encode(id)))?;
    let one = found.first().ok_or_else(|| CliError::NoConnection(id.to_owned()))?;
    present(options, one, out, |_| joined::story(one))
}

/// Of several agents the one that has the pod answers.
fn ask(options: &Options, arguments: &ExplainArguments) -> Result<ExplainView, ClientError> {
    let target = target(arguments);
    if options.place.is_cluster() {
        return client::ask(&of_source(&options.place, arguments.source.as_deref()), &target);
    }
    let mut last = Err(ClientError::NoAgent(options.place.to_string()));
    for place in options.places() {
        last = client::ask(&place, &target);
        match &last {
            Err(ClientError::Status { status: 404, .. }) => {}
            _ => return last,
        }
    }
    last
}

/// In a cluster the agent of the calling pod's node, unless another one is named.
fn of_source(place: &Place, source: Option<&str>) -> Place {
    let pod = source.filter(|source| place.node.is_none() && place.pod.is_none() && source.contains('/'));
    Place { pod: pod.map(str::to_owned).or_else(|| place.pod.clone()), ..place.clone() }
}

fn target(arguments: &ExplainArguments) -> String {
    let ExplainArguments { source, destination, method, path, headers, tcp, .. } = arguments;
    let given = |word: &Option<String>| encode(word.as_deref().unwrap_or_default());
    let mut target =
        format!("/explain?source={}&destination={}&tcp={tcp}", given(source), given(destination));
    let method = method.iter().map(|value| ("method", value));
    let path = path.iter().map(|value| ("path", value));
    let headers = headers.iter().map(|value| ("header", value));
    for (name, value) in method.chain(path).chain(headers) {
        target.push_str(&format!("&{name}={}", encode(value)));
    }
    target
}

fn text(view: &ExplainView, fit: Fit) -> String {
    let mut text = format!(
        "{} -> {}, as node {} sees it (snapshot {})\n\n",
        view.source, view.destination, view.node, view.snapshot_generation
    );
    text.push_str(&draw(
        &[
            Column { title: "STAGE", rank: 0, least: 10 },
            Column { title: "", rank: 0, least: 4 },
            Column { title: "WHAT AND WHY", rank: 0, least: 40 },
        ],
        &view.steps.iter().map(step).collect::<Vec<_>>(),
        Fit { width: None, ..fit },
    ));
    if !view.rules.is_empty() {
        text.push('\n');
        text.push_str(&rules(view, fit));
    }
    for service in &view.services {
        text.push('\n');
        text.push_str(&endpoints(service, fit));
    }
    text.push('\n');
    view.outcomes.iter().for_each(|one| text.push_str(&outcome(one)));
    text
}

fn step(step: &StepView) -> Vec<String> {
    let mark = match (step.unknown, step.passes) {
        (true, _) => "?",
        (false, true) => "ok",
        (false, false) => "STOP",
    };
    vec![step.stage.clone(), mark.to_owned(), step.says.clone()]
}

fn rules(view: &ExplainView, fit: Fit) -> String {
    let columns = [
        Column { title: "MATCH", rank: 0, least: 16 },
        Column { title: "ROUTE", rank: 1, least: 16 },
        Column { title: "", rank: 0, least: 24 },
    ];
    let rows: Vec<Vec<String>> = view
        .rules
        .iter()
        .map(|rule| {
            let why =
                rule.why.as_ref().map_or_else(|| "chosen".to_owned(), |why| format!("passed over: {why}"));
            vec![rule.matches.clone(), rule.route.clone(), why]
        })
        .collect();
    draw(&columns, &rows, fit)
}

fn endpoints(service: &EndpointsView, fit: Fit) -> String {
    let columns = [
        Column { title: "ENDPOINT", rank: 0, least: 15 },
        Column { title: "POD", rank: 1, least: 12 },
        Column { title: "CHANCE", rank: 0, least: 6 },
        Column { title: "RESPONSE", rank: 3, least: 8 },
        Column { title: "BREAKER", rank: 0, least: 7 },
    ];
    let row = |one: &crate::observe::views::HealthView| {
        let why = one.why.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
        vec![
            one.address.clone(),
            one.pod.clone().unwrap_or_else(|| "-".to_owned()),
            format!("{:.1}%", one.weight_percent),
            micros(one.response_us),
            format!("{}{why}", one.state),
        ]
    };
    let running: Vec<String> =
        service.running.iter().map(|one| format!("{} {}/{}", one.name, one.now, one.limit)).collect();
    let panic = if service.panic { "; so few are healthy that ejections are not honoured" } else { "" };
    let head = format!(
        "{}.{}:{}, {}{panic}\n",
        service.service,
        service.namespace,
        service.port,
        running.join(", ")
    );
    head + &draw(&columns, &service.endpoints.iter().map(row).collect::<Vec<_>>(), fit)
}

fn outcome(one: &OutcomeView) -> String {
    let status = one.status.map_or_else(String::new, |status| format!(" {status}"));
    let flag = one.flag.as_ref().map_or_else(String::new, |flag| format!(" {flag}"));
    let head = format!("{:.1}%{status}{flag}: {}\n", one.probability * 100.0, one.says);
    one.endpoints.iter().map(chance).fold(head, |text, line| text + &line)
}

fn chance(one: &ChanceView) -> String {
    let pod = one.pod.as_ref().map_or_else(String::new, |pod| format!(" ({pod})"));
    let end = match (one.refused, one.status) {
        (Some(_), Some(status)) => format!(", answered {status} there"),
        (Some(reason), None) => format!(", refused there: {reason}"),
        (None, _) if one.elsewhere.is_some() => ", unless its own agent refuses it".to_owned(),
        (None, _) => String::new(),
    };
    format!("  {:.1}% {}{pod}, {}{end}\n", one.probability * 100.0, one.address, one.security.as_str())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::observe::views::{OutcomeKind, RuleView};

    #[test]
    fn the_question_is_encoded() {
        let arguments = ExplainArguments {
            source: Some("shop/a".to_owned()),
            destination: Some("b:80".to_owned()),
            path: Some("/x?y=1&z".to_owned()),
            headers: vec!["X-A: 1".to_owned(), "b: c".to_owned()],
            ..ExplainArguments::default()
        };
        let wanted = "/explain?source=shop/a&destination=b%3A80&tcp=false&path=/x%3Fy%3D1%26z&header=X-A%3A%201&header=b%3A%20c";
        assert_eq!(target(&arguments), wanted);
    }

    #[test]
    fn stages_rules_and_outcomes_are_seen() {
        let step = |stage: &str, passes: bool| StepView {
            stage: stage.to_owned(),
            passes,
            says: "so it is".to_owned(),
            ..StepView::default()
        };
        let rule = |chosen: bool, why: Option<&str>| RuleView {
            route: "HTTPRoute/shop/a[0]".to_owned(),
            matches: "/x/*".to_owned(),
            chosen,
            why: why.map(str::to_owned),
        };
        let endpoint = ChanceView {
            address: "10.0.0.9:8080".to_owned(),
            pod: Some("shop/one".to_owned()),
            probability: 0.25,
            ..ChanceView::default()
        };
        let view = ExplainView {
            source: "shop/a".to_owned(),
            destination: "10.96.0.1:80".to_owned(),
            steps: vec![step("capture", true), step("arrival", false)],
            rules: vec![rule(false, Some("the path is another")), rule(true, None)],
            services: vec![EndpointsView::default()],
            outcomes: vec![OutcomeView {
                probability: 1.0,
                kind: OutcomeKind::Forwarded,
                says: "to an endpoint".to_owned(),
                endpoints: vec![endpoint],
                ..OutcomeView::default()
            }],
            ..ExplainView::default()
        };
        let text = text(&view, Fit { width: Some(100), wide: false });
        for part in [
            "capture  ok    so it is",
            "arrival  STOP  so it is",
            "passed over: the path is another",
            "chosen",
            "100.0%: to an endpoint\n  25.0% 10.0.0.9:8080 (shop/one), none\n",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
}
