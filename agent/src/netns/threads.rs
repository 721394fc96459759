//! Few dedicated threads that enter namespaces and run short jobs there.
//!
//! `setns` costs about a microsecond, but a thread that was moved must never run anything else; so the workers send
//! their wishes here. A thread that is already in the namespace of the next job does not move.

use std::{
    io,
    os::fd::AsFd,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use tokio::sync::oneshot;

use super::namespace::{Namespace, NamespaceError, enter};

/// What a job that could not run at all answers.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The thread could not move.
    #[error("cannot enter the network namespace {path}: {source}")]
    Enter {
        /// The namespace.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The agent is stopping.
    #[error("the namespace threads have stopped")]
    Stopped,
}

type Task = Box<dyn FnOnce(&mut Option<u64>) + Send>;

/// A handle to the threads; cheap to clone. They end when the last handle is dropped.
#[derive(Clone)]
pub struct NamespaceThreads {
    queue: mpsc::Sender<Task>,
}

impl NamespaceThreads {
    /// Starts `count` threads (at least one).
    ///
    /// # Errors
    /// The kernel refuses a thread.
    pub fn start(count: usize) -> io::Result<Self> {
        let (queue, tasks) = mpsc::channel::<Task>();
        let tasks = Arc::new(Mutex::new(tasks));
        for index in 0..count.max(1) {
            let tasks = Arc::clone(&tasks);
            thread::Builder::new().name(format!("netns-{index}")).spawn(move || work(&tasks))?;
        }
        Ok(Self { queue })
    }

    /// Opens the namespace that `path` names.
    ///
    /// # Errors
    /// The path is no network namespace, or the agent is stopping.
    pub async fn open(&self, path: PathBuf) -> Result<Namespace, NamespaceError> {
        let (answer, opened) = oneshot::channel();
        let task_path = path.clone();
        let task: Task = Box::new(move |inside| {
            *inside = None;
            // The receiver may have gone with its connection; then the namespace is closed again.
            let _ = answer.send(Namespace::open_and_enter(&task_path));
        });
        let stopped = || NamespaceError::Open { path, source: io::Error::other("the agent is stopping") };
        if self.queue.send(task).is_err() {
            return Err(stopped());
        }
        opened.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Runs `job` inside `namespace` on one of the threads.
    ///
    /// # Errors
    /// The thread cannot enter, or the agent is stopping.
    pub async fn run<R: Send + 'static>(
        &self,
        namespace: Arc<Namespace>,
        job: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, JobError> {
        let (answer, done) = oneshot::channel();
        let task: Task = Box::new(move |inside| {
            // The receiver may have gone with its connection; what the job made is dropped then.
            let _ = answer.send(run_inside(inside, &namespace, job));
        });
        self.queue.send(task).map_err(|_| JobError::Stopped)?;
        done.await.unwrap_or(Err(JobError::Stopped))
    }
}

fn run_inside<R>(
    inside: &mut Option<u64>,
    namespace: &Namespace,
    job: impl FnOnce() -> R,
) -> Result<R, JobError> {
    if *inside != Some(namespace.cookie()) {
        *inside = None;
        enter(namespace.as_fd())
            .map_err(|source| JobError::Enter { path: namespace.path().to_owned(), source })?;
        *inside = Some(namespace.cookie());
    }
    Ok(job())
}

fn work(tasks: &Mutex<mpsc::Receiver<Task>>) {
    let mut inside = None;
    loop {
        // A thread that panicked in a job held no lock: the lock covers only the waiting.
        let next = tasks.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match next {
            Ok(task) => task(&mut inside),
            Err(mpsc::RecvError) => return,
        }
    }
}
