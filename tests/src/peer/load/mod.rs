//! A client that makes load (`posthaste-peer call load ADDRESS SPEC`): so many requests in flight, each with an id of its
//! own, over HTTP/1.1 or HTTP/2; no retries of any kind. It says how many answers of each status came, what failed
//! and how, from which servers the answers came, and how long they took.

mod connection;
mod report;

use crate::{Doing, Fault, Running, Site};
use connection::Connection;
pub use report::Report;
use report::Tally;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    cell::{Cell, RefCell},
    io,
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};
use tokio::{
    task::LocalSet,
    time::{Instant, sleep_until, timeout},
};

/// What to ask, how often, by how many.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Spec {
    /// Connections.
    pub connections: u32,
    /// Requests at once on each connection (HTTP/2 only).
    pub streams: u32,
    /// Ends after so many requests; 0: after `seconds`.
    pub requests: u64,
    /// Ends after so long.
    pub seconds: f64,
    /// Requests a second in all, evenly spaced; 0: the next one as soon as the last one is answered.
    pub rate: f64,
    /// Method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// `Host` or `:authority`; empty: the address.
    pub host: String,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// Length of the request's body, bytes.
    pub body: usize,
    /// HTTP/2 with prior knowledge.
    pub http2: bool,
    /// A new connection for each request.
    pub new_connection: bool,
    /// What the ids (`x-id`) begin with.
    pub id: String,
    /// A request without an answer after so long is an error.
    pub timeout_ms: u64,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            connections: 1,
            streams: 1,
            requests: 0,
            seconds: 1.0,
            rate: 0.0,
            method: "GET".to_owned(),
            path: "/".to_owned(),
            host: String::new(),
            headers: Vec::new(),
            body: 0,
            http2: false,
            new_connection: false,
            id: "r".to_owned(),
            timeout_ms: 10_000,
        }
    }
}

impl Spec {
    /// So many `GET /`, by `connections` connections.
    #[must_use]
    pub fn requests(requests: u64, connections: u32) -> Self {
        Self { requests, connections, seconds: 60.0, ..Self::default() }
    }
}

/// Starts it at a site; [`finish`] waits for its end.
///
/// # Errors
/// The program is missing.
pub fn start(site: &Site, to: SocketAddr, spec: &Spec) -> Result<Running, Fault> {
    super::start_call(site, "load", to, &[&json!(spec).to_string()])
}

/// Waits for its end and reads what it says.
///
/// # Errors
/// It did not end in time, or failed.
pub fn finish(running: Running, spec: &Spec) -> Result<Report, Fault> {
    let limit = Duration::from_secs_f64(spec.seconds)
        + Duration::from_millis(spec.timeout_ms)
        + Duration::from_secs(20);
    let finished = running.finish(limit)?;
    let last = super::lines(&finished.stdout).pop().unwrap_or_default();
    serde_json::from_value(last)
        .map_err(|error| Fault::new(format!("{error}: {} {}", finished.stdout, finished.stderr)))
}

/// Both.
///
/// # Errors
/// The program is missing, or did not end in time.
pub fn of(site: &Site, to: SocketAddr, spec: &Spec) -> Result<Report, Fault> {
    finish(start(site, to, spec)?, spec)
}

/// The program itself.
///
/// # Errors
/// The specification does not parse.
pub(super) fn run(to: SocketAddr, spec: &str) -> io::Result<Value> {
    let spec: Spec = serde_json::from_str(spec).map_err(io::Error::other)?;
    let report = drive(to, spec).map_err(io::Error::other)?;
    Ok(json!(report))
}

/// Makes the load on this thread.
///
/// # Errors
/// No runtime can be made.
pub fn drive(to: SocketAddr, spec: Spec) -> Result<Report, Fault> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().doing("make a runtime")?;
    let work = Rc::new(Work::new(to, spec));
    let start = work.start;
    LocalSet::new().block_on(&runtime, all(Rc::clone(&work)));
    let tally = work.tally.take();
    Ok(tally.report(start.elapsed()))
}

/// What all workers share.
struct Work {
    to: SocketAddr,
    spec: Spec,
    start: Instant,
    begun: Cell<u64>,
    tally: RefCell<Tally>,
}

impl Work {
    fn new(to: SocketAddr, spec: Spec) -> Self {
        Self { to, spec, start: Instant::now(), begun: Cell::new(0), tally: RefCell::default() }
    }

    /// The number of the next request, unless it is enough.
    fn next(&self) -> Option<u64> {
        let number = self.begun.get();
        let enough = self.spec.requests > 0 && number >= self.spec.requests;
        if enough || self.start.elapsed().as_secs_f64() >= self.spec.seconds {
            return None;
        }
        self.begun.set(number + 1);
        Some(number)
    }
}

async fn all(work: Rc<Work>) {
    let mut workers = Vec::new();
    for _ in 0..work.spec.connections.max(1) {
        let connection = Rc::new(Connection::new(work.to, work.spec.http2));
        let streams = if work.spec.http2 { work.spec.streams.max(1) } else { 1 };
        for _ in 0..streams {
            let worker = worker(Rc::clone(&work), Rc::clone(&connection));
            workers.push(tokio::task::spawn_local(worker));
        }
    }
    for worker in workers {
        let _ = worker.await;
    }
}

/// With a rate, request `n` is due `n / rate` after the start; a worker that comes late counts the wait as latency.
async fn worker(work: Rc<Work>, connection: Rc<Connection>) {
    let spec = &work.spec;
    while let Some(number) = work.next() {
        let mut began = Instant::now();
        if spec.rate > 0.0 {
            let due = work.start + Duration::from_secs_f64(number as f64 / spec.rate);
            if due > began {
                sleep_until(due).await;
                began = Instant::now();
            } else {
                began = due;
            }
        }
        let asked = connection.ask(spec, number);
        let outcome = match timeout(Duration::from_millis(spec.timeout_ms), asked).await {
            Ok(outcome) => outcome,
            Err(_) => {
                connection.forget();
                Err("timeout".to_owned())
            }
        };
        if spec.new_connection || outcome.is_err() {
            connection.forget();
        }
        work.tally.borrow_mut().add(outcome, began.elapsed());
    }
}
