//! The thread of a worker: its runtime, its commands, its accept loops.

use std::{
    cell::RefCell,
    collections::HashMap,
    io,
    net::{SocketAddr, TcpListener},
    pin::pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::net::SocketFlags;
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc,
    task::LocalSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::{PodHere, Shared, TunnelGauge, Worker};
use crate::{
    netns::{Namespace, WorkerListeners},
    observe::{CloseReason, monotonic_ns},
    path::{accept, socket::Socket},
    snapshot::Snapshot,
};

/// How often a worker says that it is alive.
const PULSE: Duration = Duration::from_millis(250);
/// How often what nobody needs any more is given back.
const TIDY: Duration = Duration::from_secs(10);
/// How often connections that are to end are counted.
const COUNT: Duration = Duration::from_millis(20);
/// Connections that are taken at most when a listener is about to close; more than may wait.
const LAST: usize = 8192;
/// Pause after `accept` failed for want of descriptors or memory.
const OUT_OF_RESOURCES: Duration = Duration::from_millis(50);

/// What the agent tells a worker.
#[derive(Debug)]
pub enum Command {
    /// A pod was enrolled.
    Enrol {
        /// Key in the snapshot.
        uid: Arc<str>,
        /// Its namespace.
        namespace: Arc<Namespace>,
        /// This worker's listeners in it.
        listeners: WorkerListeners,
    },
    /// A pod is no longer captured.
    Release {
        /// Cookie of its namespace.
        cookie: u64,
        /// Its connections go on, and this is kept for as long as there are any; none where the pod itself has gone, which ends them.
        held: Option<Arc<()>>,
    },
    /// A snapshot was published: callers may have lost their right.
    DecideAgain,
    /// Accept no more, let connections end until the deadline, stop.
    Stop {
        /// How long to wait.
        drain: Duration,
    },
}

/// The agent's end of a worker.
pub struct WorkerHandle {
    commands: mpsc::UnboundedSender<Command>,
    alive_ns: Arc<AtomicU64>,
    tunnels: Arc<TunnelGauge>,
    thread: JoinHandle<()>,
}

impl WorkerHandle {
    /// Starts the thread.
    ///
    /// # Errors
    /// The kernel refuses a thread or an event queue.
    pub fn start(index: usize, shared: Shared) -> io::Result<Self> {
        let (commands, inbox) = mpsc::unbounded_channel();
        let alive_ns = Arc::new(AtomicU64::new(monotonic_ns()));
        let tunnels = Arc::new(TunnelGauge::default());
        let pulse = Pulse { alive_ns: Arc::clone(&alive_ns), tunnels: Arc::clone(&tunnels) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            let local = LocalSet::new();
            local.block_on(&runtime, run(index, shared, inbox, pulse));
        })?;
        Ok(Self { commands, alive_ns, tunnels, thread })
    }

    /// Sends a command; a worker that has stopped needs none.
    pub fn tell(&self, command: Command) {
        let _ = self.commands.send(command);
    }

    /// When the worker last came round its loop, nanoseconds of the agent's clock.
    #[must_use]
    pub fn alive_ns(&self) -> u64 {
        self.alive_ns.load(Ordering::Relaxed)
    }

    /// The worker's tunnels, as of its last pulse.
    #[must_use]
    pub fn tunnels(&self) -> Arc<TunnelGauge> {
        Arc::clone(&self.tunnels)
    }

    /// Whether the thread has ended: after [`Command::Stop`] and the drain, or because it panicked, which it has said itself.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }
}

/// What a worker tells about itself, several times a second.
struct Pulse {
    alive_ns: Arc<AtomicU64>,
    tunnels: Arc<TunnelGauge>,
}

/// The pods of this worker.
#[derive(Default)]
struct Pods {
    /// By the cookie of the namespace.
    captured: RefCell<HashMap<u64, Rc<PodHere>>>,
    /// No longer captured, with connections that go on.
    leaving: RefCell<Vec<Leaving>>,
}

struct Leaving {
    pod: Rc<PodHere>,
    /// Somebody waits for their end.
    _held: Option<Arc<()>>,
}

impl Pods {
    /// Takes out everything of a namespace.
    fn take(&self, cookie: u64) -> Vec<Rc<PodHere>> {
        let captured = self.captured.borrow_mut().remove(&cookie);
        let is_its = |leaving: &mut Leaving| leaving.pod.namespace.cookie() == cookie;
        self.leaving.borrow_mut().extract_if(.., is_its).map(|leaving| leaving.pod).chain(captured).collect()
    }

    /// Tells callers who are not allowed any more. A pod that left the mesh decides nothing.
    fn decide_again(&self, snapshot: &Snapshot) {
        for pod in self.captured.borrow().values() {
            if let Some(here) = snapshot.local_pods.get(&pod.uid) {
                pod.admissions.decide_again(&here.authorization);
            }
        }
    }

    /// Forgets those whose last connection has ended.
    fn sweep(&self) {
        self.leaving.borrow_mut().retain(|leaving| leaving.pod.running() > 0);
    }
}

