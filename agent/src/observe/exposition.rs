//! Metrics in Prometheus' own text format, for scrapers that do not ask for OpenMetrics. Pure.
//!
//! OpenMetrics names a family of counters without the suffix of its samples; the older format has no families, so that `# HELP` and
//! `# TYPE` name what the samples are called. `# UNIT` and `# EOF` are unknown to it.

/// `content-type` of OpenMetrics.
pub(crate) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// `content-type` of the older format.
pub(crate) const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether who sends this `accept` takes OpenMetrics.
pub(crate) fn takes_open_metrics(accept: &str) -> bool {
    accept.contains("application/openmetrics-text")
}

/// The older format of a text in OpenMetrics.
pub(crate) fn classic(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 1024);
    // The help comes before the type that says whether it is of a counter.
    let mut help = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, words)) = help.take().filter(|(of, _)| *of == name) {
                out.push_str(&format!("# HELP {name}{suffix} {words}\n"));
            }
            out.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with('#') {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_named_as_their_samples() {
        let open = "# HELP a_bytes What it is.\n# TYPE a_bytes counter\n# UNIT a_bytes bytes\na_bytes_total{x=\"# HELP\"} 1\n# HELP b Now.\n# TYPE b gauge\nb 2\n# EOF\n";
        let wanted = "# HELP a_bytes_total What it is.\n# TYPE a_bytes_total counter\na_bytes_total{x=\"# HELP\"} 1\n# HELP b Now.\n# TYPE b gauge\nb 2\n";
        assert_eq!(classic(open), wanted);
        assert!(takes_open_metrics("application/openmetrics-text;version=1.0.0,text/plain;q=0.3"));
        assert!(!takes_open_metrics("*/*"));
    }
}
