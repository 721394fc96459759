//! Few dedicated threads that enter namespaces and run short jobs there.
//!
//! `setns` costs about a microsecond, but a thread that was moved must never run anything else; so the workers send
//! their wishes here. A thread that is already in the namespace of the next job does not move; one that has nothing to do
//! goes home, because a namespace lives as long as a thread is in it.

use std::{
    fs::File,
    io,
    os::fd::AsFd,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, TryLockError, mpsc},
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

type Task = Box<dyn FnOnce(&mut Inside) + Send>;
type Queue = Mutex<mpsc::Receiver<Task>>;

/// Where a thread is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    /// In the agent's own namespace.
    Home,
    /// In the namespace with this cookie.
    Pod(u64),
    /// On the way, or where a move that failed left it.
    Somewhere,
}

/// A handle to the threads; cheap to clone. They end when the last handle is dropped.
#[derive(Clone)]
pub struct NamespaceThreads {
    queue: mpsc::Sender<Task>,
    /// The agent's own namespace.
    home: Arc<File>,
}

impl NamespaceThreads {
    /// Starts `count` threads (at least one).
    ///
    /// # Errors
    /// The kernel refuses a thread.
    pub fn start(count: usize) -> io::Result<Self> {
        let (queue, tasks) = mpsc::channel::<Task>();
        let tasks = Arc::new(Mutex::new(tasks));
        let home = Arc::new(File::open("/proc/thread-self/ns/net")?);
        for index in 0..count.max(1) {
            let (tasks, home) = (Arc::clone(&tasks), Arc::clone(&home));
            thread::Builder::new().name(format!("netns-{index}")).spawn(move || work(&tasks, &home))?;
        }
        Ok(Self { queue, home })
    }

    /// Opens the namespace that `path` names.
    ///
    /// # Errors
    /// The path is no network namespace, or the agent is stopping.
    pub async fn open(&self, path: PathBuf) -> Result<Namespace, NamespaceError> {
        let (answer, opened) = oneshot::channel();
        let (task_path, home) = (path.clone(), Arc::clone(&self.home));
        let task: Task = Box::new(move |inside| {
            *inside = Inside::Somewhere;
            // The receiver may have gone with its connection; then the namespace is closed again.
            let _ = answer.send(Namespace::open_and_enter(&task_path, &home));
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

fn run_inside<R>(inside: &mut Inside, namespace: &Namespace, job: impl FnOnce() -> R) -> Result<R, JobError> {
    if *inside != Inside::Pod(namespace.cookie()) {
        *inside = Inside::Somewhere;
        enter(namespace.as_fd())
            .map_err(|source| JobError::Enter { path: namespace.path().to_owned(), source })?;
        *inside = Inside::Pod(namespace.cookie());
    }
    Ok(job())
}

fn work(tasks: &Queue, home: &File) {
    let mut inside = Inside::Home;
    loop {
        let next = at_once(tasks).or_else(|| {
            go_home(&mut inside, home);
            // A thread that panicked in a job held no lock: the lock covers only the waiting.
            tasks.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
        });
        match next {
            Some(task) => task(&mut inside),
            None => return,
        }
    }
}

/// A job that waits already. While another thread holds the lock it waits for jobs, so there is none.
fn at_once(tasks: &Queue) -> Option<Task> {
    let tasks = match tasks.try_lock() {
        Ok(tasks) => tasks,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return None,
    };
    tasks.try_recv().ok()
}

fn go_home(inside: &mut Inside, home: &File) {
    // Where even this fails the thread stays, and the next job moves it.
    if *inside != Inside::Home && enter(home.as_fd()).is_ok() {
        *inside = Inside::Home;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[tokio::test]
    async fn what_is_no_namespace_of_a_pod_is_refused() {
        let threads = NamespaceThreads::start(1).unwrap();
        let folder = std::env::temp_dir().join(format!("posthaste-netns-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let pipe = folder.join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let error = |path: &str| {
            let opening = threads.open(path.into());
            async move { opening.await.unwrap_err() }
        };
        assert!(matches!(error("/proc/self/ns/net").await, NamespaceError::Nodes(_)));
        assert!(matches!(error("/proc/self/ns/uts").await, NamespaceError::NotANamespace(_)));
        assert!(matches!(error("/nowhere").await, NamespaceError::Open { .. }));
        assert!(matches!(error(pipe.to_str().unwrap()).await, NamespaceError::NotANamespace(_)));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
