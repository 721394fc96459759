//! The programs that make the load, and what they say.

use super::case::Case;
use crate::{Fault, Site};
use serde_json::Value;
use std::{net::SocketAddr, time::Duration};

/// What wrk measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Requests {
    /// Requests answered.
    pub count: f64,
    /// Of them per second.
    pub rate: f64,
    /// Median, milliseconds, from the request's first byte to the answer's last.
    pub p50_ms: f64,
    /// 99th percentile, milliseconds.
    pub p99_ms: f64,
}

/// wrk with 32 connections; for [`Case::is_new_each`] each request has a connection of its own.
///
/// # Errors
/// wrk is missing, or not every request was answered with 200.
pub fn wrk(client: &Site, target: SocketAddr, case: Case, seconds: u32) -> Result<Requests, Fault> {
    let (url, duration) = (format!("http://{target}/"), format!("{seconds}s"));
    let mut line = vec!["wrk", "-t1", "-c32", "--latency", "-d", &duration];
    if case.is_new_each() {
        line.extend(["-H", "Connection: close"]);
    }
    line.push(&url);
    let text = finish(client, &line, seconds)?;
    parse_wrk(&text).ok_or_else(|| Fault::new(format!("not every request was answered: {text}")))
}

/// Bytes that iperf3 received with `streams` streams, and its seconds.
///
/// # Errors
/// iperf3 is missing or failed.
pub fn iperf(client: &Site, target: SocketAddr, streams: u32, seconds: u32) -> Result<(f64, f64), Fault> {
    let words =
        [target.ip().to_string(), target.port().to_string(), streams.to_string(), seconds.to_string()];
    let [ip, port, streams, length] = words.each_ref().map(String::as_str);
    let text = finish(client, &["iperf3", "-J", "-c", ip, "-p", port, "-P", streams, "-t", length], seconds)?;
    let report: Value =
        serde_json::from_str(&text).map_err(|error| Fault::new(format!("{error}: {text}")))?;
    let number = |field: &str| report.pointer(&format!("/end/sum_received/{field}")).and_then(Value::as_f64);
    match number("bytes").zip(number("seconds")) {
        Some((bytes, time)) if bytes > 0.0 && time > 0.0 => Ok((bytes, time)),
        _ => Err(Fault::new(format!("nothing was received: {text}"))),
    }
}

fn finish(client: &Site, line: &[&str], seconds: u32) -> Result<String, Fault> {
    client.start(line)?.finish(Duration::from_secs(u64::from(seconds) + 30))?.success()
}

/// `None` where a request failed or nothing was measured.
fn parse_wrk(text: &str) -> Option<Requests> {
    if text.contains("Socket errors") || text.contains("Non-2xx") {
        return None;
    }
    let line = |start: &str| text.lines().find_map(|line| line.trim().strip_prefix(start).map(str::trim));
    let count: f64 = text.lines().find_map(|line| line.trim().split_once(" requests in "))?.0.parse().ok()?;
    let rate = line("Requests/sec:")?.parse().ok()?;
    let (p50_ms, p99_ms) = (milliseconds(line("50%")?)?, milliseconds(line("99%")?)?);
    (count > 0.0).then_some(Requests { count, rate, p50_ms, p99_ms })
}

fn milliseconds(text: &str) -> Option<f64> {
    let units = [("us", 0.001), ("ms", 1.0), ("s", 1000.0), ("m", 60_000.0)];
    units.iter().find_map(|(unit, factor)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * factor))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const GOOD: &str = "Running 1s test @ http://10.77.3.1:8080/\n  1 threads and 32 connections\n  Thread Stats   Avg  Stdev\n    \
        Latency     1.02ms    0.40ms\n  Latency Distribution\n     50%  912.00us\n     75%    1.10ms\n     90%    1.31ms\n     \
        99%    2.05ms\n  30855 requests in 1.00s, 36.08MB read\nRequests/sec:  30849.13\nTransfer/sec:     36.07MB\n";

    #[test]
    fn reads_wrk() {
        let read = parse_wrk(GOOD).unwrap();
        assert_eq!(read, Requests { count: 30855.0, rate: 30849.13, p50_ms: 0.912, p99_ms: 2.05 });
        let bad = format!("{GOOD}  Socket errors: connect 0, read 3, write 0, timeout 0\n");
        assert_eq!(parse_wrk(&bad), None);
        assert_eq!(parse_wrk(""), None);
        assert_eq!(milliseconds("1.5s"), Some(1500.0));
    }
}
