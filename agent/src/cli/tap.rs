//! `posthaste tap`: requests as they end. Values of headers are shown only where they are asked for by name.

use super::{CliError, Options, Output, client, routes::target, services};
use crate::observe::query::encode;
use serde_json::Value;
use std::{cell::Cell, io::Write};

/// Which of them.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct TapArguments {
    /// Only to this service: `name`, `name.namespace` or the whole host name
    pub service: Option<String>,
    /// Only with a pod or a service of this namespace
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Only where the path begins so
    #[arg(long, value_name = "PREFIX")]
    pub path: Option<String>,
    /// Only with this method
    #[arg(long)]
    pub method: Option<String>,
    /// Only with this status: `404`, `5xx`, `500-503`; 0 is none
    #[arg(long)]
    pub status: Option<String>,
    /// End after so many requests
    #[arg(long)]
    pub max: Option<u64>,
    /// Show the values of these headers, separated by commas; all others are only named
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub headers: Vec<String>,
}

/// Asks and shows until Ctrl-C.
pub(super) fn show(options: &Options, arguments: &TapArguments, out: &mut dyn Write) -> Result<(), CliError> {
    // Nobody shall wait for requests that cannot come.
    if let Some(service) = &arguments.service {
        services::known(options, service)?;
    }
    let left = Cell::new(arguments.max.unwrap_or(u64::MAX));
    // The agent ends an answer after a while, as it does with every client.
    while left.get() > 0 {
        let mut take = |line: &str| {
            let value: Value = serde_json::from_str(line).unwrap_or_default();
            match options.output {
                Output::Json => writeln!(out, "{line}")?,
                Output::Table | Output::Wide => writeln!(out, "{}", text(&value, arguments))?,
            }
            out.flush()?;
            left.set(left.get().saturating_sub(u64::from(is_request(&value))));
            Ok(left.get() > 0)
        };
        client::follow(&options.place, &request(arguments, left.get()), &mut take)??;
    }
    Ok(())
}

fn request(arguments: &TapArguments, left: u64) -> String {
    let max = Some(left).filter(|left| *left != u64::MAX).map(|left| left.to_string());
    let mut target = target(
        "/tap",
        [
            ("service", &arguments.service),
            ("namespace", &arguments.namespace),
            ("path", &arguments.path),
            ("method", &arguments.method),
            ("status", &arguments.status),
            ("max", &max),
        ],
    );
    for header in &arguments.headers {
        let mark = if target.contains('?') { '&' } else { '?' };
        target.push_str(&format!("{mark}header={}", encode(header)));
    }
    target
}

/// The other lines say how many were missed.
fn is_request(value: &Value) -> bool {
    value.get("event").is_some_and(|event| event == "request")
}

/// One line for people, and one more for each header that was asked for.
fn text(value: &Value, arguments: &TapArguments) -> String {
    let word = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or("-");
    let number = |name: &str| value.get(name).map_or_else(|| "-".to_owned(), Value::to_string);
    if !is_request(value) {
        return format!("... {} more went by too fast", number("count"));
    }
    let time = word("time").get(11..23).unwrap_or("-");
    let mut text = format!(
        "{time} {} {}{} {} {}ms {} -> {}",
        word("method"),
        word("authority"),
        word("path"),
        number("status"),
        number("duration_ms"),
        party(value.get("source")),
        party(value.get("destination")),
    );
    for name in ["grpc_status", "retries", "hedges", "limit", "route"] {
        if let Some(more) = value.get(name) {
            text.push_str(&format!(
                " {name}={}",
                more.as_str().map_or_else(|| more.to_string(), str::to_owned)
            ));
        }
    }
    if word("flags") != "-" {
        text.push_str(&format!(" flags={}", word("flags")));
    }
    for (mark, side) in [('>', "request_headers"), ('<', "response_headers")] {
        for pair in value.get(side).and_then(Value::as_array).into_iter().flatten() {
            let part = |place| pair.get(place).and_then(Value::as_str).unwrap_or_default();
            if arguments.headers.iter().any(|wanted| wanted.eq_ignore_ascii_case(part(0))) {
                text.push_str(&format!("\n  {mark} {}: {}", part(0), part(1)));
            }
        }
    }
    // What clients and servers wrote must not steer the terminal.
    text.chars().map(|one| if one.is_control() && one != '\n' { '?' } else { one }).collect()
}

/// The pod, where it is known, else the address.
fn party(party: Option<&Value>) -> String {
    let word = |name: &str| party?.get(name)?.as_str();
    match (word("namespace"), word("pod")) {
        (Some(namespace), Some(pod)) => format!("{namespace}/{pod}"),
        _ => word("address").unwrap_or("-").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one_line_and_its_headers() {
        let value = serde_json::json!({
            "time": "2026-01-02T03:04:05.678Z", "event": "request", "method": "GET", "authority": "cart", "path": "/a",
            "status": 503, "flags": "UO", "duration_ms": 1.25, "limit": "requests", "retries": 2,
            "source": {"namespace": "shop", "pod": "web-1"}, "destination": {"address": "10.0.0.1:80"},
            "request_headers": [["x-id", "7\u{1b}[31m"], ["authorization", "[redacted]"]],
        });
        let arguments = TapArguments { headers: vec!["X-Id".to_owned()], ..TapArguments::default() };
        assert_eq!(
            text(&value, &arguments),
            "03:04:05.678 GET cart/a 503 1.25ms shop/web-1 -> 10.0.0.1:80 retries=2 limit=requests flags=UO\n  > x-id: 7?[31m"
        );
        let missed = serde_json::json!({"event": "missed", "count": 9});
        assert_eq!(text(&missed, &arguments), "... 9 more went by too fast");
    }

    #[test]
    fn filters_become_a_query() {
        let arguments = TapArguments {
            path: Some("/a b".to_owned()),
            headers: vec!["x".to_owned(), "y".to_owned()],
            ..TapArguments::default()
        };
        assert_eq!(request(&arguments, 3), "/tap?path=/a%20b&max=3&header=x&header=y");
        assert_eq!(request(&TapArguments::default(), u64::MAX), "/tap");
    }
}
