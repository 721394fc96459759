//! One agent after the other (`--stand-by`): a new agent starts beside the old one, waits for its end, and takes over then. The turn
//! is a lock on a file of the state folder, so that it passes on however the old one ends. One that ends in order serves until the new one
//! does, and only then tells its clients to go: they find somebody to come back to.
//!
//! Whoever waits says so: it is alive and ready, since the update that started it must go on to end the old one.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hyper::StatusCode;
use rustix::{fs::FlockOperation, io::Errno};
use tokio::time::Instant;

use crate::{
    config::AgentArguments,
    observe::{
        admin::{self, AdminError},
        http::{self, Answer},
    },
};

/// How often the lock is tried.
const PERIOD: Duration = Duration::from_millis(20);

/// Why this agent cannot wait for its turn.
#[derive(Debug, thiserror::Error)]
pub enum StandbyError {
    /// The lock.
    #[error(
        "--stand-by: cannot lock {path}: {source}; --state must name a folder that the agents of this node share"
    )]
    Lock {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The socket.
    #[error(transparent)]
    Admin(#[from] AdminError),
}

/// Somebody who stands by has taken the lock by then.
const TAKEN: Duration = Duration::from_secs(2);
/// How long the next agent may take until it serves.
const SERVES: Duration = Duration::from_secs(20);

/// The right to be the agent of this node, until it is dropped or passed on. The locked file holds a number of the agent that served
/// last.
#[derive(Debug)]
pub struct Turn {
    file: File,
    number: u64,
}

impl Turn {
    /// This agent serves all pods of the node from now on.
    ///
    /// # Errors
    /// The file cannot be written: the agent before does not wait for this one.
    pub fn serves(&self) -> io::Result<()> {
        self.file.write_all_at(&self.number.to_be_bytes(), 0)
    }

    /// Passes it on to an agent that stands by, and waits until that one serves; whether there is one.
    pub async fn pass_on(self) -> bool {
        let begun = Instant::now();
        // Again, so that what is there afterwards and is not ours came after.
        let passed = self.serves().and_then(|()| Ok(rustix::fs::flock(&self.file, FlockOperation::Unlock)?));
        if let Err(error) = passed {
            tracing::warn!(%error, "the next agent begins when this one has ended");
            return false;
        }
        while begun.elapsed() < SERVES {
            tokio::time::sleep(PERIOD / 2).await;
            if self.is_served_by_another() {
                return true;
            }
            if begun.elapsed() > TAKEN && !self.is_taken() {
                break;
            }
        }
        false
    }

    fn is_served_by_another(&self) -> bool {
        let mut number = [0; 8];
        self.file.read_exact_at(&mut number, 0).is_ok() && u64::from_be_bytes(number) != self.number
    }

    /// Whoever tries at this very moment tries again.
    fn is_taken(&self) -> bool {
        let free = rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockShared).is_ok();
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
        !free
    }
}

/// The turn, where `--stand-by` asks for one; waits for it.
///
/// # Errors
/// See [`wait`].
pub async fn turn(arguments: &AgentArguments, admin_socket: &Path) -> Result<Option<Turn>, StandbyError> {
    match arguments.stand_by {
        true => wait(&arguments.state, admin_socket).await.map(Some),
        false => Ok(None),
    }
}

/// Waits until no other agent has the turn. Meanwhile the admin socket answers that this one stands by.
///
/// # Errors
/// The folder or the socket cannot be used.
pub async fn wait(state: &Path, admin_socket: &Path) -> Result<Turn, StandbyError> {
    let path = state.join("agent.lock");
    let failed = |source: io::Error| StandbyError::Lock { path: path.clone(), source };
    let file = open(state, &path).map_err(failed)?;
    let mut server = None;
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(Errno::WOULDBLOCK | Errno::INTR) => {}
            Err(error) => return Err(failed(error.into())),
        }
        if server.is_none() {
            tracing::info!("another agent serves this node; standing by");
            server = Some(Server::start(admin_socket)?);
        }
        tokio::time::sleep(PERIOD).await;
    }
    if server.is_some() {
        tracing::info!("the other agent has ended; taking over");
    }
    Ok(Turn { file, number: fastrand::u64(..) })
}

fn open(state: &Path, path: &Path) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(state)?;
    OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(path)
}

/// Answers on the admin socket until it is dropped.
struct Server(tokio::task::JoinHandle<std::convert::Infallible>);

impl Server {
    fn start(admin_socket: &Path) -> Result<Self, AdminError> {
        let listener = admin::listen(admin_socket)?;
        let answers = Arc::new(|path: &str, _: &str| match path {
            "/healthz" | "/readyz" => Answer::text(StatusCode::OK, "standing by\n"),
            _ => Answer::text(
                StatusCode::SERVICE_UNAVAILABLE,
                "this agent stands by until the other one of this node has ended\n",
            ),
        });
        Ok(Self(tokio::spawn(http::serve(listener, answers))))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::{client, cluster::place::Place};

    #[tokio::test]
    async fn the_second_waits_for_the_first_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let (state, socket) = (folder.path().join("state"), folder.path().join("admin.sock"));
        let first = wait(&state, &folder.path().join("first.sock")).await.unwrap();
        let second = tokio::spawn({
            let (state, socket) = (state.clone(), socket.clone());
            async move { wait(&state, &socket).await }
        });
        let ask = |target: &'static str| {
            let place = Place { admin_socket: socket.clone(), ..Place::default() };
            tokio::task::spawn_blocking(move || client::fetch(&place, target))
        };
        for _ in 0..500 {
            if socket.exists() {
                break;
            }
            tokio::time::sleep(PERIOD).await;
        }
        assert_eq!(ask("/readyz").await.unwrap().unwrap(), b"standing by\n");
        assert!(ask("/status").await.unwrap().unwrap_err().to_string().contains("stands by"));
        assert!(!second.is_finished());
        drop(first);
        let turn = tokio::time::timeout(Duration::from_secs(20), second).await.unwrap().unwrap();
        assert!(turn.is_ok());
    }

    #[tokio::test]
    async fn whoever_passes_it_on_waits_until_the_next_one_serves() {
        let folder = tempfile::tempdir().unwrap();
        let (state, socket) = (folder.path().join("state"), folder.path().join("admin.sock"));
        let first = wait(&state, &socket).await.unwrap();
        first.serves().unwrap();
        let next = tokio::spawn({
            let (state, socket) = (state.clone(), socket.clone());
            async move { wait(&state, &socket).await.unwrap() }
        });
        let passing = tokio::spawn(first.pass_on());
        let second = next.await.unwrap();
        tokio::time::sleep(TAKEN + PERIOD * 10).await;
        assert!(!passing.is_finished(), "it is taken, and not served");
        second.serves().unwrap();
        assert!(passing.await.unwrap());
        // Nobody stands by.
        assert!(!second.pass_on().await);
        // One that stands by and dies before it serves.
        let third = wait(&state, &socket).await.unwrap();
        let next = tokio::spawn({
            let (state, socket) = (state.clone(), socket.clone());
            async move { wait(&state, &socket).await.unwrap() }
        });
        let passing = tokio::spawn(third.pass_on());
        drop(next.await.unwrap());
        assert!(!passing.await.unwrap());
    }
}
