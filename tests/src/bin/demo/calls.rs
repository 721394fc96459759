//! Calls with curl, the client that everyone knows, and what came of them.

use std::collections::BTreeMap;

use posthaste_tests::{Fault, Site};
use serde_json::Value;

use crate::scene::SECRET;

/// What a row of calls came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) asked: u32,
    pub(crate) answered: u32,
    /// How many answers each endpoint gave.
    pub(crate) by: BTreeMap<String, u32>,
    /// What the first failed call said.
    pub(crate) complaint: Option<String>,
}

impl Outcome {
    pub(crate) fn is_complete(&self) -> bool {
        self.asked == self.answered && self.asked > 0
    }

    /// Such as `orders-1 5, orders-2 3`.
    pub(crate) fn shares(&self) -> String {
        let shares: Vec<String> = self.by.iter().map(|(name, count)| format!("{name} {count}")).collect();
        shares.join(", ")
    }

    fn see(&mut self, answer: Result<String, Fault>) {
        self.asked += 1;
        match answer.map(|text| read(&text).ok_or(text)) {
            Ok(Ok(name)) => {
                self.answered += 1;
                *self.by.entry(name).or_default() += 1;
            }
            Ok(Err(text)) => self.complain(format!("answered `{text}`")),
            Err(fault) => self.complain(fault.to_string()),
        }
    }

    fn complain(&mut self, what: String) {
        self.complaint.get_or_insert(what);
    }
}

/// Who answered, if the answer is whole.
fn read(text: &str) -> Option<String> {
    let answer: Value = serde_json::from_str(text).ok()?;
    (answer.get("price")? == SECRET).then_some(answer.get("by")?.as_str()?.to_owned())
}

/// Orders `count` times, each on a connection of its own, going round the addresses.
pub(crate) fn order(from: &Site, addresses: &[String], count: u32) -> Outcome {
    let mut outcome = Outcome::default();
    for (number, address) in (0..count).zip(addresses.iter().cycle()) {
        outcome.see(get(from, &format!("{address}/order/{number}")));
    }
    outcome
}

/// `curl URL` inside a site; at most five seconds.
///
/// # Errors
/// What curl said.
pub(crate) fn get(from: &Site, url: &str) -> Result<String, Fault> {
    let curl = ["curl", "--silent", "--show-error", "--fail", "--globoff", "--max-time", "5", url];
    from.run(&curl)?.success()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn counts_whole_answers_only() {
        let mut outcome = Outcome::default();
        outcome.see(Ok(format!("{{\"order\": \"/1\", \"price\": \"{SECRET}\", \"by\": \"orders-1\"}}")));
        outcome.see(Ok("{\"price\": \"other\", \"by\": \"orders-1\"}".into()));
        outcome.see(Err(Fault::new("refused")));
        assert_eq!((outcome.asked, outcome.answered), (3, 1));
        assert_eq!(outcome.shares(), "orders-1 1");
        assert!(outcome.complaint.as_deref().unwrap().contains("answered"));
        assert!(!outcome.is_complete());
    }
}
