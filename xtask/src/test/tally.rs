//! Adds up what the test binaries report. Pure. Understands the closing line of Rust's test harness; a step that
//! fails without one (a compile error, a lint) counts as one failure, so that a red run is never "0 failed".

/// Sums over all steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
    /// Of those that passed: failed beside others first, and passed alone.
    pub(crate) alone: u64,
}

/// The test that a line says has failed: `test http_routes::cors ... FAILED`.
pub(crate) fn failed_test(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

impl Tally {
    /// Adds the line if it is a closing line: `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    pub(crate) fn see(&mut self, line: &str) {
        let Some(rest) = line.trim_start().strip_prefix("test result: ") else { return };
        let counts = rest.split_once(". ").map_or(rest, |(_, counts)| counts);
        for part in counts.split(';') {
            let mut words = part.split_whitespace();
            let (Some(Ok(count)), Some(what)) = (words.next().map(str::parse::<u64>), words.next()) else {
                continue;
            };
            match what {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                "ignored" => self.ignored += count,
                _ => {}
            }
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.alone += other.alone;
    }

    /// Counts so many failed ones as passed, because they passed alone.
    pub(crate) fn forgive(&mut self, count: u64) {
        self.failed = self.failed.saturating_sub(count);
        self.passed += count;
        self.alone += count;
    }

    /// What a step counts for: a failed one at least one failure.
    pub(crate) fn of_step(self, succeeded: bool) -> Self {
        Self { failed: self.failed.max(u64::from(!succeeded)), ..self }
    }

    /// The last line of a run, in the form that continuous integration reads: these words and no others.
    pub(crate) fn closing_line(self) -> String {
        format!("{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn adds_up_several_binaries() {
        let mut tally = Tally::default();
        for line in [
            "test a::b ... ok",
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.01s",
            "test result: FAILED. 4 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "5 passed; 5 failed",
        ] {
            tally.see(line);
        }
        assert_eq!(tally, Tally { passed: 16, failed: 2, ignored: 1, alone: 0 });
        assert_eq!(tally.closing_line(), "16 passed, 2 failed");
        tally.forgive(1);
        assert_eq!(tally, Tally { passed: 17, failed: 1, ignored: 1, alone: 1 });
    }

    #[test]
    fn knows_which_test_failed() {
        let table = [
            ("test http_routes::cors ... FAILED", Some("http_routes::cors")),
            ("test http_routes::cors ... ok", None),
            ("test result: FAILED. 4 passed; 2 failed; 1 ignored", None),
            ("    http_routes::cors", None),
        ];
        for (line, name) in table {
            assert_eq!(failed_test(line), name);
        }
    }

    #[test]
    fn a_step_that_fails_without_tests_is_a_failure() {
        assert_eq!(Tally::default().of_step(false).failed, 1);
        assert_eq!(Tally { failed: 3, ..Tally::default() }.of_step(false).failed, 3);
        assert_eq!(Tally::default().of_step(true).closing_line(), "0 passed, 0 failed");
    }
}
