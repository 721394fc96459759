//! The gRPC client of the Istio CA API: ours, istiod's or istio-csr's.
//!
//! The CA's TLS certificate is checked against a root file; that file and the token file are read at every request, so that a
//! rotation of either is followed without a restart.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, version::TLS13};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    Code, Status,
    client::Grpc,
    metadata::{AsciiMetadataValue, MetadataValue},
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use super::source::{CertificateSource, IssueError, Issued, Issuing};
use crate::{
    ca::api::{self, CreateRequest, CreateResponse},
    snapshot::spiffe::SpiffeId,
    tls::{Bundle, Clock, provider},
};

/// Where the CA is and how to speak to it.
#[derive(Debug, Clone)]
pub struct CaClientOptions {
    /// `https://host:port`.
    pub url: String,
    /// The name in the CA's certificate, where it is not the host of the URL.
    pub server_name: Option<String>,
    /// PEM file with the roots that the CA's own certificate is checked against.
    pub root_file: PathBuf,
    /// File with the bearer token: join token, or projected service account token.
    pub token_file: PathBuf,
    /// Istio's `clusterid`, where the CA wants one.
    pub cluster_id: Option<String>,
    /// How long connecting may take.
    pub connect_timeout: Duration,
}

/// Why a client cannot be made of the options.
#[derive(Debug, thiserror::Error)]
pub enum CaClientError {
    /// Not a URL that we can dial.
    #[error("CA address `{0}`: expected https://host:port")]
    Url(String),
    /// Not a host name.
    #[error("CA server name `{0}` is neither a DNS name nor an address")]
    ServerName(String),
}

/// A client; the connection is made when it is needed, and made anew when it broke.
pub struct CaClient {
    options: CaClientOptions,
    endpoint: Endpoint,
    name: ServerName<'static>,
    clock: Clock,
    /// The channel with the roots that it was made for.
    channel: Mutex<Option<(Vec<u8>, Channel)>>,
}

impl CaClient {
    /// Checks the options; does not connect yet.
    pub fn new(options: CaClientOptions, clock: Clock) -> Result<Self, CaClientError> {
        let wrong = || CaClientError::Url(options.url.clone());
        let uri: Uri = options.url.parse().map_err(|_| wrong())?;
        let host = uri.host().filter(|_| uri.scheme_str() == Some("https")).ok_or_else(wrong)?;
        let host = options.server_name.clone().unwrap_or_else(|| host.trim_matches(['[', ']']).to_owned());
        let name = ServerName::try_from(host.clone()).map_err(|_| CaClientError::ServerName(host))?;
        let endpoint = Endpoint::from(uri)
            .connect_timeout(options.connect_timeout)
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(10));
        Ok(Self { options, endpoint, name, clock, channel: Mutex::new(None) })
    }

    async fn create(&self, id: &SpiffeId, csr: &str, validity: Duration) -> Result<Issued, IssueError> {
        let token = read(&self.options.token_file, "token").await?;
        let roots = read(&self.options.root_file, "CA roots").await?;
        let message = CreateRequest::new(csr.to_owned(), id.as_str(), validity);
        let request = self.authorize(tonic::Request::new(message), &token)?;
        let mut grpc = Grpc::new(self.channel(roots)?).max_decoding_message_size(api::LARGEST_ANSWER);
        let away = |error: &dyn std::fmt::Display| {
            IssueError::Unavailable(format!("CA {}: {error}", self.options.url))
        };
        grpc.ready().await.map_err(|error| away(&causes(&error)))?;
        let path = http::uri::PathAndQuery::from_static(api::PATH);
        let answer = grpc.unary(request, path, ProstCodec::<CreateRequest, CreateResponse>::default()).await;
        match answer {
            Ok(answer) => Ok(Issued { cert_chain: answer.into_inner().cert_chain }),
            Err(status) => Err(self.failure(&status)),
        }
    }

    fn authorize<T>(
        &self,
        mut request: tonic::Request<T>,
        token: &[u8],
    ) -> Result<tonic::Request<T>, IssueError> {
        let token = String::from_utf8_lossy(token);
        let bearer: Result<AsciiMetadataValue, _> =
            MetadataValue::try_from(format!("Bearer {}", token.trim()));
        let mut bearer = bearer.map_err(|_| {
            IssueError::Refused(format!(
                "token file {}: not one line of ASCII",
                self.options.token_file.display()
            ))
        })?;
        bearer.set_sensitive(true);
        request.metadata_mut().insert("authorization", bearer);
        if let Some(cluster) =
            self.options.cluster_id.as_deref().and_then(|id| MetadataValue::try_from(id).ok())
        {
            request.metadata_mut().insert("clusterid", cluster);
        }
        Ok(request)
    }

    fn channel(&self, roots: Vec<u8>) -> Result<Channel, IssueError> {
        let mut known = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, channel)) = known.as_ref().filter(|(for_roots, _)| *for_roots == roots) {
            return Ok(channel.clone());
        }
        let connector = Connector { config: self.config(&roots)?, name: self.name.clone() };
        let channel = self.endpoint.connect_with_connector_lazy(connector);
        *known = Some((roots, channel.clone()));
        Ok(channel)
    }

    fn config(&self, roots: &[u8]) -> Result<Arc<ClientConfig>, IssueError> {
        let file = self.options.root_file.display();
        let bundle =
            Bundle::from_pem(roots).map_err(|error| IssueError::Unavailable(format!("{file}: {error}")))?;
        let builder = ClientConfig::builder_with_details(provider(), Arc::new(self.clock.clone()))
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| IssueError::Unavailable(error.to_string()))?;
        let mut config = builder.with_root_certificates(bundle.store()).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }

    fn failure(&self, status: &Status) -> IssueError {
        let said = if status.message().is_empty() { status.code().description() } else { status.message() };
        let text = format!("CA {}: {}", self.options.url, with_causes(said.to_owned(), status));
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument | Code::Unimplemented => {
                IssueError::Refused(text)
            }
            _ => IssueError::Unavailable(text),
        }
    }
}

impl CertificateSource for CaClient {
    fn issue<'a>(&'a self, id: &'a SpiffeId, csr: &'a str, validity: Duration) -> Issuing<'a> {
        Box::pin(self.create(id, csr, validity))
    }
}

/// The error with everything below it: tonic's own text is only `transport error`.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    with_causes(error.to_string(), error)
}

fn with_causes(mut text: String, error: &(dyn std::error::Error + 'static)) -> String {
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

async fn read(path: &Path, what: &str) -> Result<Vec<u8>, IssueError> {
    let owned = path.to_owned();
    let content = tokio::task::spawn_blocking(move || std::fs::read(owned)).await;
    let content = content.map_err(|error| IssueError::Unavailable(error.to_string()))?;
    content.map_err(|error| IssueError::Unavailable(format!("{what} file {}: {error}", path.display())))
}

/// Dials the CA and shakes hands with it.
#[derive(Clone)]
struct Connector {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl tonic::codegen::Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (config, name) = (self.config.clone(), self.name.clone());
        Box::pin(async move {
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            let port = uri.port_u16().unwrap_or(443);
            let stream = match host.parse() {
                Ok(address) => TcpStream::connect(SocketAddr::new(address, port)).await?,
                Err(_) => TcpStream::connect((host, port)).await?,
            };
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(TlsConnector::from(config).connect(name, stream).await?))
        })
    }
}
