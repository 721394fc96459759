//! Shared HTTP/2 connections and one request on a stream of them.

use std::{
    cell::RefCell,
    task::{Context, Poll},
};

use http::Request;

use super::{Answer, Caller, Failure, Informational, SendError, SendOptions};
use crate::{
    path::http::body::{Body, BodyError},
    snapshot::{Endpoint, ServicePort},
};

#[derive(Default)]
pub(super) struct Shares(RefCell<Vec<()>>);

impl Shares {
    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
    pub(super) fn len(&self) -> usize {
        self.0.borrow().len()
    }
    pub(super) fn drain(&self) {}
}

pub(super) struct Sending2;
impl Sending2 {
    pub(super) fn poll(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        Poll::Ready(Ok(()))
    }
}

pub(super) async fn send(
    _caller: &Caller<'_>,
    _port: &ServicePort,
    _endpoint: &Endpoint,
    _request: Request<Body>,
    _options: &SendOptions,
    _informational: Informational<'_>,
) -> Result<Answer, SendError> {
    Err(SendError::not_sent(Failure::Handshake))
}
