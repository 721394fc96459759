//! What a heavy neighbour costs: a pod with a modest load, alone and then beside a pod on the same node with [`TIMES`] its
//! requests over [`TIMES`] its connections, each with a server of its own. Both pods' load is paced, so that neither waits for the other.
//!
//! The clients and servers share the machine with the agents: what they alone do to one another is in the row `direct`.

use super::{report::Sample, subject::Subject};
use crate::{
    Fault,
    peer::load::{self, Report, Spec},
};
use std::{thread::sleep, time::Duration};

/// How much heavier the neighbour is.
const TIMES: u32 = 100;
/// Requests a second of the modest pod, and its connections.
const RATE: f64 = 40.0;
const CONNECTIONS: u32 = 2;
/// At least so long, else the 99th percentile is of a handful of requests.
const SECONDS: u32 = 10;
/// Until the neighbour's connections stand.
const SETTLING: Duration = Duration::from_secs(1);

/// One run: the modest pod's latencies with the neighbour, and how much longer its 99th percentile is than without.
///
/// # Errors
/// A request was not answered, or the neighbour was not as heavy as it shall be.
pub fn measure(subject: &Subject, seconds: u32) -> Result<Sample, Fault> {
    let neighbour = subject.neighbour().ok_or_else(|| Fault::new("a subject without a neighbour"))?;
    let seconds = seconds.max(SECONDS);
    let modest = spec(1, seconds);
    let alone = all_right(load::of(subject.client(), subject.target, &modest)?)?;
    let heavy = spec(TIMES, seconds + 2);
    let running = load::start(neighbour.client(), neighbour.target, &heavy)?;
    sleep(SETTLING);
    let beside = all_right(load::of(subject.client(), subject.target, &modest)?)?;
    let weight = all_right(load::finish(running, &heavy)?)?;
    if rate(&weight) < 0.9 * heavy.rate {
        let text = format!("the neighbour made {:.0} of {} requests a second", rate(&weight), heavy.rate);
        return Err(Fault::new(text));
    }
    Ok(Sample {
        rate: Some(rate(&beside)),
        p50_ms: Some(beside.p50_ms),
        p99_ms: Some(beside.p99_ms),
        p99_ratio: (alone.p99_ms > 0.0).then(|| beside.p99_ms / alone.p99_ms),
        ..Sample::default()
    })
}

fn spec(times: u32, seconds: u32) -> Spec {
    Spec {
        connections: CONNECTIONS * times,
        rate: RATE * f64::from(times),
        seconds: f64::from(seconds),
        ..Spec::default()
    }
}

fn all_right(report: Report) -> Result<Report, Fault> {
    if report.requests > 0 && report.status(200) == report.requests {
        return Ok(report);
    }
    Err(Fault::new(format!("not every request was answered: {report:?}")))
}

fn rate(report: &Report) -> f64 {
    if report.seconds > 0.0 { report.requests as f64 / report.seconds } else { 0.0 }
}
