//! Bounded waiting: asks again and again until something holds or the time is up.

use crate::Fault;
use std::{
    fmt::Display,
    thread::sleep,
    time::{Duration, Instant},
};

/// Time that is enough for anything that does not depend on the amount of work.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Calls `check` every 20 ms until it is `Ok`, for at most `limit`.
///
/// # Errors
/// [`Fault::Late`] with the last error of `check`.
pub fn eventually_within<T, E: Display>(
    limit: Duration,
    what: &str,
    mut check: impl FnMut() -> Result<T, E>,
) -> Result<T, Fault> {
    let start = Instant::now();
    loop {
        let last = match check() {
            Ok(value) => return Ok(value),
            Err(error) => error.to_string(),
        };
        if start.elapsed() >= limit {
            let seconds = start.elapsed().as_secs_f64();
            return Err(Fault::Late { what: what.to_owned(), seconds, last });
        }
        sleep(Duration::from_millis(20));
    }
}

/// [`eventually_within`] the usual [`PATIENCE`].
///
/// # Errors
/// [`Fault::Late`] with the last error of `check`.
pub fn eventually<T, E: Display>(what: &str, check: impl FnMut() -> Result<T, E>) -> Result<T, Fault> {
    eventually_within(PATIENCE, what, check)
}

/// `Ok` when `holds`, else what was `seen`: for closures given to [`eventually`].
///
/// # Errors
/// What was seen, where the condition does not hold.
pub fn holds(holds: bool, seen: impl Into<String>) -> Result<(), String> {
    if holds { Ok(()) } else { Err(seen.into()) }
}
