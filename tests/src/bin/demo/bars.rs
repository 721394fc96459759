//! Counts as bars of characters, all on one scale. Pure.

/// One line: how often something went well and how often it did not.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) good: u64,
    pub(crate) bad: u64,
    pub(crate) note: String,
}

/// A line that is ready to be painted: the bad part is drawn in another character, so that it is seen without colours.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Drawn {
    pub(crate) label: String,
    pub(crate) good: String,
    pub(crate) bad: String,
    /// Fills up to the column of the numbers.
    pub(crate) rest: String,
    pub(crate) note: String,
}

/// Characters of the longest bar.
const WIDTH: u64 = 40;

/// The longest bar is [`WIDTH`] long; what is not nothing is seen.
pub(crate) fn draw(bars: &[Bar]) -> Vec<Drawn> {
    let most = bars.iter().map(|bar| bar.good + bar.bad).max().unwrap_or_default().max(1);
    let labels = bars.iter().map(|bar| bar.label.chars().count()).max().unwrap_or_default();
    bars.iter().map(|bar| line(bar, most, labels)).collect()
}

fn line(bar: &Bar, most: u64, labels: usize) -> Drawn {
    let length = |count: u64| (count * WIDTH).div_ceil(most).min(WIDTH);
    let (all, bad) = (length(bar.good + bar.bad), length(bar.bad));
    let characters =
        |character: &str, count: u64| character.repeat(usize::try_from(count).unwrap_or_default());
    Drawn {
        label: format!("{:<labels$}", bar.label),
        good: characters("█", all - bad),
        bad: characters("░", bad),
        rest: characters(" ", WIDTH - all),
        note: format!("{:>5}  {}", bar.good + bar.bad, bar.note).trim_end().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn bar(label: &str, good: u64, bad: u64) -> Bar {
        Bar { label: label.to_owned(), good, bad, note: String::new() }
    }

    #[test]
    fn bars_share_a_scale_and_end_at_one_column() {
        let drawn =
            draw(&[bar("one", 300, 100), bar("seven", 1, 0), bar("none", 0, 0), bar("all bad", 0, 200)]);
        let lengths = |line: &Drawn| (line.good.chars().count(), line.bad.chars().count());
        assert_eq!(drawn.iter().map(lengths).collect::<Vec<_>>(), [(30, 10), (1, 0), (0, 0), (0, 20)]);
        for line in &drawn {
            let (good, bad) = lengths(line);
            assert_eq!(good + bad + line.rest.len(), 40, "{line:?}");
            assert_eq!(line.label.len(), 7, "{line:?}");
        }
        assert_eq!((drawn[0].note.as_str(), drawn[2].note.as_str()), ("  400", "    0"));
    }

    #[test]
    fn no_bars_are_no_lines() {
        assert_eq!(draw(&[]), []);
    }
}
