//! What can go wrong while a world is built or asked. Pure.

use std::io;

/// One step of the harness that failed, with what it was doing.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A system call or a file.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program that ended with a failure.
    #[error("`{command}` failed: {output}")]
    Command {
        /// Program and arguments.
        command: String,
        /// What it printed.
        output: String,
    },
    /// Something that did not happen in time.
    #[error("waited {seconds:.1} s for {what}: {last}")]
    Late {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: f64,
        /// What was seen last.
        last: String,
    },
    /// Anything else, in words.
    #[error("{0}")]
    Unexpected(String),
}

impl Fault {
    /// A fault in words.
    pub fn new(what: impl Into<String>) -> Self {
        Self::Unexpected(what.into())
    }
}

/// Adds what was being done to an error of the system.
pub trait Doing<T> {
    /// Turns the error into a [`Fault`] that says `what`.
    ///
    /// # Errors
    /// The same error, explained.
    fn doing(self, what: impl Into<String>) -> Result<T, Fault>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl Into<String>) -> Result<T, Fault> {
        self.map_err(|source| Fault::Io { what: what.into(), source: source.into() })
    }
}
