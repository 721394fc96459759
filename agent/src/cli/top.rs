//! `posthaste top`: requests per second, success rate and percentiles by service port, read from two answers of the agent.

use super::{
    CliError, Options, Output, client, present,
    table::{Column, Fit, WIDE, draw},
    terminal,
    units::micros,
};
use crate::observe::{requests::percentile, views::TopView};
use serde::Serialize;
use std::{
    collections::HashMap,
    io::Write,
    time::{Duration, Instant},
};

/// Which of them, and how often.
#[derive(Clone, Debug, clap::Args)]
pub struct TopArguments {
    /// Only this service: `name` or `name.namespace`
    pub service: Option<String>,
    /// Only services of this namespace
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// One answer, over one interval, then end
    #[arg(long)]
    pub once: bool,
    /// End after so many answers
    #[arg(long)]
    pub count: Option<u64>,
    /// Seconds that an answer is about
    #[arg(long, default_value_t = 1.0, value_parser = interval)]
    pub interval: f64,
}

fn interval(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    value.ok_or_else(|| format!("`{text}` is not a number of seconds from 0.1 to 3600"))
}

/// One service port over one interval.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Rate {
    pub(super) namespace: String,
    pub(super) service: String,
    pub(super) port: u16,
    pub(super) requests_per_second: f64,
    /// None without requests.
    pub(super) success_percent: Option<f64>,
    pub(super) p50_us: Option<u64>,
    pub(super) p99_us: Option<u64>,
    pub(super) retries_per_second: f64,
    pub(super) hedges_per_second: f64,
    pub(super) budget_refused_per_second: f64,
    pub(super) overflow_per_second: f64,
    /// Since the start of the agent.
    pub(super) total_requests: u64,
}

/// Asks and shows until Ctrl-C.
pub(super) fn show(options: &Options, arguments: &TopArguments, out: &mut dyn Write) -> Result<(), CliError> {
    let turns = if arguments.once { 1 } else { arguments.count.unwrap_or(u64::MAX) };
    let mut before: Vec<TopView> = client::ask(&options.place, "/top")?;
    let mut asked = Instant::now();
    for _ in 0..turns {
        std::thread::sleep(Duration::from_secs_f64(arguments.interval));
        let now: Vec<TopView> = client::ask(&options.place, "/top")?;
        let seconds = asked.elapsed().as_secs_f64();
        asked = Instant::now();
        let rates = rates(&before, &now, seconds, arguments);
        if turns > 1 && options.output != Output::Json && terminal::is_terminal() {
            // To the corner, and clear what is below.
            out.write_all(b"\x1b[H\x1b[J")?;
        }
        present(options, &rates, out, |fit| text(&rates, fit))?;
        before = now;
    }
    Ok(())
}

/// The busiest first.
fn rates(before: &[TopView], now: &[TopView], seconds: f64, arguments: &TopArguments) -> Vec<Rate> {
    let known: HashMap<_, _> = before.iter().map(|one| (key(one), one)).collect();
    let fits = |one: &&TopView| {
        arguments.namespace.as_ref().is_none_or(|namespace| *namespace == one.namespace)
            && arguments.service.as_ref().is_none_or(|service| {
                *service == one.service
                    || service.split_once('.').is_some_and(|(name, rest)| {
                        name == one.service && rest.split('.').next() == Some(&one.namespace)
                    })
            })
    };
    let nothing = TopView::default();
    let of = |one: &TopView| rate(known.get(&key(one)).copied().unwrap_or(&nothing), one, seconds);
    let mut rates: Vec<Rate> = now.iter().filter(fits).map(of).collect();
    rates.sort_by(|a, b| b.requests_per_second.total_cmp(&a.requests_per_second));
    rates
}

fn key(one: &TopView) -> (&str, &str, u16) {
    (&one.namespace, &one.service, one.port)
}

fn rate(before: &TopView, now: &TopView, seconds: f64) -> Rate {
    Rate { total_requests: now.requests, ..over(&added(before, now), seconds) }
}

/// What came between two answers of one agent.
pub(super) fn added(before: &TopView, now: &TopView) -> TopView {
    // An agent that was started again counts from nothing: then all is new.
    let since = |before: u64, now: u64| now.checked_sub(before).unwrap_or(now);
    let earlier: HashMap<u16, u64> = before.latencies.iter().copied().collect();
    let latencies = now.latencies.iter().map(|(place, count)| {
        let earlier = earlier.get(place).copied().unwrap_or(0);
        (*place, since(earlier, *count))
    });
    TopView {
        namespace: now.namespace.clone(),
        service: now.service.clone(),
        port: now.port,
        requests: since(before.requests, now.requests),
        failures: since(before.failures, now.failures),
        retries: since(before.retries, now.retries),
        hedges: since(before.hedges, now.hedges),
        budget_refused: since(before.budget_refused, now.budget_refused),
        overflow: since(before.overflow, now.overflow),
        latencies: latencies.filter(|(_, count)| *count > 0).collect(),
    }
}

