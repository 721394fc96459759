//! Medians of the runs, as a table and as JSON. Pure.

use super::{case::Case, subject::Kind};
use serde_json::{Map, Value, json};
use std::fmt::{self, Write as _};

/// What one run measured; a case has only some of it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sample {
    /// Requests a second, or for bulk GB (10^9 bytes) a second.
    pub rate: Option<f64>,
    /// Median latency of a request.
    pub p50_ms: Option<f64>,
    /// 99th percentile.
    pub p99_ms: Option<f64>,
    /// 99th percentile as a multiple of what it is without the neighbour.
    pub p99_ratio: Option<f64>,
    /// CPU milliseconds, user and system, of both proxies for 1,000 requests.
    pub cpu_ms_per_1000: Option<f64>,
    /// CPU seconds, user and system, of both proxies for 10^9 bytes.
    pub cpu_s_per_gb: Option<f64>,
    /// Growth of the resident memory of both proxies, for one idle connection.
    pub kib_per_connection: Option<f64>,
    /// Resident memory of both proxies.
    pub rss_mib: Option<f64>,
    /// From the start of an agent until it is ready, seconds.
    pub ready_s: Option<f64>,
    /// Of one core.
    pub cpu_percent: Option<f64>,
    /// To the API server.
    pub requests: Option<f64>,
}

impl Sample {
    fn fields(&self) -> [(&'static str, Option<f64>); 11] {
        [
            ("rate", self.rate),
            ("p50_ms", self.p50_ms),
            ("p99_ms", self.p99_ms),
            ("p99_ratio", self.p99_ratio),
            ("cpu_ms_per_1000", self.cpu_ms_per_1000),
            ("cpu_s_per_gb", self.cpu_s_per_gb),
            ("kib_per_connection", self.kib_per_connection),
            ("rss_mib", self.rss_mib),
            ("ready_s", self.ready_s),
            ("cpu_percent", self.cpu_percent),
            ("requests", self.requests),
        ]
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown =
            self.fields().into_iter().filter_map(|(name, value)| Some(format!("{name} {:.3}", value?)));
        f.write_str(&shown.collect::<Vec<_>>().join(", "))
    }
}

/// The medians of one case and subject.
#[derive(Debug, Clone)]
pub struct Row {
    case: String,
    subject: String,
    runs: usize,
    median: Sample,
}

impl Row {
    /// Field by field.
    #[must_use]
    pub fn of(case: Case, kind: Kind, samples: &[Sample]) -> Self {
        let of = |field: fn(&Sample) -> Option<f64>| median(samples.iter().filter_map(field).collect());
        let median = Sample {
            rate: of(|sample| sample.rate),
            p50_ms: of(|sample| sample.p50_ms),
            p99_ms: of(|sample| sample.p99_ms),
            p99_ratio: of(|sample| sample.p99_ratio),
            cpu_ms_per_1000: of(|sample| sample.cpu_ms_per_1000),
            cpu_s_per_gb: of(|sample| sample.cpu_s_per_gb),
            kib_per_connection: of(|sample| sample.kib_per_connection),
            rss_mib: of(|sample| sample.rss_mib),
            ready_s: of(|sample| sample.ready_s),
            cpu_percent: of(|sample| sample.cpu_percent),
            requests: of(|sample| sample.requests),
        };
        Self { case: case.to_string(), subject: kind.to_string(), runs: samples.len(), median }
    }

    fn json(&self) -> Value {
        let mut fields = Map::new();
        fields.insert("case".to_owned(), json!(self.case));
        fields.insert("subject".to_owned(), json!(self.subject));
        let measured = self
            .median
            .fields()
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), json!(value?))));
        fields.extend(measured);
        fields.insert("runs".to_owned(), json!(self.runs));
        Value::Object(fields)
    }

    /// CPU of both proxies, whatever it is counted per.
    fn cpu(&self) -> Option<f64> {
        self.median.cpu_ms_per_1000.or(self.median.cpu_s_per_gb).or(self.median.kib_per_connection)
    }
}

/// An array of rows; a field that a case lacks is absent.
#[must_use]
pub fn json(rows: &[Row]) -> Value {
    rows.iter().map(Row::json).collect()
}

/// A table for people; the last column is CPU (for `idle` memory) as a ratio to the HAProxy pair of the same case.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "case           subject              rate (1/s, GB/s)   p50 ms   p99 ms p99 ratio  ms/1000   s/GB  KiB/conn  RSS MiB  / HAProxy  runs\n",
    );
    for row in rows {
        let haproxy =
            rows.iter().find(|other| other.case == row.case && other.subject.starts_with("haproxy"));
        let ratio = row.cpu().zip(haproxy.and_then(Row::cpu)).map(|(own, theirs)| own / theirs);
        let median = &row.median;
        let _ = writeln!(
            text,
            "{:<14} {:<20} {:>16} {:>8} {:>8} {:>9} {:>8} {:>6} {:>9} {:>8} {:>10} {:>5}",
            row.case,
            row.subject,
            cell(median.rate, 2),
            cell(median.p50_ms, 2),
            cell(median.p99_ms, 2),
            cell(median.p99_ratio, 2),
            cell(median.cpu_ms_per_1000, 1),
            cell(median.cpu_s_per_gb, 2),
            cell(median.kib_per_connection, 2),
            cell(median.rss_mib, 1),
            cell(ratio, 3),
            row.runs
        );
        if let (Some(ready), Some(cpu), Some(requests)) =
            (median.ready_s, median.cpu_percent, median.requests)
        {
            let _ = writeln!(
                text,
                "{:<14} ready in {ready:.2} s, {cpu:.1} % of a core, {requests:.0} requests",
                ""
            );
        }
    }
    text
}

fn cell(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.get(values.len().saturating_sub(1) / 2)?, values.get(values.len() / 2)?);
    Some(f64::midpoint(*low, *high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_absent_fields() {
        let sample = |rate| Sample { rate: Some(rate), ..Sample::default() };
        let row = Row::of(Case::Bulk1, Kind::PosthasteKernelCc, &[sample(3.0), sample(1.0), sample(2.0)]);
        let expected = json!([{"case": "bulk-1", "subject": "posthaste-kernel-cc", "rate": 2.0, "runs": 3}]);
        assert_eq!(json(&[row]), expected);
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
    }
}
