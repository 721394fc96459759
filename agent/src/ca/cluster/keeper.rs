//! Keeps the CA's roots in a Secret, and the trust bundle in a ConfigMap: reads them every few seconds, does what `plan` says,
//! and writes with optimistic locking, so that replicas need no leader.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client, api::PostParams};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    ClusterError, objects,
    plan::{self, Given, Rules, Step},
};
use crate::{
    ca::{
        roots::{self, Root, Roots, StoredRoot},
        state::StateError,
    },
    tls::Clock,
};

const PERIOD: Duration = Duration::from_secs(5);
/// A look that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Nothing is signed by roots that were seen longer ago: another replica may have added one. Well under the margin of the
/// overlap ([`plan::MARGIN`]).
const FRESH: time::Duration = time::Duration::seconds(60);
/// Looks in one go, where others write as well.
const ATTEMPTS: usize = 8;

/// Names of the objects.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    namespace: String,
    /// The CA's own Secret.
    roots: &'static str,
    /// A Secret to sign with that the cluster's owner may give.
    given: &'static str,
    /// The ConfigMap with the bundle.
    bundle: &'static str,
}

impl Names {
    /// The names that the manifests give rights to.
    pub(crate) fn of(namespace: &str) -> Self {
        let namespace = namespace.to_owned();
        Self {
            namespace,
            roots: "posthaste-ca-roots",
            given: "posthaste-ca-given",
            bundle: "posthaste-ca-bundle",
        }
    }
}

/// The roots as they were last seen.
#[derive(Clone, Default)]
pub(crate) struct Held(Arc<ArcSwapOption<Seen>>);

struct Seen {
    roots: Arc<Vec<Root>>,
    at: OffsetDateTime,
}

impl Held {
    /// Why nothing can be signed at `now`.
    pub(crate) fn ailment(&self, now: OffsetDateTime) -> Option<String> {
        match self.0.load().as_deref() {
            None => Some("they were not read yet".to_owned()),
            Some(seen) if now - seen.at > FRESH => {
                let ago = (now - seen.at).whole_seconds();
                Some(format!("they were last seen {ago} s ago; the API server does not answer"))
            }
            Some(_) => None,
        }
    }
}

impl Roots for Held {
    fn current(&self, now: OffsetDateTime) -> Result<Arc<Vec<Root>>, StateError> {
        match (self.ailment(now), self.0.load().as_deref()) {
            (None, Some(seen)) => Ok(Arc::clone(&seen.roots)),
            (reason, _) => Err(StateError::Cluster(reason.unwrap_or_default())),
        }
    }

    /// The keeper writes the ConfigMap.
    fn publish(&self, _: &str) -> Result<(), StateError> {
        Ok(())
    }
}

/// The keeper of one cluster's roots.
pub(crate) struct Keeper {
    secrets: Api<Secret>,
    maps: Api<ConfigMap>,
    names: Names,
    rules: Rules,
    trust_domain: String,
    clock: Clock,
    held: Held,
    /// What was last wrong with the given Secret; said once.
    complaint: Mutex<Option<String>>,
}

impl Keeper {
    pub(crate) fn new(
        client: &Client,
        names: Names,
        rules: Rules,
        trust_domain: String,
        clock: Clock,
    ) -> Self {
        let secrets = Api::namespaced(client.clone(), &names.namespace);
        let maps = Api::namespaced(client.clone(), &names.namespace);
        let (held, complaint) = (Held::default(), Mutex::default());
        Self { secrets, maps, names, rules, trust_domain, clock, held, complaint }
    }

    /// What it keeps, for those who sign.
    pub(crate) fn held(&self) -> Held {
        self.held.clone()
    }

    /// Why nothing can be signed now.
    pub(crate) fn not_ready(&self) -> Option<String> {
        self.held.ailment(self.clock.date()).map(|reason| format!("the roots: {reason}"))
    }

