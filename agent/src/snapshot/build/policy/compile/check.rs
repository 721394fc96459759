//! Reads single fields of a policy against their bounds. Pure.

use std::ops::RangeInclusive;

use crate::snapshot::{
    Problem,
    input::{
        duration::{self, shown},
        policy::{self as given, Duration},
    },
};

/// Reads fields and notes what is wrong with them.
pub(super) struct Check<'policy> {
    pub(super) policy: &'policy given::TrafficPolicy,
    pub(super) problems: &'policy mut Vec<Problem>,
}

impl Check<'_> {
    /// Codes within bounds, each once; others are left out.
    pub(super) fn list<T: TryFrom<i64> + PartialEq>(
        &mut self,
        field: &'static str,
        given: &[i64],
        between: RangeInclusive<i64>,
    ) -> Vec<T> {
        let mut codes = Vec::new();
        for (index, code) in given.iter().enumerate() {
            match T::try_from(*code) {
                Ok(code_read) if between.contains(code) => {
                    if !codes.contains(&code_read) {
                        codes.push(code_read);
                    }
                }
                _ => {
                    let reason = format!(
                        "{code} is not between {} and {}; it is left out",
                        between.start(),
                        between.end()
                    );
                    self.problem(("retry", &format!("{field}[{index}]")), reason);
                }
            }
        }
        codes
    }

    pub(super) fn number<T: TryFrom<i64> + std::fmt::Display>(
        &mut self,
        field: (&str, &str),
        given: Option<i64>,
        between: RangeInclusive<i64>,
        default: T,
    ) -> T {
        let Some(number) = given else { return default };
        match T::try_from(number) {
            Ok(read) if between.contains(&number) => read,
            _ => {
                let (least, most) = between.into_inner();
                self.problem(
                    field,
                    format!("{number} is not between {least} and {most}; {default} is in force"),
                );
                default
            }
        }
    }

    pub(super) fn duration(
        &mut self,
        field: (&str, &str),
        given: Option<&Duration>,
        between: RangeInclusive<u64>,
        default_ns: u64,
    ) -> u64 {
        self.read(field, given, between, &shown(default_ns)).unwrap_or(default_ns)
    }

    pub(super) fn read(
        &mut self,
        field: (&str, &str),
        given: Option<&Duration>,
        between: RangeInclusive<u64>,
        default: &str,
    ) -> Option<u64> {
        let text = given?.0.as_str();
        match duration::parse(text) {
            Some(ns) if between.contains(&ns) => Some(ns),
            read => {
                let text: String = text.chars().take(40).collect();
                let reason = match read {
                    Some(_) => format!(
                        "`{text}` is not between {} and {}; {default} is in force",
                        shown(*between.start()),
                        shown(*between.end())
                    ),
                    None => format!(
                        "`{text}` is not a duration; write it as `250ms` or `1m30s`. {default} is in force"
                    ),
                };
                self.problem(field, reason);
                None
            }
        }
    }

    pub(super) fn problem(&mut self, (section, field): (&str, &str), reason: impl Into<String>) {
        let field = format!("spec.{section}.{field}");
        self.problems.push(Problem::of(&self.policy.metadata, self.policy.kind, field, reason));
    }
}
