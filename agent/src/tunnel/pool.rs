//! Which tunnel carries a new connection: one pool per worker thread, no locks, never borrowed across an await.
//!
//! For each key at most one dial is under way, in a task of its own, so that a caller who leaves does not take the others'
//! dial along; everyone who waits shares its outcome.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::{Accepted, ConnectRequest, OpenError, Tunnel};
use crate::{
    observe::TunnelSocket,
    snapshot::{Map, spiffe::SpiffeId},
};

/// How often a caller starts over because others took all room of the tunnel that it waited for.
const ROUNDS: usize = 64;

/// What connections must have in common to share a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The cookie of the network namespace in which the socket lives.
    pub pod: u64,
    /// Where the peer's agent listens: the pod's address and port 15008.
    pub peer: SocketAddr,
    /// Our identity.
    pub identity: SpiffeId,
    /// The serial of our certificate: with a new one come new tunnels.
    pub serial: Arc<str>,
    /// The identity that the peer must prove.
    pub expected: SpiffeId,
}

/// A stream whose answer came.
pub struct Opened<T: Tunnel> {
    /// To the peer.
    pub send: T::Send,
    /// From the peer.
    pub receive: T::Receive,
    /// The `baggage` of the answer.
    pub baggage: Option<String>,
    /// From the request to the answer: how long the peer's application took to accept. The tunnel stood already.
    pub waited: Duration,
    /// A second descriptor of the tunnel's socket, shared by all its streams, for `tcp_info`.
    pub socket: Option<Arc<TunnelSocket>>,
}

/// A stream whose request is sent.
pub struct Begun<T: Tunnel> {
    /// To the peer, usable at once.
    pub send: T::Send,
    /// The peer's answer.
    pub answer: T::Answer,
    /// The tunnel that carries it.
    pub tunnel: T,
}

/// The pool of one worker. Cheap to clone.
pub struct Pool<T>(Rc<Inner<T>>);

struct Inner<T> {
    peers: RefCell<Map<Key, Peer<T>>>,
    draining: Cell<bool>,
}

struct Peer<T> {
    tunnels: Vec<T>,
    dial: Option<Rc<Dial>>,
}

/// A dial under way.
#[derive(Default)]
struct Dial {
    outcome: RefCell<Option<Result<(), OpenError>>>,
    done: Notify,
}

impl<T> Clone for Pool<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Tunnel> Default for Pool<T> {
    fn default() -> Self {
        Self(Rc::new(Inner { peers: RefCell::default(), draining: Cell::new(false) }))
    }
}

impl<T: Tunnel> Pool<T> {
    /// Opens a stream and waits for the answer. Because nothing of an application was sent, a request that met a dying
    /// tunnel is sent once more on a fresh one. `dial` makes a new tunnel (see `reference::connect`) and is called only when
    /// none has room.
    ///
    /// # Errors
    /// Each step of dialling, the peer's refusal, or the pool is draining.
    pub async fn open<D, F>(
        &self,
        key: &Key,
        request: &ConnectRequest,
        dial: D,
    ) -> Result<Opened<T>, OpenError>
    where
        D: Fn() -> F,
        F: Future<Output = Result<T, OpenError>> + 'static,
    {
        let begun = self.begin(key, request, &dial).await?;
        let tunnel = begun.tunnel.clone();
        match finish(begun).await {
            Err(error) if error.wants_fresh_tunnel() => {
                tunnel.drain();
                finish(self.begin(key, request, &dial).await?).await
            }
            other => other,
        }
    }

    /// Sends the request and does not wait for the answer: the caller may send bytes at once, and must hold them until
    /// the answer if it means to retry.
    ///
    /// # Errors
    /// Each step of dialling, or the pool is draining.
    pub async fn begin<D, F>(
        &self,
        key: &Key,
        request: &ConnectRequest,
        dial: D,
    ) -> Result<Begun<T>, OpenError>
    where
        D: Fn() -> F,
        F: Future<Output = Result<T, OpenError>> + 'static,
    {
        for _ in 0..ROUNDS {
            if self.0.draining.get() {
                return Err(OpenError::Draining);
            }
            let Some(tunnel) = self.pick(key) else {
                self.join_dial(key, &dial).wait().await?;
                continue;
            };
            match tunnel.start(request) {
                Err(error) if error.wants_fresh_tunnel() => {}
                Err(error) => return Err(error),
                Ok((send, answer)) => return Ok(Begun { send, answer, tunnel }),
            }
        }
        Err(OpenError::NotProcessed)
    }

    /// The first tunnel with room: streams stay together, so that their bytes share segments.
    fn pick(&self, key: &Key) -> Option<T> {
        let mut peers = self.0.peers.borrow_mut();
        let peer = peers.get_mut(key)?;
        peer.tunnels.retain(|tunnel| !tunnel.is_leaving());
        peer.tunnels.iter().find(|tunnel| tunnel.has_room()).cloned()
    }

