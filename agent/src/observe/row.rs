//! What one connection costs while it lives: one row, shared by the worker that fills it and the threads that read it. Names
//! are shared with the snapshot, so that a row holds no text of its own.

use super::{
    CloseReason, Direction, Security, Stage, locked, monotonic_ns,
    series::Series,
    socket::{SocketPair, Sockets},
    stage::Stages,
};
use crate::snapshot::{Protocol, ServicePort, SpiffeId, Workload, protocol::Why};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

/// The service that a connection was meant for; its names are the snapshot's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceName {
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `metadata.namespace`.
    pub namespace: Arc<str>,
    /// `<name>.<namespace>.svc.<cluster domain>`.
    pub hostname: Arc<str>,
}

impl ServiceName {
    /// Whether people mean it by `name`, `name.namespace` or the whole host name.
    #[must_use]
    pub fn is(&self, wanted: &str) -> bool {
        *self.name == *wanted
            || *self.hostname == *wanted
            || wanted.split_once('.') == Some((&*self.name, &*self.namespace))
    }
}

impl From<&ServicePort> for ServiceName {
    fn from(port: &ServicePort) -> Self {
        Self {
            name: port.service_name.clone(),
            namespace: port.service_namespace.clone(),
            hostname: port.hostname.clone(),
        }
    }
}

/// One connection, live or recently closed.
#[derive(Debug)]
pub struct Row {
    pub(crate) id: u64,
    pub(crate) direction: Direction,
    pub(crate) client: SocketAddr,
    pub(crate) pod: Arc<Workload>,
    pub(crate) captured_ns: u64,
    sent: AtomicU64,
    received: AtomicU64,
    pub(crate) stages: Stages,
    progress: Mutex<Progress>,
}

/// What becomes known stage by stage.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) destination: Option<SocketAddr>,
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) service: Option<ServiceName>,
    pub(crate) peer: Option<Arc<Workload>>,
    pub(crate) peer_identity: Option<SpiffeId>,
    pub(crate) series: Option<Arc<Series>>,
    pub(crate) sockets: Sockets,
    pub(crate) ending: Option<Box<Ending>>,
    /// Agent time; 0 while the other side has not been reached.
    pub(crate) connected_ns: u64,
    counted_sent: u64,
    counted_received: u64,
    /// What the sockets said when they were released.
    last_words: Option<Box<SocketPair>>,
    pub(crate) security: Security,
    pub(crate) attempts: u16,
    /// What it speaks; nobody asked where it is no port of a service.
    pub(crate) protocol: Protocol,
    pub(crate) why: Why,
    /// Of the application's own TLS. Boxed twice, because it is rare and a row is not.
    pub(crate) server_name: Option<Box<Box<str>>>,
    /// What policies said of it, or of one of its requests.
    pub(crate) policy: Option<Box<Said>>,
}

/// What a policy said.
#[derive(Debug)]
pub(crate) struct Said {
    /// The policy that decided its end, or would have.
    pub(crate) reason: Box<str>,
    /// In the words of Istio, where it denied.
    pub(crate) details: Option<Box<str>>,
}

/// How it ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    pub(crate) reason: CloseReason,
    pub(crate) closed_ns: u64,
}

impl Row {
    pub(crate) fn new(
        id: u64,
        direction: Direction,
        client: SocketAddr,
        pod: Arc<Workload>,
        captured_ns: u64,
    ) -> Self {
        Self {
            id,
            direction,
            client,
            pod,
            captured_ns,
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            stages: Stages::default(),
            progress: Mutex::default(),
        }
    }

    pub(crate) fn add_sent(&self, bytes: u64) {
        if self.sent.fetch_add(bytes, Ordering::Relaxed) == 0 && bytes > 0 {
            self.reach(Stage::Answer);
        }
    }

    pub(crate) fn add_received(&self, bytes: u64) {
        if self.received.fetch_add(bytes, Ordering::Relaxed) == 0 && bytes > 0 {
            self.reach(Stage::Request);
        }
    }

    /// The connection reaches a stage now, unless it did before.
    pub(crate) fn reach(&self, stage: Stage) {
        if !self.stages.has(stage) {
            self.reach_at(stage, monotonic_ns());
        }
    }

    pub(crate) fn reach_at(&self, stage: Stage, at_ns: u64) {
        self.stages.reach(stage, at_ns.saturating_sub(self.captured_ns));
    }

    /// Bytes from the server to the client, and from the client to the server.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.received.load(Ordering::Relaxed))
    }

    pub(crate) fn progress(&self) -> MutexGuard<'_, Progress> {
        locked(&self.progress)
    }

    /// Moves the bytes since the last time into the series, once, whoever asks.
    pub(crate) fn count_bytes(&self, progress: &mut Progress) {
        let Some(series) = &progress.series else { return };
        let (sent, received) = self.bytes();
        series.add_bytes(
            sent.wrapping_sub(progress.counted_sent),
            received.wrapping_sub(progress.counted_received),
        );
        progress.counted_sent = sent;
        progress.counted_received = received;
    }
}

impl Progress {
    /// What it speaks and how that is known, once something is.
    pub(crate) fn spoken(&self) -> Option<(Protocol, Why)> {
        (self.protocol != Protocol::Detect).then_some((self.protocol, self.why))
    }

    /// What the sockets say, or said when they were released.
    pub(crate) fn socket_pair(&self) -> SocketPair {
        let live = self.sockets.read();
        let last = self.last_words.as_deref().copied().unwrap_or_default();
        SocketPair {
            application: live.application.or(last.application),
            network: live.network.or(last.network),
        }
    }

    /// Reads the sockets for the last time and forgets them.
    pub(crate) fn release_sockets(&mut self) {
        let pair = self.socket_pair();
        self.sockets = Sockets::default();
        self.last_words = (pair != SocketPair::default()).then(|| Box::new(pair));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_with_its_reference_counts_stays_small() {
        let whole = size_of::<Row>() + 2 * size_of::<usize>();
        assert!(whole <= 432, "{whole} bytes");
    }
}
