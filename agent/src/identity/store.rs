//! The certificates of this node, as the data path sees them: a cheap look-up per connection, and a wait for the first one.
//!
//! Keys exist only in here. A certificate that is over is never given out, whatever state the CA is in.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{Notify, mpsc, watch};

use super::{
    issuing::{Command, Issuer},
    source::CertificateSource,
    status::{CertificateState, CertificateStatus},
};
use crate::{
    snapshot::spiffe::SpiffeId,
    tls::{Clock, Revocations, TlsIdentity, Trust},
};

/// How the store asks for certificates.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The validity that is asked for; the CA may give less.
    pub validity: Duration,
    /// Requests at once; a quarter of them is kept free for what a connection waits for.
    pub concurrency: usize,
    /// A request that takes longer has failed.
    pub request_timeout: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            validity: Duration::from_secs(24 * 3600),
            concurrency: 8,
            request_timeout: Duration::from_secs(10),
        }
    }
}

/// Why there is no certificate to connect with.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IdentityError {
    /// The CA refused; the reason is its own.
    #[error("no certificate for {identity}: {reason}")]
    Refused {
        /// Whose certificate was asked for.
        identity: SpiffeId,
        /// What the CA said.
        reason: String,
    },
    /// The agent is stopping.
    #[error("no certificate for {0}: the certificate store has stopped")]
    Stopped(SpiffeId),
}

/// What happened to the requests of one identity so far. Times in milliseconds since the Unix epoch.
#[derive(Debug, Default, Clone)]
pub(crate) struct Progress {
    pub(crate) next: Option<u64>,
    pub(crate) last_error: Option<String>,
    pub(crate) refusals: u64,
    pub(crate) issued: u64,
    pub(crate) failed: u64,
}

/// One identity's place in the store.
#[derive(Default)]
pub(crate) struct Slot {
    identity: ArcSwapOption<TlsIdentity>,
    progress: Mutex<Progress>,
    changed: Notify,
    waiting: AtomicUsize,
}

impl Slot {
    /// The certificate, also if it is over.
    pub(crate) fn held(&self) -> Option<Arc<TlsIdentity>> {
        self.identity.load_full()
    }

    /// Publishes a certificate to the data path.
    pub(crate) fn hold(&self, identity: TlsIdentity) {
        self.identity.store(Some(Arc::new(identity)));
    }

    /// Notes what happened and wakes those who wait.
    pub(crate) fn note(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.progress.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_waiters();
    }

    /// Whether a connection waits for it.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    fn progress(&self) -> Progress {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn usable(&self) -> Option<Arc<TlsIdentity>> {
        self.identity.load_full().filter(|identity| identity.is_valid())
    }
}

pub(crate) type Slots = ArcSwap<HashMap<SpiffeId, Arc<Slot>>>;

/// The store; clones share it. The issuing task ends when the last clone is dropped.
#[derive(Clone)]
pub struct IdentityStore {
    slots: Arc<Slots>,
    commands: mpsc::UnboundedSender<Command>,
    trust: watch::Sender<Arc<Trust>>,
}

impl IdentityStore {
    /// Starts the issuing task on the runtime it is called in (the control runtime).
    pub fn start(options: StoreOptions, source: Arc<dyn CertificateSource>, clock: Clock) -> Self {
        let slots = Arc::new(Slots::default());
        let (commands, receiver) = mpsc::unbounded_channel();
        let trust = watch::Sender::<Arc<Trust>>::default();
        tokio::spawn(Issuer::new(slots.clone(), source, options, clock, trust.clone()).run(receiver));
        Self { slots, commands, trust }
    }

    /// The certificate to use now; `None` while there is none, or only one that is over. Any thread, no waiting.
    #[must_use]
    pub fn current(&self, id: &SpiffeId) -> Option<Arc<TlsIdentity>> {
        self.slots.load().get(id)?.usable()
    }

    /// Waits for a certificate, ahead of those that are only prefetched; the caller bounds the wait.
    ///
    /// Fails at once when the CA refuses; waits on while it is away.
    pub async fn ready(&self, id: &SpiffeId) -> Result<Arc<TlsIdentity>, IdentityError> {
        if let Some(identity) = self.current(id) {
            return Ok(identity);
        }
        let slot = self.slot(id);
        let refusals = slot.progress().refusals;
        let _waiter = Waiter::new(self, id, slot.clone());
        loop {
            let mut changed = std::pin::pin!(slot.changed.notified());
            // Registered before looking, so that a change in between is not missed.
            changed.as_mut().enable();
            if let Some(identity) = slot.usable() {
                return Ok(identity);
            }
            let progress = slot.progress();
            if progress.refusals > refusals {
                let reason = progress.last_error.unwrap_or_default();
                return Err(IdentityError::Refused { identity: id.clone(), reason });
            }
            if self.commands.is_closed() {
                return Err(IdentityError::Stopped(id.clone()));
            }
            changed.await;
        }
    }

