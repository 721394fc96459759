//! The gRPC service: who asks, how often, for whom; then the authority signs.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tonic::{
    Code, Request, Response, Status,
    codegen::{Body, BoxFuture, Service, StdError},
    server::{Grpc, UnaryService},
};
use tonic_prost::ProstCodec;

use super::{
    api::{self, CreateRequest, CreateResponse},
    authority::{Authority, SigningError},
    rate::Bucket,
    request::RequestError,
    tokens::TokenFile,
};
use crate::tls::Clock;

/// Certificates a second that one token gets, after a burst: a node has hundreds of service accounts at most.
const PER_SECOND: u64 = 100;
const BURST: u64 = 2_000;

struct Inner {
    authority: Arc<Authority>,
    tokens: TokenFile,
    clock: Clock,
    /// By holder; the token file bounds how many.
    buckets: Mutex<HashMap<String, Bucket>>,
}

/// `IstioCertificateService`; clones share everything.
#[derive(Clone)]
pub(crate) struct CertificateService(Arc<Inner>);

impl CertificateService {
    pub(crate) fn new(authority: Arc<Authority>, tokens: TokenFile, clock: Clock) -> Self {
        Self(Arc::new(Inner { authority, tokens, clock, buckets: Mutex::default() }))
    }
}

impl Inner {
    fn create(&self, request: &Request<CreateRequest>) -> Result<Response<CreateResponse>, Status> {
        let holder = self.authenticate(request)?;
        self.admit(&holder)?;
        let message = request.get_ref();
        let asked = u64::try_from(message.validity_duration).map_err(|_| {
            Status::invalid_argument("field `validity_duration`: must not be negative; 0 leaves it to the CA")
        })?;
        let validity = Some(Duration::from_secs(asked));
        let issued = self.authority.issue(&message.csr, message.impersonated(), validity, self.clock.date());
        match issued {
            Ok(leaf) => {
                tracing::info!(identity = %leaf.id, serial = leaf.serial, not_after = %leaf.not_after, holder, "certificate issued");
                Ok(Response::new(CreateResponse { cert_chain: leaf.cert_chain }))
            }
            Err(error) => {
                tracing::warn!(%error, holder, "certificate refused");
                Err(refusal(&error))
            }
        }
    }

    fn authenticate(&self, request: &Request<CreateRequest>) -> Result<String, Status> {
        let header = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let token = header.and_then(|value| value.strip_prefix("Bearer ")).ok_or_else(|| {
            Status::unauthenticated("no join token: expected the metadata `authorization: Bearer <token>`")
        })?;
        let holder = self.tokens.holder(token).map_err(|error| {
            tracing::error!(%error, "nobody can join");
            Status::unavailable("the CA cannot read its token file; its log says why")
        })?;
        holder.ok_or_else(|| {
            tracing::warn!("a caller with an unknown join token was refused");
            Status::unauthenticated("unknown join token: it must be a line of the CA's token file")
        })
    }

    fn admit(&self, holder: &str) -> Result<(), Status> {
        let now = self.clock.millis();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry(holder.to_owned()).or_insert_with(|| Bucket::new(PER_SECOND, BURST, now));
        match bucket.take(now) {
            true => Ok(()),
            false => Err(Status::resource_exhausted(format!("more than {PER_SECOND} certificates a second"))),
        }
    }
}

fn refusal(error: &SigningError) -> Status {
    match error {
        SigningError::Request(RequestError::TrustDomain { .. }) => {
            Status::permission_denied(error.to_string())
        }
        SigningError::Request(_) => Status::invalid_argument(error.to_string()),
        _ => Status::new(Code::Internal, "the CA could not sign; its log says why"),
    }
}

struct Create(Arc<Inner>);

impl UnaryService<CreateRequest> for Create {
    type Response = CreateResponse;
    type Future = BoxFuture<Response<CreateResponse>, Status>;

    fn call(&mut self, request: Request<CreateRequest>) -> Self::Future {
        let inner = self.0.clone();
        Box::pin(async move { inner.create(&request) })
    }
}

impl<B> Service<http::Request<B>> for CertificateService
where
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send,
    B::Data: Send,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let inner = self.0.clone();
        Box::pin(async move {
            if request.uri().path() != api::PATH {
                return Ok(Status::unimplemented(format!("only {} is served", api::PATH)).into_http());
            }
            let codec = ProstCodec::<CreateResponse, CreateRequest>::default();
            let mut grpc = Grpc::new(codec).max_decoding_message_size(api::LARGEST_REQUEST);
            Ok(grpc.unary(Create(inner), request).await)
        })
    }
}
