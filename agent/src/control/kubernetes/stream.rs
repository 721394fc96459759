//! One run of a watch: the list where there is no place in the server's history yet, then events until the connection ends.
//!
//! kube's own `watcher` does the same, but it does not say where a streamed list begins, so that the rest of a list that was cut
//! could not be told from the next one, and it starts again without a pause.

use std::time::Duration;

use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ListParams, VersionMatch, WatchParams},
    core::{Request, Status, WatchEvent},
};
use tokio::{sync::mpsc, time::timeout};

use super::{
    ORIGIN,
    events::Events,
    seen::Seen,
    store::{Change, Name, State},
};
use crate::control::document::{self, Kind};

/// Objects of one page where lists are not streamed.
const PAGE: u32 = 500;
/// Mark of the bookmark that ends a streamed list.
const LIST_ENDS: &str = "k8s.io/initial-events-end";
/// The server ends a watch by itself after a time of our choice; one that is silent for so much longer is dead.
const GRACE: Duration = Duration::from_secs(15);
/// Any state that the server's cache has. A quorum read of everything by every node is what API servers die of.
const ANY: &str = "0";

/// Where the changes of a kind go.
pub(super) struct Listener {
    /// The kind.
    pub(super) kind: Kind,
    /// Its changes.
    pub(super) changes: mpsc::Sender<(Kind, Change)>,
}

impl Listener {
    /// Waits for room. An error where nobody listens any more.
    pub(super) async fn tell(&self, change: Change) -> Result<(), Trouble> {
        self.changes.send((self.kind, change)).await.map_err(|_| Trouble::Deaf)
    }

    fn read(&self, seen: &Seen) -> document::Item {
        document::object(&ORIGIN.into(), self.kind, seen.text.get())
    }

    async fn listed(&self, seen: &Seen) -> Result<(), Trouble> {
        self.tell(Change::Listed(name(seen), self.read(seen))).await
    }

    async fn applied(&self, seen: &Seen) -> Result<(), Trouble> {
        self.tell(Change::Applied(name(seen), self.read(seen))).await
    }
}

fn name(seen: &Seen) -> Name {
    (seen.namespace().unwrap_or_default().into(), seen.name_any().into())
}

/// Why a run ended early.
#[derive(Debug)]
pub(super) enum Trouble {
    /// What the server said.
    Status(Box<Status>),
    /// What went wrong on the way.
    Way(String),
    /// Nobody takes the changes any more.
    Deaf,
}

/// How a kind is watched.
pub(super) struct Stream {
    /// To the server.
    pub(super) client: Client,
    /// The kind at the server.
    pub(super) api: Api<Seen>,
    /// A field selector.
    pub(super) fields: Option<String>,
    /// The server knows streamed lists.
    pub(super) streaming: bool,
    /// Where we are in its history: the resource version of the last event; none before the first list is whole.
    pub(super) place: Option<String>,
    /// The last run brought something.
    pub(super) worked: bool,
}

impl Stream {
    /// Lists where that is needed and follows until the server ends the watch after `seconds`.
    pub(super) async fn run(&mut self, seconds: u32, listener: &Listener) -> Result<(), Trouble> {
        self.worked = false;
        if self.place.is_none() {
            listener.tell(Change::Begin).await?;
            if !self.streaming {
                self.pages(listener).await?;
            }
        }
        let listing = self.place.is_none();
        let version = self.place.clone().unwrap_or_else(|| ANY.to_owned());
        let request = Request::new(self.api.resource_url());
        let request = request.watch(&self.parameters(seconds, listing), &version);
        let request = request.map_err(|error| Trouble::Way(whole(&error)))?;
        let mut events = Events::open(&self.client, request).await?;
        if !listing {
            listener.tell(Change::State(State::Following)).await?;
        }
        let limit = Duration::from_secs(u64::from(seconds)) + GRACE;
        while let Ok(next) = timeout(limit, events.next()).await {
            let Some(event) = next? else { break };
            self.event(event, listener).await?;
        }
        Ok(())
    }

    /// One event; the list goes on until there is a place.
    async fn event(&mut self, event: WatchEvent<Seen>, listener: &Listener) -> Result<(), Trouble> {
        let listing = self.place.is_none();
        match event {
            WatchEvent::Added(seen) | WatchEvent::Modified(seen) if listing => listener.listed(&seen).await?,
            WatchEvent::Added(seen) | WatchEvent::Modified(seen) => {
                listener.applied(&seen).await?;
                self.move_to(seen.meta().resource_version.clone());
            }
            WatchEvent::Deleted(seen) if listing => drop(seen),
            WatchEvent::Deleted(seen) => {
                listener.tell(Change::Gone(name(&seen))).await?;
                self.move_to(seen.meta().resource_version.clone());
            }
            WatchEvent::Bookmark(bookmark) => {
                let ends = bookmark.metadata.annotations.contains_key(LIST_ENDS);
                if !listing || ends {
                    self.move_to(Some(bookmark.metadata.resource_version));
                }
                if listing && ends {
                    listener.tell(Change::End).await?;
                }
            }
            WatchEvent::Error(status) => return Err(Trouble::Status(status)),
        }
        self.worked = true;
        Ok(())
    }

    fn move_to(&mut self, place: Option<String>) {
        self.place = place.filter(|place| !place.is_empty()).or(self.place.take());
    }

    /// The list page by page.
    async fn pages(&mut self, listener: &Listener) -> Result<(), Trouble> {
        let mut parameters = ListParams {
            field_selector: self.fields.clone(),
            limit: Some(PAGE),
            version_match: Some(VersionMatch::NotOlderThan),
            resource_version: Some(ANY.to_owned()),
            ..ListParams::default()
        };
        loop {
            let list = self.api.list(&parameters).await?;
            for seen in &list.items {
                listener.listed(seen).await?;
            }
            let Some(next) = list.metadata.continue_.filter(|next| !next.is_empty()) else {
                self.move_to(list.metadata.resource_version);
                self.worked = true;
                return listener.tell(Change::End).await;
            };
            // A page that follows another has its version in the token.
            (parameters.version_match, parameters.resource_version) = (None, None);
            parameters.continue_token = Some(next);
        }
    }

    fn parameters(&self, seconds: u32, listing: bool) -> WatchParams {
        WatchParams {
            field_selector: self.fields.clone(),
            timeout: Some(seconds),
            bookmarks: true,
            send_initial_events: listing,
            ..WatchParams::default()
        }
    }
}

impl From<kube::Error> for Trouble {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Status(status),
            other => Self::Way(whole(&other)),
        }
    }
}

/// An error with everything that it came from: the outermost one says only that something failed.
pub(super) fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let words = inner.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = inner.source();
    }
    text
}