    /// Prefetches and renews exactly these; forgets the others (their keys with them) unless a connection waits for one.
    #[allow(clippy::needless_pass_by_value)]
    pub fn keep(&self, wanted: HashSet<SpiffeId>) {
        self.slots.rcu(|slots| {
            let mut slots: HashMap<_, _> = (**slots).clone();
            slots.retain(|id, slot| wanted.contains(id) || slot.is_waited_for());
            for id in &wanted {
                slots.entry(id.clone()).or_default();
            }
            slots
        });
        let _ = self.commands.send(Command::Follow);
    }

    /// What peers are judged by, also after their handshake; it changes with the roots and with what is revoked.
    #[must_use]
    pub fn trust(&self) -> watch::Receiver<Arc<Trust>> {
        self.trust.subscribe()
    }

    /// From now on these are revoked, and no others.
    pub fn revoke(&self, revoked: Revocations) {
        self.trust.send_modify(|trust| *trust = Arc::new(Trust { revoked, ..Trust::clone(trust) }));
    }

    /// Asks the CA for the roots of now instead of at the next renewal.
    pub fn refresh(&self) {
        let _ = self.commands.send(Command::Refresh);
    }

    /// All certificates, sorted by identity.
    #[must_use]
    pub fn list(&self) -> Vec<CertificateStatus> {
        let slots = self.slots.load();
        let mut list: Vec<_> = slots.iter().map(|(id, slot)| status(id, slot)).collect();
        list.sort_by(|one, other| one.identity.cmp(&other.identity));
        list
    }

    /// Why the last request for `id` failed, for the record of a connection that waited too long.
    #[must_use]
    pub fn last_error(&self, id: &SpiffeId) -> Option<String> {
        self.slots.load().get(id)?.progress().last_error
    }

    fn slot(&self, id: &SpiffeId) -> Arc<Slot> {
        if let Some(slot) = self.slots.load().get(id) {
            return slot.clone();
        }
        let new = Arc::new(Slot::default());
        self.slots.rcu(|slots| {
            let mut slots: HashMap<_, _> = (**slots).clone();
            slots.entry(id.clone()).or_insert_with(|| new.clone());
            slots
        });
        self.slots.load().get(id).cloned().unwrap_or(new)
    }
}

/// Counts a connection that waits; the first demands the certificate, the last one to leave takes the demand back.
struct Waiter<'a> {
    store: &'a IdentityStore,
    id: &'a SpiffeId,
    slot: Arc<Slot>,
}

impl<'a> Waiter<'a> {
    fn new(store: &'a IdentityStore, id: &'a SpiffeId, slot: Arc<Slot>) -> Self {
        if slot.waiting.fetch_add(1, Ordering::AcqRel) == 0 {
            let _ = store.commands.send(Command::Demand(id.clone(), slot.clone()));
        }
        Self { store, id, slot }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if self.slot.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
            let _ = self.store.commands.send(Command::Relax(self.id.clone()));
        }
    }
}

fn status(id: &SpiffeId, slot: &Slot) -> CertificateStatus {
    let (progress, held) = (slot.progress(), slot.held());
    let state = match &held {
        None => CertificateState::Waiting,
        Some(identity) if !identity.is_valid() => CertificateState::Expired,
        Some(_) if progress.last_error.is_some() => CertificateState::RenewalFailing,
        Some(_) => CertificateState::Valid,
    };
    let date = |date: time::OffsetDateTime| date.format(&time::format_description::well_known::Rfc3339).ok();
    let next = progress.next.and_then(|at| i64::try_from(at / 1000).ok());
    CertificateStatus {
        identity: id.to_string(),
        state,
        serial: held.as_ref().map(|identity| identity.serial.to_string()),
        not_before: held.as_ref().and_then(|identity| date(identity.not_before)),
        not_after: held.as_ref().and_then(|identity| date(identity.not_after)),
        renew_at: next.and_then(|at| date(time::OffsetDateTime::from_unix_timestamp(at).ok()?)),
        last_error: progress.last_error,
        issued_total: progress.issued,
        failed_total: progress.failed,
    }
}