    fn join_dial<D, F>(&self, key: &Key, dial: D) -> Rc<Dial>
    where
        D: Fn() -> F,
        F: Future<Output = Result<T, OpenError>> + 'static,
    {
        let mut peers = self.0.peers.borrow_mut();
        let peer = peers.entry(key.clone()).or_insert_with(|| Peer { tunnels: Vec::new(), dial: None });
        if let Some(running) = &peer.dial {
            return running.clone();
        }
        let running = Rc::new(Dial::default());
        peer.dial = Some(running.clone());
        drop(peers);
        tokio::task::spawn_local(self.clone().run_dial(key.clone(), dial(), Ending(running.clone())));
        running
    }

    async fn run_dial(self, key: Key, dial: impl Future<Output = Result<T, OpenError>>, running: Ending) {
        let dialled = dial.await;
        let Some(closed) = self.settle(&key, &running, dialled) else { return };
        drop(running);
        closed.await;
        self.prune(&key);
    }

    /// Puts the tunnel into the pool and tells those who wait. `None`: there is nothing to watch.
    fn settle(
        &self,
        key: &Key,
        running: &Ending,
        dialled: Result<T, OpenError>,
    ) -> Option<impl Future<Output = super::TunnelEnd> + 'static + use<T>> {
        let mut peers = self.0.peers.borrow_mut();
        // Forgotten meanwhile, perhaps asked for again: then this dial is nobody's.
        let ours = |peer: &&mut Peer<T>| peer.dial.as_ref().is_some_and(|dial| Rc::ptr_eq(dial, &running.0));
        let peer = peers.get_mut(key).filter(ours);
        let outcome = match (dialled, peer) {
            (Ok(tunnel), Some(peer)) => {
                peer.dial = None;
                let closed = tunnel.closed();
                peer.tunnels.push(tunnel);
                running.0.end(Ok(()));
                return Some(closed);
            }
            (Ok(tunnel), None) => {
                tunnel.drain();
                Err(OpenError::Draining)
            }
            (Err(error), Some(peer)) => {
                peer.dial = None;
                Err(error)
            }
            (Err(error), None) => Err(error),
        };
        drop(peers);
        self.prune(key);
        running.0.end(outcome);
        None
    }

    /// Drops tunnels that are gone, and the key with its last one.
    fn prune(&self, key: &Key) {
        let mut peers = self.0.peers.borrow_mut();
        let Some(peer) = peers.get_mut(key) else { return };
        peer.tunnels.retain(|tunnel| !tunnel.is_leaving());
        if peer.tunnels.is_empty() && peer.dial.is_none() {
            peers.remove(key);
        }
    }

    /// A pod has left: its tunnels take no more streams and close after the last.
    pub fn forget(&self, pod: u64) {
        self.forget_where(|key| key.pod == pod);
    }

    /// A certificate was replaced: tunnels made with others than `serial` take no more streams and close after the last.
    pub fn forget_identity(&self, identity: &SpiffeId, serial: &str) {
        self.forget_where(|key| key.identity == *identity && *key.serial != *serial);
    }

    /// Takes no new streams; tunnels close after their last.
    pub fn drain(&self) {
        self.0.draining.set(true);
        self.forget_where(|_| true);
    }

    fn forget_where(&self, matches: impl Fn(&Key) -> bool) {
        let forgotten: Vec<_> = self.0.peers.borrow_mut().extract_if(|key, _| matches(key)).collect();
        for tunnel in forgotten.iter().flat_map(|(_, peer)| &peer.tunnels) {
            tunnel.drain();
        }
    }

    /// Tunnels in the pool and the streams on them.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        let peers = self.0.peers.borrow();
        let tunnels = || peers.values().flat_map(|peer| &peer.tunnels);
        (tunnels().count(), tunnels().map(Tunnel::streams).sum())
    }
}

async fn finish<T: Tunnel>(begun: Begun<T>) -> Result<Opened<T>, OpenError> {
    let asked = Instant::now();
    let Accepted { receive, baggage } = begun.answer.await?;
    let waited = asked.elapsed();
    Ok(Opened { send: begun.send, receive, baggage, waited, socket: begun.tunnel.socket() })
}

impl Dial {
    async fn wait(&self) -> Result<(), OpenError> {
        loop {
            let done = self.done.notified();
            if let Some(outcome) = &*self.outcome.borrow() {
                return outcome.clone();
            }
            done.await;
        }
    }

    fn end(&self, outcome: Result<(), OpenError>) {
        self.outcome.borrow_mut().get_or_insert(outcome);
        self.done.notify_waiters();
    }
}

/// Ends a dial also when its task is dropped or panics: nobody waits for ever.
struct Ending(Rc<Dial>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end(Err(OpenError::Dial("the dial was abandoned".into())));
    }
}
