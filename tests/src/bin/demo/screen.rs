//! What the demo says and how it looks: a title for each step, calm lines below it, and what was proved. Colours
//! only on a terminal and only without `NO_COLOR` (no-color.org).

use std::io::IsTerminal;

use crate::bars::{self, Bar};

/// Where the demo speaks. Counts what was proved and what was not.
pub(crate) struct Screen {
    coloured: bool,
    steps: u32,
    proved: Vec<String>,
    failed: Vec<String>,
}

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const RED: &str = "1;31";
const CYAN: &str = "36";

impl Screen {
    pub(crate) fn new() -> Self {
        let coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { coloured, steps: 0, proved: Vec::new(), failed: Vec::new() }
    }

    /// Begins a step.
    pub(crate) fn step(&mut self, title: &str) {
        self.steps += 1;
        println!("\n{} {}", self.paint(CYAN, &format!("{}.", self.steps)), self.paint(BOLD, title));
    }

    /// One line, or several.
    pub(crate) fn say(&self, text: &str) {
        for line in text.lines() {
            println!("   {line}");
        }
    }

    /// The same, in the background: commands, details.
    pub(crate) fn aside(&self, text: &str) {
        for line in text.lines() {
            println!("   {}", self.paint(DIM, line));
        }
    }

    /// Counts as bars on one scale.
    pub(crate) fn chart(&self, bars: &[Bar]) {
        for line in bars::draw(bars) {
            let (good, bad) = (self.paint(CYAN, &line.good), self.paint(RED, &line.bad));
            println!("   {}  {good}{bad}{}{}", line.label, line.rest, line.note);
        }
    }

    /// What the step had to show: it holds, or it does not.
    pub(crate) fn proof(&mut self, holds: bool, claim: &str) {
        let (colour, mark, list) =
            if holds { (GREEN, "✓", &mut self.proved) } else { (RED, "✗ NOT SEEN:", &mut self.failed) };
        list.push(claim.to_owned());
        println!("   {}", self.paint(colour, &format!("{mark} {claim}")));
    }

    /// Everything at once, at the end; whether all of it held.
    pub(crate) fn conclude(&self) -> bool {
        println!("\n{}", self.paint(BOLD, "What was seen"));
        for claim in &self.proved {
            println!("   {} {claim}", self.paint(GREEN, "✓"));
        }
        for claim in &self.failed {
            println!("   {} {claim}", self.paint(RED, "✗ NOT SEEN:"));
        }
        self.failed.is_empty()
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
