//! Writes the status of our policies. Not on the nodes, where it would be written as often as there are nodes, but beside the CA,
//! which the cluster has one or two of: what it says follows from the objects alone, and what is so already is not written again, so
//! that two of them do not disturb each other.

use std::{collections::HashMap, time::Duration};

use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
    core::DynamicObject,
};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};

use super::{
    conditions::{self, Policy},
    installed, kinds,
    store::{Change, Store},
    stream::Listener,
    watch::Watch,
};
use crate::{
    control::document::Kind,
    snapshot::{Problem, build, input::Inputs},
};

/// What the verdict on a policy follows from.
const KINDS: [Kind; 4] =
    [Kind::Service, Kind::TrafficPolicy, Kind::BackendTrafficPolicy, Kind::AuthorizationPolicy];
/// Those that have one.
const JUDGED: [Kind; 2] = [Kind::TrafficPolicy, Kind::AuthorizationPolicy];
/// Silence that ends a burst of changes, and when a burst is cut off.
const QUIET: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(2);
/// After a write that failed.
const AGAIN: Duration = Duration::from_secs(5);
const WAITING: usize = 512;

/// Keeps the status of all policies right, until it is dropped. Call it within a tokio runtime.
pub async fn keep(client: Client) {
    let (sender, mut changes) = mpsc::channel(WAITING);
    let (names, installed) = watch::channel(installed::Names::new());
    tokio::spawn(installed::follow(client.clone(), names));
    for kind in KINDS {
        let listener = Listener { kind, changes: sender.clone() };
        let (client, installed) = (client.clone(), installed.clone());
        tokio::spawn(Watch { client, listener, fields: None, installed }.run());
    }
    drop(sender);
    let mut store = Store::default();
    while let Some((kind, change)) = changes.recv().await {
        if store.apply(kind, change) && settle(&mut store, &mut changes).await {
            write_all(&client, &store).await;
        }
    }
}

/// Takes what comes along; whether everything has been read.
async fn settle(store: &mut Store, changes: &mut mpsc::Receiver<(Kind, Change)>) -> bool {
    let end = Instant::now() + LONGEST;
    while Instant::now() < end {
        match timeout(QUIET, changes.recv()).await {
            Ok(Some((kind, change))) => {
                store.apply(kind, change);
            }
            Ok(None) | Err(_) => break,
        }
    }
    KINDS.iter().all(|kind| store.has_read(*kind))
}

/// Writes what is to be written; tried again later where that fails.
async fn write_all(client: &Client, store: &Store) {
    let inputs = store.reading("", [].iter()).inputs;
    for _ in 0..3 {
        match write(client, &inputs).await {
            Ok(0) => return,
            Ok(count) => return tracing::info!(count, "wrote the status of policies"),
            Err(error) => tracing::warn!(%error, "cannot write the status of policies"),
        }
        sleep(AGAIN).await;
    }
}

async fn write(client: &Client, inputs: &Inputs) -> Result<usize, kube::Error> {
    let problems = build::policy_problems(inputs);
    let mut count = 0;
    for kind in JUDGED {
        let policies: HashMap<Name<'_>, Policy<'_>> = conditions::policies(inputs)
            .filter(|policy| policy.kind == kind)
            .map(|policy| ((&*policy.metadata.namespace, &*policy.metadata.name), policy))
            .collect();
        // A kind of which there is none may not even be installed.
        if !policies.is_empty() {
            count += write_kind(client, kind, &policies, &problems).await?;
        }
    }
    Ok(count)
}

/// Namespace and name.
type Name<'input> = (&'input str, &'input str);

async fn write_kind(
    client: &Client,
    kind: Kind,
    policies: &HashMap<Name<'_>, Policy<'_>>,
    problems: &[Problem],
) -> Result<usize, kube::Error> {
    let resource = kinds::resource(kind, kind.version());
    let all: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let now = OffsetDateTime::now_utc();
    let now = now.replace_nanosecond(0).unwrap_or(now).format(&Rfc3339).unwrap_or_default();
    let mut count = 0;
    for object in all.list(&ListParams::default()).await?.items {
        let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
        let policy = policies.get(&(&*namespace, &*name));
        let value = serde_json::to_value(&object).unwrap_or_default();
        let Some(status) = policy.and_then(|policy| conditions::status(policy, &value, problems, &now))
        else {
            continue;
        };
        // With the version that was judged: a policy that changed meanwhile is judged again.
        let version = object.resource_version();
        let patch: Value = json!({"metadata": {"resourceVersion": version}, "status": status});
        let of: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource);
        match of.patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(_) => count += 1,
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}
