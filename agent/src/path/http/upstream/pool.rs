//! Connections of a worker to endpoints: for each calling pod and endpoint, idle HTTP/1.1 connections, the one used last on top, and
//! shared HTTP/2 connections.
//!
//! One task watches all idle ones: whatever is closed or spoken to unasked is dropped at once. A connection in use has its
//! own task's waker, so the watcher is woken by idle ones only.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    net::SocketAddr,
    rc::{Rc, Weak},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::{Caller, SendError, http2::Lanes, link};
use crate::{
    http1::{Reader, Writer},
    observe::{Security, SocketWatch},
    path::{
        connect::Journey,
        http::io::{WireSink, WireSource},
    },
    resilience::limits,
    snapshot::{Endpoint, Map, ServicePort, ServiceState, Shared, SpiffeId, policy::KeepAlive},
    tunnel::reference::Carrier,
};

/// A request that must not be sent twice takes only a connection that was used so recently, nanoseconds: the older one is, the
/// more likely it is that the server is about to close it.
const RECENT_NS: u64 = 1_000_000_000;
/// An older connection is not pooled again, nanoseconds: new certificates and new paths shall be taken up.
pub(super) const LONGEST_NS: u64 = 600 * 1_000_000_000;

/// What connections must have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    /// The cookie of the calling pod's namespace.
    pod: u64,
    address: SocketAddr,
    /// The pod that is reached by tunnel, and whether it is known to be captured: another one may come to the same address, and what
    /// was opened to one before it was captured is of no more use then.
    tunnelled: Option<(Arc<str>, bool)>,
}

/// All connections of a worker. Cheap to clone.
#[derive(Clone, Default)]
pub struct Upstream(Rc<Inner>);

#[derive(Default)]
struct Inner {
    places: RefCell<Map<Key, Rc<Place>>>,
    /// Wakes the watcher; none before the first connection is idle.
    watcher: RefCell<Option<Waker>>,
    watched: Cell<bool>,
    draining: Cell<bool>,
}

/// The connections from one pod to one endpoint.
pub(super) struct Place {
    idle: RefCell<Vec<Connection>>,
    pub(super) lanes: Lanes,
    closed: Cell<bool>,
    owner: Weak<Inner>,
}

/// An HTTP/1.1 connection between two requests.
pub(super) struct Connection {
    pub(super) reader: Reader<WireSource>,
    pub(super) writer: Writer<WireSink>,
    pub(super) about: About,
}

/// What is known about a connection.
#[derive(Clone, Debug)]
pub(super) struct About {
    pub(super) made_ns: u64,
    /// When its last request was answered.
    pub(super) used_ns: u64,
    pub(super) requests: u32,
    pub(super) keep: KeepAlive,
    pub(super) security: Security,
    pub(super) peer: Option<SpiffeId>,
    /// Its socket, or that of its tunnel. Behind a pointer, since a request's future has it several times.
    pub(super) watch: Option<Rc<SocketWatch>>,
    /// The tunnel below.
    pub(super) carrier: Option<Carrier>,
    /// Counts on the connections of the service that used it last.
    pub(super) permit: Rc<limits::Permit>,
}

impl About {
    /// Whether the tunnel below takes nothing new, so that its end is near.
    fn is_carried_away(&self) -> bool {
        self.carrier.as_ref().is_some_and(Carrier::is_leaving)
    }

    /// From now on it is used for this service, whichever it was opened for: endpoints may be behind several.
    ///
    /// # Errors
    /// The service has all connections that it may have.
    pub(super) fn adopt(&mut self, upstream: &Upstream, port: &ServicePort) -> Result<(), SendError> {
        self.keep = port.policy.keep_alive;
        if !self.permit.is_of(&port.state) {
            self.permit = Rc::new(link::permit(upstream, port)?);
        }
        Ok(())
    }
}

impl Upstream {
    /// The connections from the caller's pod to an endpoint.
    pub(super) fn place(&self, caller: &Caller<'_>, endpoint: &Endpoint) -> Rc<Place> {
        let workload = endpoint.workload.as_ref();
        let tunnelled = workload.filter(|_| Journey::wants_tunnel(caller.here, workload));
        let key = Key {
            pod: caller.pod.namespace.cookie(),
            address: endpoint.address,
            tunnelled: tunnelled.map(|pod| (Arc::clone(&pod.uid), pod.captured)),
        };
        let mut places = self.0.places.borrow_mut();
        Rc::clone(places.entry(key).or_insert_with(|| Rc::new(Place::new(&self.0))))
    }

    /// Closes what was idle for too long, and forgets endpoints to which there is nothing.
    pub fn tidy(&self, now_ns: u64) {
        let mut dropped = Vec::new();
        self.0.places.borrow_mut().retain(|_, place| {
            dropped.extend(place.idle.borrow_mut().extract_if(.., |connection| connection.is_stale(now_ns)));
            place.lanes.tidy(now_ns);
            let unused = place.idle.borrow().is_empty() && place.lanes.is_unused();
            !(unused && Rc::strong_count(place) == 1)
        });
    }