/// What was added in so many seconds, as rates; the total is that of the interval.
#[allow(clippy::cast_precision_loss, reason = "rates")]
pub(super) fn over(added: &TopView, seconds: f64) -> Rate {
    let per_second = |count: u64| count as f64 / seconds;
    let TopView { requests, failures, .. } = *added;
    Rate {
        namespace: added.namespace.clone(),
        service: added.service.clone(),
        port: added.port,
        requests_per_second: per_second(requests),
        success_percent: (requests > 0)
            .then(|| requests.saturating_sub(failures) as f64 * 100.0 / requests as f64),
        p50_us: percentile(&added.latencies, 0.5),
        p99_us: percentile(&added.latencies, 0.99),
        retries_per_second: per_second(added.retries),
        hedges_per_second: per_second(added.hedges),
        budget_refused_per_second: per_second(added.budget_refused),
        overflow_per_second: per_second(added.overflow),
        total_requests: requests,
    }
}

/// Numbers are not shortened.
const NUMBER: usize = 20;

fn text(rates: &[Rate], fit: Fit) -> String {
    if rates.is_empty() {
        return "no such requests yet\n".to_owned();
    }
    let columns = [
        Column { title: "SERVICE", rank: 0, least: 12 },
        Column { title: "RPS", rank: 0, least: NUMBER },
        Column { title: "SUCCESS", rank: 0, least: NUMBER },
        Column { title: "P50", rank: 1, least: NUMBER },
        Column { title: "P99", rank: 0, least: NUMBER },
        Column { title: "RETRY/S", rank: 2, least: NUMBER },
        Column { title: "HEDGE/S", rank: 4, least: NUMBER },
        Column { title: "NO-BUDGET/S", rank: 5, least: NUMBER },
        Column { title: "OVERFLOW/S", rank: 3, least: NUMBER },
        Column { title: "TOTAL", rank: WIDE, least: NUMBER },
    ];
    let rows: Vec<_> = rates.iter().map(row).collect();
    draw(&columns, &rows, fit)
}

fn row(rate: &Rate) -> Vec<String> {
    let time = |time: Option<u64>| time.map_or_else(|| "-".to_owned(), micros);
    let number = |value: f64| format!("{value:.1}");
    vec![
        format!("{}.{}:{}", rate.service, rate.namespace, rate.port),
        number(rate.requests_per_second),
        rate.success_percent.map_or_else(|| "-".to_owned(), percent),
        time(rate.p50_us),
        time(rate.p99_us),
        number(rate.retries_per_second),
        number(rate.hedges_per_second),
        number(rate.budget_refused_per_second),
        number(rate.overflow_per_second),
        rate.total_requests.to_string(),
    ]
}

/// Never rounded up to 100.
fn percent(value: f64) -> String {
    format!("{:.2}%", (value * 100.0).floor() / 100.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn view(service: &str, requests: u64, failures: u64, latencies: &[(u16, u64)]) -> TopView {
        TopView {
            namespace: "shop".to_owned(),
            service: service.to_owned(),
            port: 80,
            requests,
            failures,
            retries: failures,
            latencies: latencies.to_vec(),
            ..TopView::default()
        }
    }

    fn arguments(service: Option<&str>) -> TopArguments {
        let service = service.map(str::to_owned);
        TopArguments { service, namespace: None, once: true, count: None, interval: 1.0 }
    }

    #[test]
    fn rates_are_what_was_added_in_the_interval() {
        let before = [view("cart", 100, 0, &[(5, 100)]), view("idle", 7, 0, &[(1, 7)])];
        let now = [
            view("cart", 300, 3, &[(5, 200), (9, 100)]),
            view("idle", 7, 0, &[(1, 7)]),
            view("new", 2000, 0, &[]),
        ];
        let rates = rates(&before, &now, 2.0, &arguments(None));
        assert_eq!(rates.iter().map(|rate| &*rate.service).collect::<Vec<_>>(), ["new", "cart", "idle"]);
        let cart = &rates[1];
        assert_eq!((cart.requests_per_second, cart.success_percent), (100.0, Some(98.5)));
        assert_eq!((cart.p50_us, cart.p99_us, cart.retries_per_second), (Some(5), Some(9), 1.5));
        assert_eq!((rates[2].success_percent, rates[2].p50_us), (None, None));
        let text = text(&rates, Fit { width: Some(80), wide: false });
        assert!(text.contains("cart.shop:80  100.0   98.50%   5us  9us  1.5"), "{text}");
    }

    #[test]
    fn a_restarted_agent_counts_from_nothing() {
        let rates = rates(
            &[view("cart", 100, 5, &[(5, 100)])],
            &[view("cart", 10, 1, &[(5, 10)])],
            1.0,
            &arguments(None),
        );
        assert_eq!((rates[0].requests_per_second, rates[0].success_percent), (10.0, Some(90.0)));
    }

    #[test]
    fn a_service_is_named_in_three_ways() {
        let now = [view("cart", 1, 0, &[])];
        let names = [
            ("cart", 1),
            ("cart.shop", 1),
            ("cart.shop.svc.cluster.local", 1),
            ("cart.other", 0),
            ("shop", 0),
        ];
        for (name, count) in names {
            assert_eq!(rates(&[], &now, 1.0, &arguments(Some(name))).len(), count, "{name}");
        }
    }

    #[test]
    fn nothing_is_rounded_up_to_all() {
        assert_eq!((percent(99.999), percent(100.0)), ("99.99%".to_owned(), "100.00%".to_owned()));
    }
}
