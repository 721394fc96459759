//! Watches the answer of a gRPC call that passes by: reads the status off its trailers, for the record and for what is thought of the
//! endpoint, and ends it with a status of our own where the endpoint breaks off or time is up, since a bare reset tells the caller
//! nothing.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Response, StatusCode};
use tokio::time::{Sleep, sleep};

use super::{
    answer::{self, Local},
    body::{Body, BodyError, BodySource, Frame},
};
use crate::{
    observe::requests::{RequestFlag, RequestRecord},
    resilience::outlier::Outcome,
};

/// What the end of the answer says about the endpoint; none where there was no end, or it was ours.
pub(super) type Ending = Rc<Cell<Option<Outcome>>>;

/// The answer of a gRPC call, which has so long left.
pub(super) fn grpc(
    response: Response<Body>,
    left: Option<Duration>,
    record: &Rc<RequestRecord>,
) -> (Response<Body>, Ending) {
    let ending = Ending::default();
    if response.body().is_end() {
        return (response, ending);
    }
    let (head, inner) = response.into_parts();
    let watched = Watched {
        inner,
        status: head.status.as_u16(),
        record: Rc::clone(record),
        late: left.map(|left| Box::pin(sleep(left))),
        ending: Rc::clone(&ending),
        over: false,
    };
    (Response::from_parts(head, Body::Source(Box::new(watched))), ending)
}

struct Watched {
    inner: Body,
    status: u16,
    record: Rc<RequestRecord>,
    late: Option<Pin<Box<Sleep>>>,
    ending: Ending,
    over: bool,
}

impl Watched {
    fn end(&mut self, local: &Local) -> Frame {
        self.record.flag(local.flag);
        // What is left of it is cancelled.
        self.inner = Body::Empty;
        self.note(local.trailers())
    }

    fn note(&mut self, trailers: http::HeaderMap) -> Frame {
        self.over = true;
        self.record.response(self.status, answer::grpc_status(&trailers));
        Frame::Trailers(trailers)
    }
}

impl BodySource for Watched {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if self.late.as_mut().is_some_and(|late| late.as_mut().poll(cx).is_ready()) {
            let text = "the answer was not complete in time";
            let local = Local::new(StatusCode::GATEWAY_TIMEOUT, RequestFlag::UpstreamTimeout, text);
            return Poll::Ready(Some(Ok(self.end(&local))));
        }
        self.inner.poll_frame(cx).map(|next| match next {
            Some(Ok(Frame::Trailers(trailers))) => {
                // Without a status it is UNKNOWN.
                let status = answer::grpc_status(&trailers).unwrap_or(2);
                self.ending.set(Some(Outcome::of_grpc(status)));
                Some(Ok(self.note(trailers)))
            }
            Some(Err(error)) => {
                self.ending.set(Some(Outcome::GatewayFailure));
                let text = format!("the answer broke off: {error}");
                let local = Local::new(StatusCode::SERVICE_UNAVAILABLE, RequestFlag::UpstreamClosed, text);
                Some(Ok(self.end(&local)))
            }
            next => next,
        })
    }

    fn remaining(&self) -> Option<u64> {
        // It may end otherwise than announced.
        None
    }

    fn is_end(&self) -> bool {
        self.over || self.inner.is_end()
    }
}
