//! Hedging: a second attempt while the first is still under way, where a policy asks for it and the request may be repeated.
//! The first good answer wins, the others are cancelled.

use std::{pin::Pin, time::Duration};

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::sleep;

use super::attempts::{Call, Informed, Tried};
use crate::resilience::hedge;

type Attempt<'a> = Pin<Box<dyn Future<Output = Tried> + 'a>>;

/// One attempt, with its hedges where there are any.
pub(super) async fn attempt(call: &Call<'_>, number: u32, informed: &mut Informed<'_>) -> Tried {
    match plan(call, number) {
        None => call.attempt(number, false, informed).await,
        // Boxed, so that requests without hedges have no room for them.
        Some((delay, extra)) => Box::pin(race(call, number, delay, extra, informed)).await,
    }
}

/// After how long the next attempt starts, and how many of them.
fn plan(call: &Call<'_>, number: u32) -> Option<(Duration, u32)> {
    let port = &call.plan.port;
    let hedging = port.policy.hedging.as_ref()?;
    // A body that is still coming cannot be sent twice at once.
    if number > 1 || !call.idempotent || call.upgrade || call.inherited > 0 || !call.replay.is_complete() {
        return None;
    }
    let delay_ns = hedge::delay(hedging, &port.state.percentiles)?;
    Some((Duration::from_nanos(delay_ns), hedging.extra))
}

async fn race(
    call: &Call<'_>,
    number: u32,
    delay: Duration,
    extra: u32,
    informed: &mut Informed<'_>,
) -> Tried {
    let mut running: FuturesUnordered<Attempt<'_>> = FuturesUnordered::new();
    running.push(Box::pin(call.attempt(number, false, informed)));
    let mut permits = Vec::new();
    let mut left = extra;
    loop {
        let ended = tokio::select! {
            biased;
            ended = running.next() => ended,
            () = sleep(delay), if left > 0 => None,
        };
        match ended {
            Some(tried) if tried.is_settled() || running.is_empty() => return tried,
            // Another one is still under way and may do better.
            Some(_) => left = 0,
            None => {
                left -= 1;
                let Some(permit) = call.admit_retry(false) else {
                    left = 0;
                    continue;
                };
                permits.push(permit);
                running.push(Box::pin(silently(call, number + extra - left)));
            }
        }
    }
}

async fn silently(call: &Call<'_>, number: u32) -> Tried {
    call.attempt(number, true, &mut |_, _| {}).await
}
