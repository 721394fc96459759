//! Serves the gRPC API over TLS, with a certificate of the CA's own that is renewed while it runs.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rcgen::SanType;
use rustls::{ServerConfig, version::TLS13};
use time::OffsetDateTime;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tonic::{Status, codegen::Service};

use super::{
    CaError, CaOptions,
    authority::{Authority, SigningError},
    counts::Counts,
    gate::Gate,
    service::CertificateService,
    tokens::TokenFile,
};
use crate::tls::{Clock, provider};

const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Connections at once; more wait in the listen queue.
const CONNECTIONS: usize = 1024;
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// Then the client connects anew: nobody holds a place for ever.
const LONGEST_CONNECTION: Duration = Duration::from_secs(600);
const REQUESTS_PER_CONNECTION: u32 = 64;
const LARGEST_HEADERS: u32 = 16 * 1024;

/// A CA that has its socket, but does not serve yet.
pub struct Bound {
    listener: TcpListener,
    service: CertificateService,
    own: OwnCertificate,
}

/// Opens state folder, token file and socket; everything that can be wrong is wrong here.
pub async fn bind(options: CaOptions, clock: Clock) -> Result<Bound, CaError> {
    let gate = Gate::JoinTokens(TokenFile::open(&options.token_file)?);
    let authority = Arc::new(Authority::open(options.authority, clock.date())?);
    let (names, counts) = (options.names, Counts::default());
    let serving = Serving { authority, gate, listen: options.listen, names, counts };
    bind_with(serving, clock).await
}

/// What is served, and where.
pub(crate) struct Serving {
    pub(crate) authority: Arc<Authority>,
    pub(crate) gate: Gate,
    pub(crate) listen: SocketAddr,
    /// Further names in the CA's own certificate.
    pub(crate) names: Vec<String>,
    pub(crate) counts: Counts,
}

/// Opens the socket for an authority and a gate that are there.
pub(crate) async fn bind_with(serving: Serving, clock: Clock) -> Result<Bound, CaError> {
    let Serving { authority, gate, listen: address, names: further, counts } = serving;
    let listener = TcpListener::bind(address).await.map_err(|source| CaError::Listen { address, source })?;
    let names = names(address.ip(), &further)?;
    let mut own = OwnCertificate { authority: authority.clone(), names, clock: clock.clone(), current: None };
    own.config()?;
    Ok(Bound { listener, service: CertificateService::new(authority, gate, clock, counts), own })
}

impl Bound {
    /// The address that it listens on.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` is ready, then lets open requests end (each has a deadline).
    pub async fn serve(mut self, stop: impl Future<Output = ()> + Send) {
        let (stopping, stopped) = watch::channel(());
        let mut connections = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                _ = connections.join_next(), if connections.len() >= CONNECTIONS => continue,
                accepted = self.listener.accept(), if connections.len() < CONNECTIONS => accepted,
            };
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((socket, peer)) => match self.own.config() {
                    Ok(config) => {
                        let connection = (socket, peer);
                        connections.spawn(serve(config, connection, self.service.clone(), stopped.clone()));
                    }
                    Err(error) => tracing::error!(%error, "no certificate for the CA's own port"),
                },
                Err(error) => {
                    tracing::warn!(%error, "accept");
                    // Out of descriptors, most likely: do not spin.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop(stopping);
        while connections.join_next().await.is_some() {}
    }
}

/// One connection: handshake and requests under their deadlines, a graceful end when `stopped` closes.
async fn serve(
    config: Arc<ServerConfig>,
    (socket, peer): (TcpStream, SocketAddr),
    service: CertificateService,
    mut stopped: watch::Receiver<()>,
) {
    let _ = socket.set_nodelay(true);
    let stream =
        match tokio::time::timeout(HANDSHAKE_DEADLINE, TlsAcceptor::from(config).accept(socket)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::info!(%peer, %error, "handshake"),
            Err(_) => return tracing::info!(%peer, "handshake took too long"),
        };
    let answer = service_fn(move |request| {
        let mut service = service.clone();
        async move {
            match tokio::time::timeout(REQUEST_DEADLINE, service.call(request)).await {
                Ok(answer) => answer,
                Err(_) => Ok(Status::deadline_exceeded("the request did not arrive in time").into_http()),
            }
        }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(60)))
        .max_concurrent_streams(REQUESTS_PER_CONNECTION)
        .max_header_list_size(LARGEST_HEADERS)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        // No value is ever sent: this is ready when the sender is gone.
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = tokio::time::sleep(LONGEST_CONNECTION) => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(REQUEST_DEADLINE, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection");
    }
}

/// The certificate of the gRPC port; renewed at half-life and when another root signs, by the next connection.
struct OwnCertificate {
    authority: Arc<Authority>,
    names: Vec<SanType>,
    clock: Clock,
    current: Option<OwnConfig>,
}

struct OwnConfig {
    renew_at: OffsetDateTime,
    /// Tells the root that signed it: when that began to sign.
    signer: Option<OffsetDateTime>,
    config: Arc<ServerConfig>,
}

impl OwnCertificate {
    fn config(&mut self) -> Result<Arc<ServerConfig>, CaError> {
        let now = self.clock.date();
        // While the roots are not known, the certificate that is there serves on.
        let signer = self.authority.signs_since(now).ok().flatten();
        let fits = |own: &&OwnConfig| now < own.renew_at && (signer.is_none() || own.signer == signer);
        if let Some(own) = self.current.as_ref().filter(fits) {
            return Ok(own.config.clone());
        }
        let (chain, key, not_after) = self.authority.own_certificate(&self.names, now)?;
        let mut config = ServerConfig::builder_with_details(provider(), Arc::new(self.clock.clone()))
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        let config = Arc::new(config);
        let renew_at = now + (not_after - now) / 2;
        self.current = Some(OwnConfig { renew_at, signer, config: config.clone() });
        Ok(config)
    }
}

fn names(listen: IpAddr, further: &[String]) -> Result<Vec<SanType>, SigningError> {
    let mut names =
        vec![SanType::DnsName("posthaste-ca".try_into()?), SanType::DnsName("localhost".try_into()?)];
    if !listen.is_unspecified() {
        names.push(SanType::IpAddress(listen));
    }
    for name in further {
        names.push(match name.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.as_str().try_into()?),
        });
    }
    Ok(names)
}