    /// Ready when there are roots.
    pub(crate) async fn first(&self) {
        while !self.look().await {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Looks for ever.
    pub(crate) async fn follow(self: Arc<Self>) {
        loop {
            tokio::time::sleep(PERIOD).await;
            self.look().await;
        }
    }

    /// One look, whose failure is logged; whether it succeeded.
    async fn look(&self) -> bool {
        match tokio::time::timeout(PATIENCE, self.reconcile()).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => tracing::error!(%error, "the CA's roots"),
            Err(_) => tracing::error!("the CA's roots: the API server did not answer within {PATIENCE:?}"),
        }
        false
    }

    /// Reads, does what is to be done, and publishes.
    async fn reconcile(&self) -> Result<(), ClusterError> {
        for _ in 0..ATTEMPTS {
            // Before the question: what is read was true then or later.
            let now = self.clock.date();
            let secret = self.secrets.get_opt(self.names.roots).await?;
            let stored = self.read(secret.as_ref())?;
            let open = self.open(&stored)?;
            let given = self.given(now).await?;
            let Some(step) = plan::next(&stored, &open, given.as_ref(), now, self.rules) else {
                return self.hold(open, now).await;
            };
            self.store(step, stored, secret.as_ref(), now).await?;
        }
        Err(self.broken("it changes again and again; are there two clusters' CAs on it?"))
    }

    /// Adds a root that this CA makes, for an operator.
    pub(crate) async fn rotate(&self) -> Result<String, ClusterError> {
        if self.secrets.get_opt(self.names.given).await?.is_some() {
            let what =
                "the roots of this mesh are given by it: replace its content, and the CA rotates to it";
            return Err(ClusterError::Secret(self.names.given.to_owned(), what.to_owned()));
        }
        let now = self.clock.date();
        let secret = self.secrets.get_opt(self.names.roots).await?;
        let stored = self.read(secret.as_ref())?;
        let signs_from = now + self.rules.overlap;
        self.store(Step::Make { signs_from }, stored, secret.as_ref(), now).await?;
        let shown = signs_from.format(&Rfc3339).unwrap_or_default();
        Ok(format!("added a root; it signs from {shown}, until then agents learn to trust it"))
    }

    fn read(&self, secret: Option<&Secret>) -> Result<Vec<StoredRoot>, ClusterError> {
        let stored = secret.map(objects::read).transpose().map_err(|reason| self.broken(&reason))?;
        Ok(stored.unwrap_or_default())
    }

    fn open(&self, stored: &[StoredRoot]) -> Result<Vec<Root>, ClusterError> {
        stored.iter().map(StoredRoot::open).collect::<Result<_, _>>().map_err(|reason| self.broken(&reason))
    }

    /// The Secret that the cluster's owner gave; a broken one is complained about and changes nothing.
    async fn given(&self, now: OffsetDateTime) -> Result<Option<Given>, ClusterError> {
        let read = self.secrets.get_opt(self.names.given).await?;
        let (given, complaint) = match read.map(|secret| objects::given(&secret, now)) {
            None => (None, None),
            Some(Ok(given)) => (Some(given), None),
            Some(Err(reason)) => (None, Some(reason)),
        };
        let mut known = self.complaint.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = complaint.as_ref().filter(|_| *known != complaint) {
            tracing::error!(
                secret = self.names.given,
                reason,
                "a root that was given cannot be used; the last good one stays"
            );
        }
        *known = complaint;
        Ok(given)
    }

    async fn store(
        &self,
        step: Step,
        stored: Vec<StoredRoot>,
        old: Option<&Secret>,
        now: OffsetDateTime,
    ) -> Result<(), ClusterError> {
        let wanted = match step {
            Step::Store(roots) => roots,
            Step::Make { signs_from } => {
                let made = StoredRoot::make(&self.trust_domain, stored.len() + 1, now, signs_from);
                let made = made.map_err(|error| self.broken(&error.to_string()))?;
                stored.into_iter().chain([made]).collect()
            }
        };
        let secret = objects::write(self.names.roots, &wanted, old).map_err(|reason| self.broken(&reason))?;
        let parameters = PostParams::default();
        let written = match old {
            None => self.secrets.create(&parameters, &secret).await,
            Some(_) => self.secrets.replace(self.names.roots, &parameters, &secret).await,
        };
        if won(written.map(drop))? {
            tracing::info!(roots = wanted.len(), "the CA's Secret was written");
        }
        Ok(())
    }

    /// Takes the roots into use and tells agents whom to trust.
    async fn hold(&self, open: Vec<Root>, at: OffsetDateTime) -> Result<(), ClusterError> {
        let bundle = roots::bundle(&open, at, self.rules.longest);
        // First told, then used.
        let told = self.tell(&bundle).await;
        self.held.0.store(Some(Arc::new(Seen { roots: Arc::new(open), at })));
        told
    }

    async fn tell(&self, bundle: &str) -> Result<(), ClusterError> {
        let old = self.maps.get_opt(self.names.bundle).await?;
        let Some(map) = objects::bundle(self.names.bundle, bundle, old.as_ref()) else { return Ok(()) };
        let parameters = PostParams::default();
        let written = match old {
            None => self.maps.create(&parameters, &map).await,
            Some(_) => self.maps.replace(self.names.bundle, &parameters, &map).await,
        };
        if won(written.map(drop))? {
            tracing::info!(config_map = self.names.bundle, "the trust bundle was written");
        }
        Ok(())
    }

    fn broken(&self, reason: &str) -> ClusterError {
        ClusterError::Secret(self.names.roots.to_owned(), reason.to_owned())
    }
}

/// Whether a write went through; another writer who was faster is no error, and the next look sees what it wrote.
fn won(written: Result<(), kube::Error>) -> Result<bool, kube::Error> {
    match written {
        Ok(()) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}
