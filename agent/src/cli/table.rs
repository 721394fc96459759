//! Tables that fit a width: the least important columns go first, then the longest cells are shortened. Pure.

use comfy_table::{Cell, ContentArrangement, Table, presets};

/// What a table may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    /// Columns of the terminal; none where the output is not a terminal.
    pub width: Option<usize>,
    /// Show also the columns that are only for the curious.
    pub wide: bool,
}

/// One column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its head.
    pub title: &'static str,
    /// 0 always stays; the higher, the earlier it goes. [`WIDE`] shows only with `-o wide`.
    pub rank: u8,
    /// Cells are not shortened below this.
    pub least: usize,
}

impl Column {
    /// A column of that title, rank and least width.
    #[must_use]
    pub const fn new(title: &'static str, rank: u8, least: usize) -> Self {
        Self { title, rank, least }
    }
}

/// Rank of columns for the curious.
pub const WIDE: u8 = u8::MAX;

/// Between two columns.
const GAP: usize = 2;

/// Draws rows of as many cells as there are columns; ends with a newline.
#[must_use]
pub fn draw(columns: &[Column], rows: &[Vec<String>], fit: Fit) -> String {
    let mut kept: Vec<usize> = (0..columns.len())
        .filter(|place| fit.wide || columns.get(*place).is_some_and(|column| column.rank != WIDE))
        .collect();
    let mut widths = natural_widths(columns, rows);
    if let Some(limit) = fit.width {
        drop_empty(columns, rows, &widths, &mut kept, limit);
        drop_columns(columns, &widths, &mut kept, limit);
        shorten(columns, &mut widths, &kept, limit);
    }
    render(columns, rows, &kept, &widths)
}

fn natural_widths(columns: &[Column], rows: &[Vec<String>]) -> Vec<usize> {
    let longest =
        |place: usize| rows.iter().filter_map(|row| row.get(place)).map(|cell| cell.chars().count()).max();
    let widths = columns.iter().enumerate();
    widths.map(|(place, column)| longest(place).unwrap_or(0).max(column.title.len())).collect()
}

fn total(kept: &[usize], width_of: impl Fn(usize) -> usize) -> usize {
    kept.iter().map(|place| width_of(*place)).sum::<usize>() + GAP * kept.len().saturating_sub(1)
}

/// Before anything is shortened: while it does not fit as it is, the least important column that says nothing goes.
fn drop_empty(
    columns: &[Column],
    rows: &[Vec<String>],
    widths: &[usize],
    kept: &mut Vec<usize>,
    limit: usize,
) {
    let rank = |place: usize| columns.get(place).map_or(0, |column| column.rank);
    let is_empty = |place: usize| {
        rank(place) > 0
            && rows.iter().filter_map(|row| row.get(place)).all(|cell| matches!(&**cell, "" | "-"))
    };
    while total(kept, |place| widths.get(place).copied().unwrap_or(0)) > limit {
        let empty = kept.iter().copied().filter(|place| is_empty(*place));
        let Some(worst) = empty.max_by_key(|place| rank(*place)) else { return };
        kept.retain(|place| *place != worst);
    }
}

/// While even shortened cells do not fit, the column of the highest rank goes.
fn drop_columns(columns: &[Column], widths: &[usize], kept: &mut Vec<usize>, limit: usize) {
    let rank = |place: usize| columns.get(place).map_or(0, |column| column.rank);
    let least = |place: usize| least_width(columns, widths, place);
    while total(kept, least) > limit {
        let Some(worst) = kept.iter().copied().max_by_key(|place| rank(*place)) else { return };
        if rank(worst) == 0 {
            return;
        }
        kept.retain(|place| *place != worst);
    }
}

fn least_width(columns: &[Column], widths: &[usize], place: usize) -> usize {
    let natural = widths.get(place).copied().unwrap_or(0);
    columns.get(place).map_or(natural, |column| natural.min(column.least.max(column.title.len())))
}

