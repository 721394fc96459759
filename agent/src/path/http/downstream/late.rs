//! How long a request's head that has begun is waited for.

use std::{pin::Pin, task::Context};

use tokio::time::{Sleep, sleep};

use super::Handler;

/// The time of a head; runs only while one has begun and is not whole.
#[derive(Default)]
pub(super) struct HeadTime(Option<Pin<Box<Sleep>>>);

impl HeadTime {
    /// Whether a head that has `begun` takes longer than it may.
    pub(super) fn is_over(&mut self, begun: bool, handler: &impl Handler, context: &mut Context<'_>) -> bool {
        if !begun {
            self.0 = None;
        } else if self.0.is_none() {
            self.0 = handler.head_time().map(|time| Box::pin(sleep(time)));
        }
        self.0.as_mut().is_some_and(|time| time.as_mut().poll(context).is_ready())
    }
}
