//! The turns that the task of an HTTP/2 connection takes, so that all streams share one flush.

use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

use super::Flusher;

/// One pass of the worker's loop for a connection: woken, it stands back once so that all streams that are ready queue
/// what they have, then works, then flushes.
pub struct Pass<T> {
    flusher: Flusher<T>,
    stood_back: bool,
}

impl<T: AsyncWrite + Unpin> Pass<T> {
    /// For the connection whose stream `flusher` flushes.
    pub fn new(flusher: Flusher<T>) -> Self {
        Self { flusher, stood_back: false }
    }

    /// Stands back or works, in turns.
    pub fn poll<R>(
        &mut self,
        context: &mut Context<'_>,
        work: impl FnOnce(&mut Context<'_>) -> Poll<R>,
    ) -> Poll<R> {
        self.stood_back = !self.stood_back;
        if self.stood_back {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.poll_now(context, work)
    }

    /// A pass without standing back.
    pub fn poll_now<R>(
        &mut self,
        context: &mut Context<'_>,
        work: impl FnOnce(&mut Context<'_>) -> Poll<R>,
    ) -> Poll<R> {
        let worked = work(context);
        // HTTP/2 meets the error at its next read, so it must be asked again. A flush that waits is woken by the socket.
        if let Poll::Ready(Err(_)) = self.flusher.poll_flush(context) {
            context.waker().wake_by_ref();
        }
        worked
    }
}
