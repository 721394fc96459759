//! The application's side: requests come in, one handler answers each, answers go out.
//!
//! ```text
//! http1   one request after the other; near: what the loop, the request's body and the reply share
//! http2   a task for each request
//! late    how long a head is waited for
//! reply   the way back to the client
//! room    where work on a request lives
//! ```
//!
//! What is not unambiguous HTTP the loops answer themselves, with the status that the codec names, and close.

mod http1;
mod http2;
mod late;
mod near;
mod reply;
mod room;
#[cfg(test)]
mod tests;

use std::{rc::Rc, time::Duration};

use http::{Request, StatusCode, Version};

use super::body::{Body, BodyError};
use crate::{http1::HeadError, resilience::limits};

pub use crate::tunnel::windows::Windows;
pub use http1::serve_http1;
pub use http2::serve_http2;
pub use reply::{Replied, Reply, ReplyOutcome};

/// A request as it came in.
pub struct Incoming {
    /// Head and body, in the one form that requests have between both sides (see `path::http`). The version is what the client
    /// speaks.
    pub request: Request<Body>,
    /// HTTP/1.0, HTTP/1.1 or HTTP/2.
    pub version: Version,
    /// The client asks for another protocol (`Connection: upgrade`) or sent CONNECT: [`Reply::upgrade`] may be used.
    pub upgrade: bool,
    /// The client waits for 100 before it sends the body. It gets one when the endpoint sent one, or when the body is
    /// asked for.
    pub expects_continue: bool,
}

/// What is done with requests.
pub trait Handler: 'static {
    /// Answers one request. Dropped when the client goes away before the answer is complete. A reply that is dropped unused
    /// ends the connection (the stream) without an answer.
    fn handle(self: Rc<Self>, request: Incoming, reply: Reply) -> impl Future<Output = ()> + 'static;

    /// Runs the work of one stream beside that of the others.
    fn spawn(&self, work: impl Future<Output = ()> + 'static);

    /// How long a head may take once it has begun; none: as long as it likes.
    fn head_time(&self) -> Option<Duration> {
        None
    }

    /// Told of what was refused, by a limit or because it is not unambiguous HTTP, and answered with this status; 0: with none.
    fn refused(&self, status: u16, what: &'static str, limit: Option<&'static str>);

    /// A head took longer than it may. Over HTTP/2 that closes the connection (ENHANCE_YOUR_CALM).
    fn late(&self, answer: Option<StatusCode>) {
        let status = answer.map_or(0, |status| status.as_u16());
        self.refused(status, "the head did not come in time", Some(limits::REQUEST_HEADERS));
    }

    /// What came is malformed; the loop has answered it.
    fn malformed(&self, error: &HeadError) {
        self.refused(error.status, error.what, None);
    }
}

/// Why a body that was to be sent could not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The body's own source broke.
    Body(BodyError),
    /// The client is gone.
    Client,
}
