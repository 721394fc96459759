//! What a load client found out. Pure.

use super::connection::Answered;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// Counts and latencies of one run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Requests that ended, whatever the way.
    pub requests: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Answers by `grpc-status`.
    pub grpc: BTreeMap<String, u64>,
    /// Requests without a whole answer, by what failed.
    pub errors: BTreeMap<String, u64>,
    /// Answers by the server that gave them (`x-server`).
    pub servers: BTreeMap<String, u64>,
    /// Bytes of all bodies.
    pub bytes: u64,
    /// Seconds from the first request to the last answer.
    pub seconds: f64,
    /// Median latency to the answer's last byte, milliseconds.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl Report {
    /// Answers of a status.
    #[must_use]
    pub fn status(&self, status: u16) -> u64 {
        self.statuses.get(&status).copied().unwrap_or(0)
    }

    /// Share of the requests that were answered with 2xx, 0 to 1.
    #[must_use]
    pub fn success(&self) -> f64 {
        let good: u64 =
            self.statuses.iter().filter(|(status, _)| (200..300).contains(*status)).map(|(_, n)| n).sum();
        good as f64 / self.requests.max(1) as f64
    }
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    report: Report,
    took_us: Vec<u32>,
}

impl Tally {
    pub(super) fn add(&mut self, outcome: Result<Answered, String>, took: Duration) {
        let report = &mut self.report;
        report.requests += 1;
        match outcome {
            Ok(answered) => {
                *report.statuses.entry(answered.status).or_default() += 1;
                report.bytes += answered.bytes as u64;
                if let Some(server) = answered.server {
                    *report.servers.entry(server).or_default() += 1;
                }
                if let Some(status) = answered.grpc_status {
                    *report.grpc.entry(status).or_default() += 1;
                }
            }
            Err(error) => *report.errors.entry(error).or_default() += 1,
        }
        self.took_us.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
    }

    pub(super) fn report(mut self, elapsed: Duration) -> Report {
        self.took_us.sort_unstable();
        let at = |share: f64| {
            let last = self.took_us.len().saturating_sub(1);
            let index = ((last as f64) * share).ceil() as usize;
            self.took_us.get(index.min(last)).map_or(0.0, |us| f64::from(*us) / 1000.0)
        };
        let (p50_ms, p99_ms, max_ms) = (at(0.5), at(0.99), at(1.0));
        Report { seconds: elapsed.as_secs_f64(), p50_ms, p99_ms, max_ms, ..self.report }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_percentiles() {
        let mut tally = Tally::default();
        for number in 1..=100_u64 {
            let status = if number == 100 { 503 } else { 200 };
            let answered = Answered { status, server: Some("a".to_owned()), grpc_status: None, bytes: 2 };
            tally.add(Ok(answered), Duration::from_millis(number));
        }
        tally.add(Err("reset".to_owned()), Duration::from_millis(500));
        let report = tally.report(Duration::from_secs(2));
        assert_eq!(
            (report.requests, report.status(200), report.status(503), report.bytes),
            (101, 99, 1, 200)
        );
        assert_eq!((report.servers["a"], report.errors["reset"]), (100, 1));
        assert_eq!((report.p50_ms, report.p99_ms, report.max_ms), (51.0, 100.0, 500.0));
        assert!((report.success() - 99.0 / 101.0).abs() < 1e-9);
    }
}
