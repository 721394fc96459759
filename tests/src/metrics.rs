//! Reads the Prometheus text that an agent serves. Pure.

/// One sample: a name, its labels and a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Metric name, with its suffix (`_total`).
    pub name: String,
    /// Labels in the order of the text.
    pub labels: Vec<(String, String)>,
    /// Value.
    pub value: f64,
}

/// All samples of one scrape.
#[derive(Debug, Clone, Default)]
pub struct Metrics(pub Vec<Sample>);

impl Metrics {
    /// Reads the text; lines that are no samples are left out.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect())
    }

    /// Sum over all samples of `name` that carry all the given labels.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let carries = |sample: &Sample, (label, value): &(&str, &str)| {
            sample.labels.iter().any(|(l, v)| l == label && v == value)
        };
        let fits = |sample: &&Sample| sample.name == name && labels.iter().all(|pair| carries(sample, pair));
        // The sum of nothing is -0 otherwise.
        self.0.iter().filter(fits).map(|sample| sample.value).sum::<f64>() + 0.0
    }

    /// Whether there is any sample of that name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|sample| sample.name == name)
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (head, value) = match line.rsplit_once("} ") {
        Some((head, value)) => (head, value),
        None => line.split_once(' ')?,
    };
    let value = value.split(' ').next()?.parse().ok()?;
    let (name, labels) = head.split_once('{').unwrap_or((head, ""));
    let labels = labels
        .split("\",")
        .filter_map(|pair| pair.split_once("=\""))
        .map(|(label, text)| (label.to_owned(), text.trim_end_matches('"').to_owned()))
        .collect();
    Some(Sample { name: name.to_owned(), labels, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_by_labels() {
        let text = "# HELP a b\na_total{x=\"1\",y=\"p,q\"} 2\na_total{x=\"2\",y=\"\"} 3\nplain 4.5\n# EOF\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.sum("a_total", &[]), 5.0);
        assert_eq!(metrics.sum("a_total", &[("x", "1"), ("y", "p,q")]), 2.0);
        assert_eq!(metrics.sum("a_total", &[("y", "")]), 3.0);
        assert_eq!(metrics.sum("plain", &[]), 4.5);
        assert!(!metrics.has("b"));
    }
}
