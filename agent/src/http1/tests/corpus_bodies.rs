//! The requests of `cases` with bodies whose end two hops may see at different places.

use super::{
    cases,
    transcript::{check, requests},
};

/// Requests that all begin alike.
fn check_posts(table: &[(&str, &str)]) {
    let table: Vec<_> = table.iter().map(|(rest, told)| (format!("{}{rest}", cases::POST), *told)).collect();
    let table: Vec<_> = table.iter().map(|(raw, told)| (raw.as_str(), *told)).collect();
    check(&table, requests);
}

#[test]
fn lengths() {
    check_posts(cases::LENGTHS);
    check(cases::BODIES, requests);
}

#[test]
fn codings() {
    check_posts(cases::CODINGS);
}