/// Takes from the column that has most above its least width, one character at a time.
fn shorten(columns: &[Column], widths: &mut [usize], kept: &[usize], limit: usize) {
    let natural = widths.to_vec();
    loop {
        let width_of = |place: usize| widths.get(place).copied().unwrap_or(0);
        if total(kept, width_of) <= limit {
            return;
        }
        let spare = |place: &usize| width_of(*place).saturating_sub(least_width(columns, &natural, *place));
        let Some(place) =
            kept.iter().copied().filter(|place| spare(place) > 0).max_by_key(|place| width_of(*place))
        else {
            return;
        };
        if let Some(width) = widths.get_mut(place) {
            *width -= 1;
        }
    }
}

fn render(columns: &[Column], rows: &[Vec<String>], kept: &[usize], widths: &[usize]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(
        kept.iter().filter_map(|place| columns.get(*place)).map(|column| Cell::new(column.title)),
    );
    for row in rows {
        table.add_row(kept.iter().map(|place| {
            let width = widths.get(*place).copied().unwrap_or(usize::MAX);
            Cell::new(cut(row.get(*place).map_or("", String::as_str), width))
        }));
    }
    let last = kept.len().saturating_sub(1);
    for (place, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if place == last { 0 } else { u16::try_from(GAP).unwrap_or(2) }));
    }
    table.trim_fmt() + "\n"
}

/// `text` in at most `width` characters; the middle goes, since names differ at both ends. No control characters.
fn cut(text: &str, width: usize) -> String {
    let text: Vec<char> = text.chars().map(|one| if one.is_control() { '?' } else { one }).collect();
    if text.len() <= width {
        return text.into_iter().collect();
    }
    let tail = width.saturating_sub(1) / 2;
    let head = width.saturating_sub(1 + tail);
    let start = text.iter().take(head);
    start.chain(std::iter::once(&'…')).chain(text.iter().skip(text.len() - tail)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn example(width: usize) -> String {
        let columns = [
            Column { title: "NAME", rank: 0, least: 8 },
            Column { title: "IDENTITY", rank: 2, least: 12 },
            Column { title: "BYTES", rank: 1, least: 5 },
            Column { title: "EXTRA", rank: WIDE, least: 5 },
        ];
        let row = ["shop/checkout-6f7", "spiffe://cluster.local/ns/shop/sa/checkout", "1.2 MiB", "x"];
        draw(&columns, &[row.map(str::to_owned).to_vec()], Fit { width: Some(width), wide: false })
    }

    #[test]
    fn fits_every_width() {
        assert_eq!(
            example(80),
            "NAME               IDENTITY                                    BYTES\n\
             shop/checkout-6f7  spiffe://cluster.local/ns/shop/sa/checkout  1.2 MiB\n"
        );
        assert_eq!(
            example(50),
            "NAME               IDENTITY                BYTES\n\
             shop/checkout-6f7  spiffe://cl…a/checkout  1.2 MiB\n"
        );
        assert_eq!(example(20), "NAME         BYTES\nshop/…t-6f7  1.2 MiB\n");
        for width in 20..120 {
            let longest = example(width).lines().map(|line| line.chars().count()).max().unwrap();
            assert!(longest <= width, "{longest} of {width}");
        }
    }

    #[test]
    fn a_column_that_says_nothing_goes_before_another_is_shortened() {
        let columns = [
            Column { title: "NAME", rank: 0, least: 4 },
            Column { title: "FILTERS", rank: 1, least: 7 },
            Column { title: "ROUTE", rank: 2, least: 4 },
        ];
        let rows = [["shop/checkout", "-", "HTTPRoute/shop/checkout"].map(str::to_owned).to_vec()];
        let text = draw(&columns, &rows, Fit { width: Some(40), wide: false });
        assert_eq!(text, "NAME           ROUTE\nshop/checkout  HTTPRoute/shop/checkout\n");
        let wide = draw(&columns, &rows, Fit { width: Some(60), wide: false });
        assert!(wide.contains("FILTERS"), "{wide}");
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        assert_eq!(cut("a\u{1b}[31mb", 20), "a?[31mb");
        assert_eq!(cut("abc", 0), "…");
    }
}
