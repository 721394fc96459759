//! One thing that `check` found in a cluster. Pure.

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// As it should be.
    Good,
    /// It may work; look at it.
    Doubtful,
    /// The mesh will not work as it should.
    Bad,
}

/// What was looked at, what was found, what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What was looked at.
    pub name: String,
    /// How bad it is.
    pub verdict: Verdict,
    /// What was found.
    pub detail: String,
    /// What to do; empty where it is good.
    pub advice: String,
}

impl Finding {
    pub(super) fn good(name: &str, detail: impl Into<String>) -> Self {
        Self { name: name.to_owned(), verdict: Verdict::Good, detail: detail.into(), advice: String::new() }
    }

    pub(super) fn doubtful(name: &str, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { verdict: Verdict::Doubtful, advice: advice.into(), ..Self::good(name, detail) }
    }

    pub(super) fn bad(name: &str, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { verdict: Verdict::Bad, advice: advice.into(), ..Self::good(name, detail) }
    }
}