    /// A pod has left: its idle connections are closed, and none is kept any more.
    pub fn forget(&self, pod: u64) {
        self.forget_where(|key| key.pod == pod);
    }

    /// Closes idle connections and keeps none any more; requests under way go on.
    pub fn drain(&self) {
        self.0.draining.set(true);
        self.forget_where(|_| true);
    }

    /// Closes one idle connection that counts on this service, whoever it was for; whether there was one.
    pub(super) fn close_idle(&self, of: &Shared<ServiceState>) -> bool {
        let oldest = |place: &Rc<Place>| {
            let mut idle = place.idle.borrow_mut();
            let found = idle.iter().position(|connection| connection.about.permit.is_of(of))?;
            Some(idle.remove(found))
        };
        let closed = self.0.places.borrow().values().find_map(oldest);
        // A peer that has gone needs no end.
        closed.map(|mut connection| connection.writer.finish()).is_some()
    }

    fn forget_where(&self, matches: impl Fn(&Key) -> bool) {
        let forgotten: Vec<_> = self.0.places.borrow_mut().extract_if(|key, _| matches(key)).collect();
        for (_, place) in forgotten {
            place.close();
        }
    }
}

impl Inner {
    /// Lets the watcher know of a connection that became idle; whether it still stands.
    fn watch(self: &Rc<Self>, connection: &mut Connection) -> bool {
        if let Some(waker) = &*self.watcher.borrow() {
            return connection.reader.poll_idle(&mut Context::from_waker(waker)).is_pending();
        }
        // The watcher looks at all of them when it starts.
        if !self.watched.replace(true) {
            tokio::task::spawn_local(watch(Rc::downgrade(self)));
        }
        true
    }

    /// Drops connections that were closed or spoken to.
    fn sweep(&self, context: &mut Context<'_>) {
        for place in self.places.borrow().values() {
            place
                .idle
                .borrow_mut()
                .retain_mut(|connection| connection.reader.poll_idle(context).is_pending());
        }
    }
}

async fn watch(inner: Weak<Inner>) {
    poll_fn(|context| {
        let Some(inner) = inner.upgrade() else { return Poll::Ready(()) };
        let known = inner.watcher.borrow().as_ref().is_some_and(|waker| waker.will_wake(context.waker()));
        if !known {
            inner.watcher.replace(Some(context.waker().clone()));
        }
        inner.sweep(context);
        Poll::Pending
    })
    .await;
}

impl Place {
    fn new(owner: &Rc<Inner>) -> Self {
        Self {
            idle: RefCell::default(),
            lanes: Lanes::default(),
            closed: Cell::new(owner.draining.get()),
            owner: Rc::downgrade(owner),
        }
    }

    /// A connection that stands, as far as can be seen. One that is closed, or on which the server spoke unasked, is dropped.
    pub(super) fn take(
        &self,
        recent_only: bool,
        now_ns: u64,
        context: &mut Context<'_>,
    ) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(mut connection) = idle.pop() {
            if connection.is_old(now_ns) {
                // Those below are older still.
                idle.clear();
                return None;
            }
            if connection.about.is_carried_away() {
                // A peer that has gone needs no end.
                let _ = connection.writer.finish();
                continue;
            }
            if connection.reader.poll_idle(context).is_ready() {
                continue;
            }
            if recent_only && now_ns.saturating_sub(connection.about.used_ns) >= RECENT_NS {
                idle.push(connection);
                return None;
            }
            return Some(connection);
        }
        None
    }

    /// Keeps a connection for the next request, if the policy wants that.
    pub(super) fn keep(&self, mut connection: Connection, now_ns: u64) {
        let Some(owner) = self.owner.upgrade() else { return };
        let about = &mut connection.about;
        about.used_ns = now_ns;
        about.requests = about.requests.saturating_add(1);
        let room = self.idle.borrow().len() < about.keep.idle_connections as usize;
        let worn = about.keep.requests > 0 && about.requests >= about.keep.requests;
        let old = now_ns.saturating_sub(about.made_ns) >= LONGEST_NS;
        if self.closed.get()
            || !room
            || worn
            || old
            || about.is_carried_away()
            || !owner.watch(&mut connection)
        {
            // A peer that has gone needs no end.
            let _ = connection.writer.finish();
            return;
        }
        self.idle.borrow_mut().push(connection);
    }

    fn close(&self) {
        self.closed.set(true);
        self.lanes.close();
        for mut connection in self.idle.take() {
            let _ = connection.writer.finish();
        }
    }

    /// Whether nothing is kept any more.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
    }
}

impl Connection {
    fn is_stale(&self, now_ns: u64) -> bool {
        self.is_old(now_ns) || self.about.is_carried_away()
    }

    fn is_old(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.about.used_ns) >= self.about.keep.idle_ns
    }
}

#[cfg(test)]
mod tests;
