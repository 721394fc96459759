//! Fetches pods of other nodes, one or many in a request, from the server's cache.

use std::{sync::Arc, time::Duration};

use kube::{
    Api, Client,
    api::{GetParams, ListParams},
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::timeout,
};

use super::{ORIGIN, asked::Fetch, kinds, seen::Seen};
use crate::{
    control::document::{self, Item, Kind, Object},
    snapshot::input::Pod,
};

/// Requests under way at once.
const AT_ONCE: usize = 8;
/// For one request.
const LIMIT: Duration = Duration::from_secs(10);

/// What a request was answered with.
pub(super) enum Answer {
    /// Pods of a namespace.
    Pods(Arc<str>, Vec<Arc<Pod>>),
    /// The server denies it, with its words.
    Denied(String),
}

/// Sends requests, and answers into a channel.
pub(super) struct Fetcher {
    client: Client,
    answers: mpsc::Sender<Answer>,
    room: Arc<Semaphore>,
}

impl Fetcher {
    pub(super) fn new(client: Client, answers: mpsc::Sender<Answer>) -> Self {
        Self { client, answers, room: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Sends it in a task of its own. What fails otherwise than by denial is not answered: who still waits asks again, and that the
    /// server is away the watches say.
    pub(super) fn send(&self, fetch: Fetch) {
        let (client, answers, room) = (self.client.clone(), self.answers.clone(), Arc::clone(&self.room));
        tokio::spawn(async move {
            let Ok(_permit) = room.acquire().await else { return };
            match timeout(LIMIT, pods(client, &fetch)).await {
                Ok(Ok(answer)) => drop(answers.send(answer).await),
                Ok(Err(error)) => tracing::warn!(?fetch, %error, "cannot learn who pods of other nodes are"),
                Err(_) => {
                    tracing::warn!(?fetch, "the API server did not say in time who pods of other nodes are")
                }
            }
        });
    }
}

async fn pods(client: Client, fetch: &Fetch) -> Result<Answer, kube::Error> {
    match found(client, fetch).await {
        Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => {
            tracing::warn!(?fetch, denied = status.message, "cannot learn who pods of other nodes are");
            Ok(Answer::Denied(status.message))
        }
        found => found.map(|(namespace, pods)| Answer::Pods(namespace, pods)),
    }
}

async fn found(client: Client, fetch: &Fetch) -> Result<(Arc<str>, Vec<Arc<Pod>>), kube::Error> {
    let resource = kinds::resource(Kind::Pod, Kind::Pod.version());
    let of = |namespace: &str| Api::<Seen>::namespaced_with(client.clone(), namespace, &resource);
    match fetch {
        Fetch::One((namespace, name)) => {
            let found = match of(namespace).get_with(name, &GetParams::any()).await {
                Ok(seen) => read(&seen).into_iter().collect(),
                // Gone: the slices will say so soon.
                Err(kube::Error::Api(status)) if status.code == 404 => Vec::new(),
                Err(error) => return Err(error),
            };
            Ok((namespace.clone(), found))
        }
        Fetch::Selected(namespace, labels) => {
            let list = of(namespace).list(&ListParams::default().labels(labels).match_any()).await?;
            Ok((namespace.clone(), list.items.iter().filter_map(read).collect()))
        }
    }
}

fn read(seen: &Seen) -> Option<Arc<Pod>> {
    match document::object(&ORIGIN.into(), Kind::Pod, seen.text.get()) {
        Item::Good(_, Object::Pod(pod)) => Some(pod),
        Item::InPart(_, _, problem) | Item::Bad(_, problem) => {
            tracing::warn!(%problem, "a pod of another node");
            None
        }
        _ => None,
    }
}
