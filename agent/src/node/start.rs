//! Starts the parts of an agent in the order in which they need each other, runs them, and stops them in reverse.

use std::{collections::HashSet, io, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::{
    addresses,
    appearances::Appearances,
    authority, heartbeat,
    kernel::Kernel,
    locate::Locator,
    machine::{self, MachineError},
    pods::{Means, Pods},
    publish::{Published, Publisher},
    servers::{self, ServerError},
    settings,
    source::{self, SourceError},
    standby::{self, StandbyError, Turn},
    wakeups::Wakeups,
};
use crate::{
    bpf::{Capture, CaptureError, GroupEvent},
    config::{AgentArguments, OnStop},
    control::{kubernetes::annotate::Annotator, reading::Reading},
    identity::IdentityStore,
    netns::{NamespaceThreads, SocketOptions},
    observe::{
        AccessLog, ConnectionLimits, Connections, Enrolments, SeriesTable, access_log::AccessLogError,
        clock::wall_ns, monotonic_ns, otlp::OtlpError,
    },
    snapshot::Snapshot,
    worker::{Command, ConnectLimits, Peers, Shared, WorkerHandle, peers::AskForPod},
};

/// Threads that enter namespaces.
const NAMESPACE_THREADS: usize = 2;
/// How often what failed is tried again and namespaces are looked at.
const RETRY: Duration = Duration::from_secs(1);
/// How long a worker may take to stop after its drain.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why an agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The kernel part.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The manifests, or the API server.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Another agent has the turn.
    #[error(transparent)]
    Standby(#[from] StandbyError),
    /// The certificate authority.
    #[error(transparent)]
    Authority(#[from] authority::AuthorityError),
    /// The access log.
    #[error(transparent)]
    AccessLog(#[from] AccessLogError),
    /// The collector of spans.
    #[error(transparent)]
    Otlp(#[from] OtlpError),
    /// Metrics or admin socket.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A worker thread is not there any more, or does not come round its loop.
    #[error(
        "worker {0} {1}: the agent ends, so that it is started again; the kernel follows the fail mode until then"
    )]
    Worker(usize, &'static str),
    /// Threads, event loops, signals.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// What this machine cannot do.
    #[error(transparent)]
    Machine(#[from] MachineError),
}

/// Runs an agent until SIGTERM or SIGINT.
///
/// # Errors
/// A part does not start; nothing is left behind then that was not there.
pub fn run(arguments: AgentArguments, admin_socket: PathBuf) -> Result<(), StartError> {
    machine::check_rights()?;
    machine::raise_descriptor_limit();
    // Control, CA client and admin on a runtime of their own: a reload never delays a byte.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("control")
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let agent = Agent::start(arguments, admin_socket).await?;
        agent.run().await
    })
}

/// What an agent reads and writes, started before the kernel is touched.
struct Inputs {
    readings: watch::Receiver<Arc<Reading>>,
    ask_for_pod: AskForPod,
    identities: IdentityStore,
    access_log: AccessLog,
    sockets: SocketOptions,
    turn: Option<Turn>,
    cgroup_root: PathBuf,
}

/// A running agent.
struct Agent {
    arguments: AgentArguments,
    admin_socket: PathBuf,
    kernel: Kernel,
    pods: Pods,
    wakeups: Wakeups,
    publisher: Publisher,
    published: Published,
    identities: IdentityStore,
    readings: watch::Receiver<Arc<Reading>>,
    workers: Arc<Vec<WorkerHandle>>,
    access_log: AccessLog,
    connections: Connections,
    annotator: Option<Annotator>,
    turn: Option<Turn>,
}

impl Agent {
    async fn start(arguments: AgentArguments, admin_socket: PathBuf) -> Result<Self, StartError> {
        // Nothing in the kernel changes before what mostly refuses to start has started.
        let (readings, ask_for_pod) = source::start(&arguments).await?;
        let inputs = Inputs {
            readings,
            ask_for_pod,
            sockets: SocketOptions {
                mark: arguments.kernel.mark,
                congestion: machine::congestion(&arguments)?,
            },
            identities: authority::start(&arguments)?,
            access_log: AccessLog::start(
                &servers::access_log_target(&arguments.access_log),
                arguments.worker_count(),
            )?,
            turn: standby::turn(&arguments, &admin_socket).await?,
            cgroup_root: machine::cgroup_root(&arguments.kernel)?,
        };
        let capture = Capture::start(&settings::capture(&arguments.kernel, &inputs.cgroup_root))?;
        let took_over = capture.took_over();
        let kernel = Kernel::new(capture);
        let started = Self::start_around(kernel.clone(), arguments, admin_socket, inputs, took_over).await;
        if started.is_err() && !took_over {
            // The first error is the one to tell. What an earlier agent or the boot guard left stays as it was.
            let _second = kernel.release();
        }
        started
    }

    /// Everything that needs the capture.
    async fn start_around(
        kernel: Kernel,
        arguments: AgentArguments,
        admin_socket: PathBuf,
        inputs: Inputs,
        took_over: bool,
    ) -> Result<Self, StartError> {
        let Inputs { readings, ask_for_pod, identities, access_log, sockets, turn, cgroup_root } = inputs;
        let released = || StartError::System(io::Error::other("the capture was released"));
        let (heartbeat, destinations) =
            kernel.heartbeat().zip(kernel.original_destinations()).ok_or_else(released)?;
        let published = Published::default();
        let threads = NamespaceThreads::start(NAMESPACE_THREADS)?;
        let connections = Connections::new(
            arguments.worker_count(),
            ConnectionLimits::default(),
            SeriesTable::new(settings::SERIES),
            access_log.clone(),
        );
        let requests = settings::requests(&arguments, &access_log)?;
        let shared = Shared {
            snapshot: Arc::clone(&published.snapshot),
            identities: identities.clone(),
            connections: connections.clone(),
            requests: requests.clone(),
            read_destination: Arc::new(move |socket| destinations.read(socket)),
            namespaces: threads.clone(),
            sockets: sockets.clone(),
            tunnels: crate::tunnel::Settings::default(),
            connect: ConnectLimits::default(),
            peers: Peers::new(ask_for_pod, published.generation.subscribe()),
            inherited: Arc::default(),
        };
        let workers: io::Result<Vec<WorkerHandle>> =
            (0..arguments.worker_count()).map(|index| WorkerHandle::start(index, shared.clone())).collect();
        let workers = Arc::new(workers?);
        let enrolments = Enrolments::default();
        let parts = servers::Parts {
            enrolments: &enrolments,
            published: &published,
            connections: &connections,
            requests: &requests,
            identities: &identities,
            kernel: &kernel,
            workers: &workers,
            took_over,
        };
        servers::start(&arguments, &admin_socket, &parts).await?;
        heartbeat::start(heartbeat, &workers, arguments.kernel.heartbeat_limit)?;
        let means = Means {
            threads,
            sockets,
            ports: settings::LISTENER_PORTS,
            node_addresses: addresses::of_node(&arguments.node_address).await,
            enrolments,
        };
        let started = i64::try_from(wall_ns() / 1_000_000_000).unwrap_or(i64::MAX);
        let publisher = Publisher::new(published.clone(), settings::context(&arguments), started);
        let locator = Locator::new(&cgroup_root, arguments.kernel.cgroup_root.is_some());
        let wakeups = Wakeups::new(kernel.take_events())?;
        let appearances = Appearances::new(wakeups.kernel_tells(), monotonic_ns());
        let pods = Pods::new(means, locator, appearances);
        let annotator = source::tell(&arguments, readings.clone(), published.captured.subscribe()).await?;
        Ok(Self {
            arguments,
            admin_socket,
            kernel,
            pods,
            wakeups,
            publisher,
            published,
            identities,
            readings,
            workers,
            access_log,
            connections,
            annotator,
            turn,
        })
    }

    /// Follows the source until a signal comes.
    async fn run(mut self) -> Result<(), StartError> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut ticks = interval(RETRY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.reload().await;
        loop {
            let look = self.pods.next_look();
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                changed = self.readings.changed() => match changed {
                    Ok(()) => self.reload().await,
                    // The source has said why it stopped; what is known stays in force.
                    Err(_) => { ticks.tick().await; }
                },
                _ = ticks.tick() => {
                    self.kernel.drain_log();
                    self.watch_workers()?;
                    self.follow().await;
                }
                events = self.wakeups.next(look) => self.look(&events).await,
            }
        }
        self.stop().await
    }

    /// An agent without one of its workers serves only a part of the connections, and its heartbeat has stopped: better none,
    /// and a new one. The pins stay, so the kernel follows the fail mode.
    fn watch_workers(&self) -> Result<(), StartError> {
        let now = monotonic_ns();
        for (index, worker) in self.workers.iter().enumerate() {
            if let Some(what) = heartbeat::ailment(worker.has_ended(), now.saturating_sub(worker.alive_ns()))
            {
                if let Some(heartbeat) = self.kernel.heartbeat() {
                    heartbeat.stop();
                }
                let _ = std::fs::remove_file(&self.admin_socket);
                return Err(StartError::Worker(index, what));
            }
        }
        Ok(())
    }

    async fn reload(&mut self) {
        let reading = Arc::clone(&self.readings.borrow_and_update());
        if !reading.complete {
            // What an earlier agent left in the kernel stays as it is until the whole truth is known.
            return self.publisher.wait(&reading);
        }
        self.publisher.publish(&reading);
        for worker in self.workers.iter() {
            worker.tell(Command::DecideAgain);
        }
        self.follow().await;
        self.publisher.set_ready();
        if let Some(Err(error)) = self.turn.as_ref().map(Turn::serves) {
            tracing::warn!(%error, "the agent before does not know that this one serves");
        }
    }

    /// Makes certificates and the node follow the published snapshot.
    async fn follow(&mut self) {
        let snapshot = self.published.snapshot.load_full();
        if snapshot.generation == 0 {
            return;
        }
        self.identities.keep(wanted_identities(&snapshot));
        if self.arguments.node_address.is_empty() {
            // An address that the node gained may be where probes come from.
            self.pods.set_node_addresses(addresses::of_node(&[]).await);
        }
        self.follow_pods(&snapshot).await;
    }

    /// Pods come or go, or one that is being made may be ready to be captured.
    async fn look(&mut self, events: &[GroupEvent]) {
        let snapshot = self.published.snapshot.load_full();
        if self.pods.is_worth_following(&snapshot, events) {
            self.follow_pods(&snapshot).await;
        }
    }

    async fn follow_pods(&mut self, snapshot: &Snapshot) {
        let mut problems = self.pods.follow(snapshot, &self.kernel, &self.workers).await;
        self.publisher.publish_captured(self.pods.captured());
        problems.extend(self.annotator.as_ref().and_then(Annotator::problem));
        self.publisher.publish_problems(problems);
    }

    async fn stop(mut self) -> Result<(), StartError> {
        tracing::info!("stopping");
        self.published.stop();
        let drain = self.arguments.drain;
        match self.arguments.on_stop {
            OnStop::Release => self.release_kernel(),
            OnStop::Keep => self.pass_on().await,
        }
        for worker in self.workers.iter() {
            worker.tell(Command::Stop { drain });
        }
        let stuck = self.join_workers(drain + PATIENCE).await;
        if self.arguments.on_stop == OnStop::Release {
            self.pods.release_all(&self.workers).await;
            if let Some(annotator) = self.annotator.take() {
                annotator.take_back().await;
            }
        }
        self.access_log.stop();
        self.connections.tell_cut(drain);
        let _ = std::fs::remove_file(&self.admin_socket);
        stuck.map_or(Ok(()), |index| Err(StartError::Worker(index, "did not stop")))
    }

    /// Serves until the next agent does, where one stands by; where there is none, the fail mode decides. Our listeners are closed by the
    /// workers, and nothing is undone.
    async fn pass_on(&mut self) {
        let passed_on = match self.turn.take() {
            Some(turn) => turn.pass_on().await,
            None => false,
        };
        if passed_on {
            tracing::info!("another agent serves this node now");
        } else if let Some(heartbeat) = self.kernel.heartbeat() {
            heartbeat.stop();
        }
        self.pods.leave();
    }

    /// Waits for the threads; which one has not ended by then.
    async fn join_workers(&self, within: Duration) -> Option<usize> {
        let deadline = Instant::now() + within;
        loop {
            let running = self.workers.iter().position(|worker| !worker.has_ended());
            if running.is_none() || Instant::now() >= deadline {
                return running;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// New connections go straight from now on; connections that are carried go on until they are drained.
    fn release_kernel(&self) {
        if let Err(error) = self.kernel.release() {
            tracing::error!(%error, "the capture could not be undone wholly");
        }
    }
}

fn wanted_identities(snapshot: &Snapshot) -> HashSet<crate::snapshot::SpiffeId> {
    snapshot.local_pods.values().map(|pod| pod.workload.identity.clone()).collect()
}
