//! One agent after the other (`--stand-by`): a new agent starts beside the old one, waits for its end, and takes over then. The turn
//! is a lock on a file of the state folder, so that it passes on however the old one ends.
//!
//! Whoever waits says so: it is alive and ready, since the update that started it must go on to end the old one.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hyper::StatusCode;
use rustix::{fs::FlockOperation, io::Errno};

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

/// The right to be the agent of this node, until it is dropped.
#[derive(Debug)]
pub struct Turn(#[allow(dead_code, reason = "the lock lives as long as the open file")] File);

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
    Ok(Turn(file))
}

fn open(state: &Path, path: &Path) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(state)?;
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
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
}
