//! The one task that asks for certificates and publishes them: it does what `schedule` says, and draws time and jitter.

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures_util::stream::{FuturesUnordered, StreamExt};
use rustls::crypto::CryptoProvider;
use tokio::sync::{mpsc, watch};

use super::{
    answer::{self, AnswerError},
    renewal,
    request::sign_request,
    schedule::Schedule,
    source::{CertificateSource, IssueError},
    store::{Slot, Slots, StoreOptions},
};
use crate::{
    snapshot::spiffe::SpiffeId,
    tls::{BuildError, Bundle, Clock, Credentials, TlsIdentity, Trust, provider},
};

/// What the store tells the task.
pub(crate) enum Command {
    /// The set of slots has changed.
    Follow,
    /// A connection waits for this one.
    Demand(SpiffeId, Arc<Slot>),
    /// No connection waits for this one any more.
    Relax(SpiffeId),
    /// The roots may be others by now: any answer of the CA tells.
    Refresh,
}

/// The wall clock may be set while the task sleeps: look at least this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// A certificate that is (nearly) over when it comes is not asked for again sooner than this, in milliseconds.
const SHORTEST_RENEWAL: u64 = 1_000;

#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error("signing request: {0}")]
    Request(#[from] rcgen::Error),
    #[error("{0}")]
    Issue(#[from] IssueError),
    #[error("{0}")]
    Answer(#[from] AnswerError),
    #[error("TLS configuration: {0}")]
    Build(#[from] BuildError),
    #[error("the CA did not answer within {0:?}")]
    Timeout(Duration),
}

struct Done {
    id: SpiffeId,
    /// Order in which requests were started; a later one knows at least as new a bundle.
    order: u64,
    result: Result<(Credentials, Bundle), RequestError>,
}

type Request = Pin<Box<dyn Future<Output = Done> + Send>>;

/// State of the task.
pub(crate) struct Issuer {
    slots: Arc<Slots>,
    source: Arc<dyn CertificateSource>,
    options: StoreOptions,
    clock: Clock,
    provider: Arc<CryptoProvider>,
    schedule: Schedule,
    known: HashSet<SpiffeId>,
    /// The slots that connections wait at, also those that were forgotten meanwhile.
    waited: HashMap<SpiffeId, Arc<Slot>>,
    bundle: Option<(u64, Bundle)>,
    /// By which tunnels that stand are judged.
    trust: watch::Sender<Arc<Trust>>,
    started: u64,
}

impl Issuer {
    pub(crate) fn new(
        slots: Arc<Slots>,
        source: Arc<dyn CertificateSource>,
        options: StoreOptions,
        clock: Clock,
        trust: watch::Sender<Arc<Trust>>,
    ) -> Self {
        let schedule = Schedule::new(options.concurrency);
        let (provider, known, waited) = (provider(), HashSet::new(), HashMap::new());
        Self {
            slots,
            source,
            options,
            clock,
            provider,
            schedule,
            known,
            waited,
            bundle: None,
            trust,
            started: 0,
        }
    }

    /// Runs until the store is dropped.
    pub(crate) async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let mut requests = FuturesUnordered::new();
        loop {
            while let Some(id) = self.schedule.start(self.clock.millis()) {
                requests.push(self.request(id));
            }
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return,
                },
                Some(done) = requests.next() => self.settle(done),
                () = tokio::time::sleep(self.pause()) => {}
            }
        }
    }

    fn pause(&self) -> Duration {
        let wake = self.schedule.wake_at().map(|at| at.saturating_sub(self.clock.millis()));
        wake.map_or(LONGEST_SLEEP, |millis| Duration::from_millis(millis.max(1)).min(LONGEST_SLEEP))
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Follow => self.follow(),
            Command::Demand(id, slot) => {
                self.known.insert(id.clone());
                self.waited.insert(id.clone(), slot);
                self.schedule.demand(id, self.clock.millis());
            }
            Command::Refresh => {
                let now = self.clock.millis();
                self.known.iter().take(1).for_each(|id| self.schedule.hurry(id, now));
            }
            // Another connection may have come since.
            Command::Relax(id) => {
                if self.waited.get(&id).is_some_and(|slot| !slot.is_waited_for()) {
                    self.waited.remove(&id);
                    self.schedule.relax(&id);
                }
            }
        }
    }

    fn follow(&mut self) {
        let slots = self.slots.load();
        for gone in self.known.iter().filter(|id| !slots.contains_key(*id) && !self.waited.contains_key(*id))
        {
            self.schedule.forget(gone);
        }
        self.known = slots.keys().chain(self.waited.keys()).cloned().collect();
        for id in &self.known {
            self.schedule.want(id.clone());
        }
    }

    fn request(&mut self, id: SpiffeId) -> Request {
        self.started += 1;
        let order = self.started;
        let (source, clock, provider) = (self.source.clone(), self.clock.clone(), self.provider.clone());
        let (validity, timeout) = (self.options.validity, self.options.request_timeout);
        Box::pin(async move {
            let asked = ask(&*source, &id, validity, &clock, &provider);
            let result = tokio::time::timeout(timeout, asked).await;
            Done { id, order, result: result.unwrap_or(Err(RequestError::Timeout(timeout))) }
        })
    }

    fn settle(&mut self, done: Done) {
        let waited = self.waited.get(&done.id);
        let slot = self.slots.load().get(&done.id).or(waited).cloned().unwrap_or_default();
        let installed = done.result.and_then(|(credentials, bundle)| {
            self.follow_bundle(done.order, bundle);
            Ok(self.install(&slot, credentials)?)
        });
        match installed {
            Ok(renew_at) => self.schedule.issued(&done.id, renew_at),
            Err(error) => self.failed(&done.id, &slot, &error),
        }
    }

    fn install(&self, slot: &Slot, credentials: Credentials) -> Result<u64, BuildError> {
        let Some((_, bundle)) = &self.bundle else {
            return Err(BuildError::NoLeaf);
        };
        let identity = TlsIdentity::build(Arc::new(credentials), bundle, self.clock.clone())?;
        let millis = |date: time::OffsetDateTime| u64::try_from(date.unix_timestamp()).unwrap_or(0) * 1000;
        let jitter = fastrand::f64() * 2.0 - 1.0;
        let renew_at = renewal::renew_at(millis(identity.not_before), millis(identity.not_after), jitter)
            .max(self.clock.millis() + SHORTEST_RENEWAL);
        tracing::info!(identity = %identity.id, serial = %identity.serial, not_after = %identity.not_after, "certificate received");
        slot.hold(identity);
        slot.note(|progress| {
            progress.issued += 1;
            progress.last_error = None;
            progress.next = Some(renew_at);
        });
        Ok(renew_at)
    }

    fn failed(&mut self, id: &SpiffeId, slot: &Slot, error: &RequestError) {
        let next = self.schedule.failed(id, self.clock.millis(), fastrand::f64() * 2.0 - 1.0);
        tracing::warn!(identity = %id, %error, "no certificate");
        slot.note(|progress| {
            progress.failed += 1;
            progress.last_error = Some(error.to_string());
            progress.next = next;
            progress.refusals += u64::from(matches!(error, RequestError::Issue(IssueError::Refused(_))));
        });
    }

    /// Takes over a newer trust bundle and rebuilds what was built with the old one.
    fn follow_bundle(&mut self, order: u64, bundle: Bundle) {
        if let Some((newest, known)) = &mut self.bundle {
            if order < *newest {
                return;
            }
            *newest = order;
            if *known == bundle {
                return;
            }
            tracing::info!(roots = bundle.certificates().len(), "trust bundle changed");
        }
        for slot in self.slots.load().values() {
            let Some(held) = slot.held() else { continue };
            match TlsIdentity::build(held.credentials.clone(), &bundle, self.clock.clone()) {
                Ok(identity) => slot.hold(identity),
                Err(error) => {
                    tracing::error!(identity = %held.id, %error, "cannot take over the trust bundle")
                }
            }
            // Who trusts these roots does not trust a certificate of a root that is gone.
            if bundle.verify(held.credentials.chain(), self.clock.unix(), &self.provider).is_err() {
                self.schedule.hurry(&held.id, self.clock.millis());
            }
        }
        self.trust.send_modify(|trust| {
            *trust = Arc::new(Trust { roots: Some(bundle.clone()), ..Trust::clone(trust) });
        });
        self.bundle = Some((order, bundle));
    }
}

async fn ask(
    source: &dyn CertificateSource,
    id: &SpiffeId,
    validity: Duration,
    clock: &Clock,
    provider: &CryptoProvider,
) -> Result<(Credentials, Bundle), RequestError> {
    let request = sign_request(id)?;
    let issued = source.issue(id, &request.pem, validity).await?;
    Ok(answer::read(id, request.key, &issued.cert_chain, clock.unix(), provider)?)
}
