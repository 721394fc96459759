//! Reads the gRPC status off the trailers of an answer that passes by, for its record.

use std::{
    rc::Rc,
    task::{Context, Poll, ready},
};

use http::Response;

use super::{
    answer,
    body::{Body, BodyError, BodySource, Frame},
};
use crate::observe::requests::RequestRecord;

/// Watches the answer of a gRPC call; others pass as they are.
pub fn trailers(response: Response<Body>, grpc: bool, record: &Rc<RequestRecord>) -> Response<Body> {
    if !grpc || response.body().is_end() {
        return response;
    }
    let (status, record) = (response.status().as_u16(), Rc::clone(record));
    response.map(|inner| Body::Source(Box::new(Watched { inner, status, record })))
}

struct Watched {
    inner: Body,
    status: u16,
    record: Rc<RequestRecord>,
}

impl BodySource for Watched {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let next = ready!(self.inner.poll_frame(cx));
        if let Some(Ok(Frame::Trailers(trailers))) = &next {
            self.record.response(self.status, answer::grpc_status(trailers));
        }
        Poll::Ready(next)
    }

    fn remaining(&self) -> Option<u64> {
        self.inner.remaining()
    }

    fn is_end(&self) -> bool {
        self.inner.is_end()
    }
}
