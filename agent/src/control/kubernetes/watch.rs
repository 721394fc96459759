//! The watch of one kind, over everything that may happen to it. It ends only with its listener.
//!
//! | the server says | what is done |
//! |---|---|
//! | 404: no such kind (or version) | the next version, then wait until the kind is installed |
//! | 403 | said by name; asked again more and more seldom |
//! | 410: the place in its history is gone | listed anew, which replaces everything at once |
//! | streamed lists are not known | pages instead |
//! | nothing | asked again, with a pause that grows to half a minute |

use std::{sync::Arc, time::Duration};

use kube::{Api, Client, core::Status};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    backoff::{Backoff, jittered},
    installed::Names,
    kinds,
    seen::Seen,
    store::{Change, State, is_core},
    stream::{Listener, Stream, Trouble},
};

/// Pauses while the server does not answer.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Pauses while the server denies: somebody has to change a role.
const FIRST_DENIED: Duration = Duration::from_secs(2);
const LONGEST_DENIED: Duration = Duration::from_mins(1);
/// A kind that is not installed is asked for after so long even if its definition was not seen.
const ABSENT: Duration = Duration::from_mins(5);
/// How long the server lets a watch live: four to five minutes, drawn, so that thousands of nodes do not come back together.
const SHORTEST_WATCH: u32 = 240;
/// kube refuses 295 and more (kubernetes#6513).
const LONGEST_WATCH: u32 = 294;
/// A watch that the server ended sooner than this is a failure.
const TOO_SHORT: Duration = Duration::from_secs(1);

/// One watch.
pub(super) struct Watch {
    /// To the server.
    pub(super) client: Client,
    /// What is watched, and where its changes go.
    pub(super) listener: Listener,
    /// A field selector, as `spec.nodeName=a`.
    pub(super) fields: Option<String>,
    /// What is installed.
    pub(super) installed: watch::Receiver<Names>,
}

/// What is to be done after a run.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Absent,
    Denied(String),
    Expired,
    NoStreaming,
    Unreachable(String),
    Deaf,
}

/// Why a version of the kind is not followed any more.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Deaf,
    Absent,
}

impl Watch {
    /// Runs until nobody takes its changes any more.
    pub(super) async fn run(mut self) {
        let versions = self.listener.kind.versions();
        loop {
            for version in versions {
                if self.follow(version).await == Ended::Deaf {
                    return;
                }
            }
            if !self.wait_for_kind().await {
                return;
            }
        }
    }

    /// One version of the kind, over disconnections.
    async fn follow(&self, version: &str) -> Ended {
        let kind = self.listener.kind;
        let api: Api<Seen> = Api::all_with(self.client.clone(), &kinds::resource(kind, version));
        let (client, fields) = (self.client.clone(), self.fields.clone());
        let mut stream = Stream { client, api, fields, streaming: true, place: None, worked: false };
        let mut pauses = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut denied = Backoff::new(FIRST_DENIED, LONGEST_DENIED);
        loop {
            let begun = Instant::now();
            let seconds = fastrand::u32(SHORTEST_WATCH..=LONGEST_WATCH);
            let ended = stream.run(seconds, &self.listener).await;
            if stream.worked {
                pauses.reset();
                denied.reset();
            }
            let (state, pause) = match judge(ended, stream.worked || begun.elapsed() > TOO_SHORT) {
                None => continue,
                Some(Verdict::Deaf) => return Ended::Deaf,
                Some(Verdict::Absent) => return Ended::Absent,
                Some(Verdict::NoStreaming) => {
                    stream.streaming = false;
                    continue;
                }
                Some(Verdict::Expired) => {
                    tracing::info!(
                        kind = kind.as_str(),
                        "the API server has forgotten where this watch was; listing anew"
                    );
                    stream.place = None;
                    (None, pauses.next(fastrand::f64()))
                }
                Some(Verdict::Denied(words)) => (Some(State::Denied(words)), denied.next(fastrand::f64())),
                Some(Verdict::Unreachable(reason)) => {
                    (Some(State::Unreachable(reason, now())), pauses.next(fastrand::f64()))
                }
            };
            if let Some(state) = state
                && self.listener.tell(Change::State(state)).await.is_err()
            {
                return Ended::Deaf;
            }
            sleep(pause).await;
        }
    }

    /// Waits for the definition of the kind; whether somebody still listens.
    async fn wait_for_kind(&mut self) -> bool {
        // A kind of every cluster that is not found is a server that is not ready yet: nothing is let go for it.
        let (state, limit) = match is_core(self.listener.kind) {
            true => {
                (State::Unreachable("404 for a kind that every cluster has".to_owned(), now()), FIRST_DENIED)
            }
            false => (State::Absent, ABSENT),
        };
        if self.listener.tell(Change::State(state)).await.is_err() {
            return false;
        }
        let installed = kinds::qualified(self.listener.kind);
        let changed = async {
            // What it is now is why we are here: only a change counts, and it takes a moment until a new kind is served.
            while self.installed.changed().await.is_ok() {
                if self.installed.borrow_and_update().contains(&installed) {
                    return sleep(jittered(FIRST_PAUSE, fastrand::f64())).await;
                }
            }
            std::future::pending().await
        };
        let _ = timeout(jittered(limit, fastrand::f64()), changed).await;
        !self.listener.changes.is_closed()
    }
}

fn now() -> Arc<str> {
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(0).unwrap_or(now).format(&Rfc3339).unwrap_or_default().into()
}

/// What to do after a run; nothing where the server ended it in its time.
fn judge(ended: Result<(), Trouble>, worked: bool) -> Option<Verdict> {
    match ended {
        Ok(()) if worked => None,
        Ok(()) => Some(Verdict::Unreachable("it ends the watch at once".to_owned())),
        Err(Trouble::Deaf) => Some(Verdict::Deaf),
        Err(Trouble::Way(reason)) => Some(Verdict::Unreachable(reason)),
        Err(Trouble::Status(status)) => Some(of_status(&status)),
    }
}

fn of_status(status: &Status) -> Verdict {
    let says = |word: &str| status.message.contains(word);
    match status.code {
        404 => Verdict::Absent,
        401 => Verdict::Denied(format!("unauthorized: {}", status.message)),
        403 => Verdict::Denied(status.message.clone()),
        410 => Verdict::Expired,
        // Servers before streamed lists know neither of these for a watch.
        400 | 422 if says("sendInitialEvents") || says("resourceVersionMatch") => Verdict::NoStreaming,
        code => Verdict::Unreachable(format!("{code} {}", status.message)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn status(code: u16, message: &str) -> Status {
        serde_json::from_value(serde_json::json!({"code": code, "message": message, "status": "Failure"}))
            .unwrap()
    }

    #[test]
    fn each_answer_has_its_meaning() {
        let table = [
            (status(404, "the server could not find the requested resource"), Verdict::Absent),
            (status(403, "pods is forbidden"), Verdict::Denied("pods is forbidden".into())),
            (status(410, "too old resource version"), Verdict::Expired),
            (status(422, "sendInitialEvents: Forbidden: it is off"), Verdict::NoStreaming),
            (status(422, "other"), Verdict::Unreachable("422 other".into())),
            (status(503, "starting"), Verdict::Unreachable("503 starting".into())),
        ];
        for (status, verdict) in table {
            assert_eq!(of_status(&status), verdict, "{status:?}");
        }
    }
}