async fn run(index: usize, shared: Shared, mut inbox: mpsc::UnboundedReceiver<Command>, pulse: Pulse) {
    let worker = Rc::new(Worker::new(index, shared, Arc::clone(&pulse.tunnels)));
    let pods = Pods::default();
    let mut ticks = interval(PULSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut tidying = interval(TIDY);
    tidying.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let command = tokio::select! {
            command = inbox.recv() => command,
            _ = tidying.tick() => {
                worker.stock.shrink();
                worker.upstream.tidy(monotonic_ns());
                continue;
            }
            _ = ticks.tick() => {
                pulse.alive_ns.store(monotonic_ns(), Ordering::Relaxed);
                pulse.tunnels.set_size(worker.pool.size());
                pods.sweep();
                continue;
            }
        };
        match command {
            Some(Command::Enrol { uid, namespace, listeners }) => {
                enrol(&worker, &pods, uid, namespace, listeners)
            }
            Some(Command::Release { cookie, held }) => release(&worker, &pods, cookie, held.as_ref()),
            Some(Command::DecideAgain) => pods.decide_again(&worker.snapshot()),
            Some(Command::Stop { drain }) => return stop(&worker, &pods, drain).await,
            None => return,
        }
    }
}

fn enrol(
    worker: &Rc<Worker>,
    pods: &Pods,
    uid: Arc<str>,
    namespace: Arc<Namespace>,
    listeners: WorkerListeners,
) {
    let cookie = namespace.cookie();
    let pod = PodHere::new(uid, namespace, Arc::clone(&worker.shared.inherited));
    for listener in listeners.outbound {
        listen(worker, &pod, listener, accept::captured);
    }
    for listener in listeners.inbound {
        listen(worker, &pod, listener, accept::entering);
    }
    if let Some(before) = pods.captured.borrow_mut().insert(cookie, pod) {
        before.close();
        pods.leaving.borrow_mut().push(Leaving { pod: before, _held: None });
    }
}

fn release(worker: &Rc<Worker>, pods: &Pods, cookie: u64, held: Option<&Arc<()>>) {
    for pod in pods.take(cookie) {
        if held.is_some() {
            pod.close();
            pods.leaving.borrow_mut().push(Leaving { pod, _held: held.cloned() });
        } else {
            worker.close_records(&pod, CloseReason::PodLeft);
            pod.abort();
        }
    }
    worker.stock.forget(cookie);
    // Its tunnels close after their last stream.
    worker.pool.forget(cookie);
    worker.upstream.forget(cookie);
}

async fn stop(worker: &Rc<Worker>, pods: &Pods, drain: Duration) {
    let mut left: Vec<_> = pods.leaving.take().into_iter().map(|leaving| leaving.pod).collect();
    left.extend(pods.captured.borrow_mut().drain().map(|(_, pod)| pod));
    let pods = left;
    for pod in &pods {
        pod.close();
    }
    worker.drain(drain);
    let deadline = Instant::now() + drain;
    // Once at least: what waits to be accepted is taken first.
    loop {
        sleep(COUNT).await;
        if Instant::now() >= deadline || pods.iter().all(|pod| pod.running() == 0) {
            break;
        }
    }
    // Not before: a request that came meanwhile may need a new stream.
    worker.pool.drain();
    for pod in &pods {
        worker.close_records(pod, CloseReason::Shutdown);
        pod.abort();
    }
    // Aborted tasks are dropped, and so recorded, when the runtime comes round to them; tunnels say that they end.
    sleep(COUNT).await;
}

type Arrive = fn(&Rc<Worker>, &Rc<PodHere>, Socket, SocketAddr);

fn listen(worker: &Rc<Worker>, pod: &Rc<PodHere>, listener: TcpListener, arrive: Arrive) {
    let (worker, task_pod) = (Rc::clone(worker), Rc::clone(pod));
    // SAFETY: the listener owns its descriptor, and nothing but the drop of both closes it.
    let listener = unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE) };
    match listener {
        Ok(listener) => pod.listen(async move { accept_all(listener, &worker, &task_pod, arrive).await }),
        Err(error) => tracing::error!(pod = %pod.uid, %error, "cannot watch a listener"),
    }
}

/// Until the pod leaves or the worker stops, and nobody waits any more: closing the listener would reset them.
async fn accept_all(listener: AsyncFd<TcpListener>, worker: &Rc<Worker>, pod: &Rc<PodHere>, arrive: Arrive) {
    let mut leaving = pin!(pod.leaving());
    loop {
        // By order: asking chance which to ask first costs more than asking.
        let accepted = tokio::select! {
            biased;
            () = leaving.as_mut() => break,
            accepted = listener.async_io(Interest::READABLE, accept_one) => accepted,
        };
        match accepted {
            Ok((near, client)) => arrive(worker, pod, near, client),
            // accept(2): an error of the new connection is reported here and is nobody else's concern.
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(pod = %pod.uid, %error, "cannot accept; trying again");
                sleep(OUT_OF_RESOURCES).await;
            }
        }
    }
    // Asked of the kernel, which may know more than the event queue has said.
    for _ in 0..LAST {
        match accept_one(listener.get_ref()) {
            Ok((near, client)) => arrive(worker, pod, near, client),
            Err(error) if is_of_one_connection(&error) => {}
            Err(_) => return,
        }
    }
}

/// `accept4(2)`: what it gives is not for the event queue yet.
fn accept_one(listener: &TcpListener) -> io::Result<(Socket, SocketAddr)> {
    let (socket, client) =
        rustix::net::acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    let client = client.and_then(|client| SocketAddr::try_from(client).ok());
    let client = client.ok_or(io::ErrorKind::ConnectionAborted)?;
    Ok((Socket::fresh(socket.into()), client))
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
