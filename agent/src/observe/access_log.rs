//! The access log: workers put JSON lines into bounded queues, one thread of its own writes them in batches. A worker never
//! waits and seldom wakes anybody; what does not fit in the queue is dropped and counted. The lines are made on the worker,
//! because that is cheaper than to hand over what they are made of, and to free it on another thread.

use super::{
    clock::wall_offset_ns,
    line::{LineEvent, write_line},
    locked,
    requests::{DeniedRequest, Finished, RefusedRequest},
    row::Row,
};
use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Bytes that wait, per worker; further lines are dropped. A full queue is gone in one [`PAUSE`].
const QUEUE: usize = 4 * 1024 * 1024;
/// How long the writer lets lines gather.
const PAUSE: Duration = Duration::from_millis(50);
/// A queue that grew larger gives its memory back.
const KEPT: usize = 512 * 1024;

/// Where the lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogTarget {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// A file, appended to, made with mode 0640 (umask applies).
    File(PathBuf),
}

/// Handle on the log; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct AccessLog(Option<Arc<Shared>>);

/// Lines that wait.
#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    lines: u64,
}

#[derive(Debug)]
struct Shared {
    queues: Vec<Mutex<Queue>>,
    dropped: AtomicU64,
    written: AtomicU64,
    asleep: AtomicBool,
    stopping: AtomicBool,
    writer: OnceLock<JoinHandle<()>>,
}

/// The writer's thread could not be started, or its file not opened.
#[derive(Debug, thiserror::Error)]
pub enum AccessLogError {
    /// The file.
    #[error("access log {path}: {source}: choose another file or `stdout`")]
    Open {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The thread.
    #[error("access log: no thread: {0}")]
    Thread(io::Error),
}

impl AccessLog {
    /// Nothing is logged.
    #[must_use]
    pub fn off() -> Self {
        Self(None)
    }

    /// Starts the writer for `workers` workers.
    ///
    /// # Errors
    /// The file cannot be opened or the thread not be started.
    pub fn start(target: &AccessLogTarget, workers: usize) -> Result<Self, AccessLogError> {
        let output: Box<dyn Write + Send> = match target {
            AccessLogTarget::Off => return Ok(Self::off()),
            AccessLogTarget::Stdout => Box::new(io::stdout()),
            AccessLogTarget::File(path) => Box::new(open(path)?),
        };
        Self::start_into(output, workers)
    }

    /// Starts the writer into any output.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start_into(output: Box<dyn Write + Send>, workers: usize) -> Result<Self, AccessLogError> {
        let shared = Arc::new(Shared {
            queues: std::iter::repeat_with(Mutex::default).take(workers.max(1)).collect(),
            dropped: AtomicU64::new(0),
            written: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            writer: OnceLock::new(),
        });
        let work = shared.clone();
        let handle = thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || work.write_until_stopped(output))
            .map_err(AccessLogError::Thread)?;
        // Set once, right here.
        let _ = shared.writer.set(handle);
        Ok(Self(Some(shared)))
    }

    /// Lines that were dropped because the writer was too slow or its output failed.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.as_ref().map_or(0, |shared| shared.dropped.load(Ordering::Relaxed))
    }

    /// Lines that were written.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.0.as_ref().map_or(0, |shared| shared.written.load(Ordering::Relaxed))
    }

    /// Writes what waits and ends the thread; waits for that at most two seconds.
    pub fn stop(&self) {
        let Some(shared) = &self.0 else { return };
        shared.stopping.store(true, Ordering::SeqCst);
        shared.wake();
        for _ in 0..200 {
            if shared.writer.get().is_none_or(JoinHandle::is_finished) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn opened(&self, worker: usize, row: &Row) {
        self.push(worker, |out, offset| write_line(out, LineEvent::Open, row, offset));
    }

    pub(crate) fn closed(&self, worker: usize, row: &Row) {
        self.push(worker, |out, offset| write_line(out, LineEvent::Close, row, offset));
    }

    pub(crate) fn request(&self, worker: usize, request: &Finished) {
        self.push(worker, |out, offset| request.write_line(out, offset));
    }

    pub(crate) fn refused(&self, worker: usize, request: &RefusedRequest) {
        self.push(worker, |out, offset| request.write_line(out, offset));
    }

    pub(crate) fn denied(&self, worker: usize, row: &Row, request: &DeniedRequest<'_>) {
        self.push(worker, |out, offset| request.write_line(row, out, offset));
    }

    /// Whether anything is logged at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    fn push(&self, worker: usize, write: impl FnOnce(&mut Vec<u8>, u64)) {
        let Some(shared) = &self.0 else { return };
        let Some(queue) = shared.queues.get(worker % shared.queues.len().max(1)) else { return };
        let mut queue = locked(queue);
        if queue.bytes.len() >= QUEUE {
            shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        write(&mut queue.bytes, wall_offset_ns());
        queue.lines += 1;
        drop(queue);
        if shared.asleep.load(Ordering::SeqCst) && shared.asleep.swap(false, Ordering::SeqCst) {
            shared.wake();
        }
    }
}

impl Shared {
    fn wake(&self) {
        if let Some(writer) = self.writer.get() {
            writer.thread().unpark();
        }
    }

    fn write_until_stopped(&self, mut output: Box<dyn Write + Send>) {
        let mut taken = Queue::default();
        loop {
            let stopping = self.stopping.load(Ordering::SeqCst);
            let wrote = self.write_waiting(&mut *output, &mut taken);
            if stopping {
                return;
            }
            if wrote {
                thread::park_timeout(PAUSE);
                continue;
            }
            self.asleep.store(true, Ordering::SeqCst);
            taken = Queue::default();
            if self.queues.iter().all(|queue| locked(queue).rest()) && !self.stopping.load(Ordering::SeqCst) {
                thread::park();
                // Lines that come with the first one share its batch.
                thread::sleep(Duration::from_millis(5));
            }
            self.asleep.store(false, Ordering::SeqCst);
        }
    }

    /// The queue and what was `taken` change places, so that neither side allocates while it is busy.
    fn write_waiting(&self, output: &mut dyn Write, taken: &mut Queue) -> bool {
        let mut any = false;
        for queue in &self.queues {
            std::mem::swap(&mut *locked(queue), taken);
            any |= taken.lines > 0;
            self.flush(output, taken);
        }
        any
    }

    fn flush(&self, output: &mut dyn Write, taken: &mut Queue) {
        if taken.bytes.is_empty() {
            return;
        }
        let counter = match output.write_all(&taken.bytes).and_then(|()| output.flush()) {
            Ok(()) => &self.written,
            Err(_) => &self.dropped,
        };
        counter.fetch_add(std::mem::take(&mut taken.lines), Ordering::Relaxed);
        taken.bytes.clear();
        taken.bytes.shrink_to(KEPT);
    }
}

impl Queue {
    /// Whether nothing waits; then no memory is held either.
    fn rest(&mut self) -> bool {
        if self.lines == 0 {
            self.bytes = Vec::new();
        }
        self.lines == 0
    }
}

fn open(path: &PathBuf) -> Result<std::fs::File, AccessLogError> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(path)
        .map_err(|source| AccessLogError::Open { path: path.clone(), source })
}
