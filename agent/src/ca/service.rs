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
    authority::{Authority, IssuedLeaf, SigningError},
    counts::Counts,
    gate::{Asker, Gate},
    rate::Bucket,
    request::RequestError,
    state::StateError,
};
use crate::tls::Clock;

/// Certificates a second that one token gets, after a burst: a node has hundreds of service accounts at most.
const PER_SECOND: u64 = 100;
const BURST: u64 = 2_000;

struct Inner {
    authority: Arc<Authority>,
    gate: Gate,
    clock: Clock,
    counts: Counts,
    /// By holder; the token file, or the number of agents, bounds how many.
    buckets: Mutex<HashMap<String, Bucket>>,
}

/// `IstioCertificateService`; clones share everything.
#[derive(Clone)]
pub(crate) struct CertificateService(Arc<Inner>);

impl CertificateService {
    pub(crate) fn new(authority: Arc<Authority>, gate: Gate, clock: Clock, counts: Counts) -> Self {
        Self(Arc::new(Inner { authority, gate, clock, counts, buckets: Mutex::default() }))
    }
}

impl Inner {
    async fn create(&self, request: &Request<CreateRequest>) -> Result<Response<CreateResponse>, Status> {
        let asker = self.gate.admit(bearer(request)?).await;
        let asker =
            asker.inspect_err(|status| tracing::warn!(reason = status.message(), "a caller was refused"))?;
        self.admit(&asker.name)?;
        let holder = asker.name.as_str();
        match self.issue(&asker, request.get_ref()).await {
            Ok(leaf) => {
                tracing::info!(identity = %leaf.id, serial = leaf.serial, not_after = %leaf.not_after, holder, "certificate issued");
                Ok(Response::new(CreateResponse { cert_chain: leaf.cert_chain }))
            }
            Err(status) => {
                tracing::warn!(reason = status.message(), holder, "certificate refused");
                Err(status)
            }
        }
    }

    async fn issue(&self, asker: &Asker, message: &CreateRequest) -> Result<IssuedLeaf, Status> {
        let asked = u64::try_from(message.validity_duration).map_err(|_| {
            Status::invalid_argument("field `validity_duration`: must not be negative; 0 leaves it to the CA")
        })?;
        let checked = self.authority.check(&message.csr, message.impersonated());
        let checked = checked.map_err(|error| refusal(&error.into()))?;
        self.gate.allows(asker, &checked.id).await?;
        let validity = Some(Duration::from_secs(asked));
        self.authority.certify(checked, validity, self.clock.date()).map_err(|error| refusal(&error))
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

fn bearer(request: &Request<CreateRequest>) -> Result<&str, Status> {
    let header = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
    header.and_then(|value| value.strip_prefix("Bearer ")).ok_or_else(|| {
        Status::unauthenticated("no token: expected the metadata `authorization: Bearer <token>`")
    })
}

fn refusal(error: &SigningError) -> Status {
    match error {
        SigningError::Request(RequestError::TrustDomain { .. }) => {
            Status::permission_denied(error.to_string())
        }
        SigningError::Request(_) => Status::invalid_argument(error.to_string()),
        SigningError::State(StateError::Cluster(_)) => Status::unavailable(error.to_string()),
        _ => {
            tracing::error!(%error, "signing");
            Status::new(Code::Internal, "the CA could not sign; its log says why")
        }
    }
}

struct Create(Arc<Inner>);

impl UnaryService<CreateRequest> for Create {
    type Response = CreateResponse;
    type Future = BoxFuture<Response<CreateResponse>, Status>;

    fn call(&mut self, request: Request<CreateRequest>) -> Self::Future {
        let inner = self.0.clone();
        Box::pin(async move {
            let answer = inner.create(&request).await;
            match &answer {
                Ok(_) => inner.counts.issued(),
                Err(status) => inner.counts.refused(status.code()),
            }
            answer
        })
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
