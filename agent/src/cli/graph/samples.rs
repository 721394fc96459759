//! Samples of the text that `/metrics` answers. Pure.

use std::collections::BTreeMap;

/// One sample.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) value: f64,
}

impl Sample {
    /// A label that is there and known.
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str).filter(|value| !value.is_empty() && *value != "unknown")
    }
}

/// All samples of a text; lines that are none are left out.
pub(super) fn read(text: &str) -> Vec<Sample> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect()
}

fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// `name="value",..}` with `\\`, `\"` and `\n` in the values; and what follows.
fn labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches(',');
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, quoted) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break at,
                (_, '\\') => match characters.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.insert(name.to_owned(), value);
        rest = quoted.get(end + 1..)?;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn samples_with_and_without_labels() {
        let text = "# HELP a b\na_total{x=\"1\",y=\"p,\\\"}q\"} 2 17\nplain 4.5\nbroken{x=\"1\n{\n";
        let samples = read(text);
        assert_eq!(samples.len(), 2, "{samples:?}");
        assert_eq!(
            (samples[0].label("x"), samples[0].label("y"), samples[0].value),
            (Some("1"), Some("p,\"}q"), 2.0)
        );
        assert_eq!((&*samples[1].name, samples[1].value), ("plain", 4.5));
    }
}
