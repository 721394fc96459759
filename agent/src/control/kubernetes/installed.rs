//! Which custom kinds the cluster has now: the names of its CustomResourceDefinitions, from a watch of their metadata. A kind that is
//! not there is waited for here, instead of being asked for by every node again and again.

use std::{collections::BTreeSet, time::Duration};

use futures_util::{StreamExt, pin_mut};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, WatchParams},
    core::WatchEvent,
};
use tokio::{sync::watch, time::sleep};

use super::backoff::Backoff;

/// Names as `PLURAL.GROUP`.
pub(super) type Names = BTreeSet<String>;

/// Follows them until nobody listens. Where the server denies it, the names stay empty and the watches ask by themselves.
pub(super) async fn follow(client: Client, names: watch::Sender<Names>) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client);
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(5));
    while !names.is_closed() {
        match list_and_watch(&definitions, &names).await {
            Ok(()) => backoff.reset(),
            Err(error) => tracing::debug!(%error, "the watch of custom resource definitions"),
        }
        sleep(backoff.next(fastrand::f64())).await;
    }
}

/// One list and one watch, to its end.
async fn list_and_watch(
    definitions: &Api<CustomResourceDefinition>,
    names: &watch::Sender<Names>,
) -> Result<(), kube::Error> {
    let list = definitions.list_metadata(&ListParams::default().match_any()).await?;
    let found = list.items.iter().map(ResourceExt::name_any).collect();
    names.send_if_modified(|names| std::mem::replace(names, found) != *names);
    let version = list.metadata.resource_version.unwrap_or_default();
    let events = definitions.watch_metadata(&WatchParams::default(), &version).await?;
    pin_mut!(events);
    while let Some(event) = events.next().await {
        match event? {
            // Also a change of one that is there already: it may be served only now, or in another version.
            WatchEvent::Added(one) | WatchEvent::Modified(one) => {
                names.send_modify(|names| names.extend([one.name_any()]));
            }
            WatchEvent::Deleted(one) => {
                names.send_modify(|names| names.retain(|name| *name != one.name_any()))
            }
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
        }
    }
    Ok(())
}
