//! One connection of the load client: opened when it is first needed, and again when it has ended.

use super::Spec;
use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{cell::RefCell, net::SocketAddr};
use tokio::net::TcpStream;

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) server: Option<String>,
    pub(super) grpc_status: Option<String>,
    pub(super) bytes: usize,
}

type Sender1 = http1::SendRequest<Full<Bytes>>;
type Sender2 = http2::SendRequest<Full<Bytes>>;

/// Holds what can send now.
pub(super) struct Connection {
    to: SocketAddr,
    http2: bool,
    one: RefCell<Option<Sender1>>,
    two: RefCell<Option<Sender2>>,
}

impl Connection {
    pub(super) fn new(to: SocketAddr, http2: bool) -> Self {
        Self { to, http2, one: RefCell::default(), two: RefCell::default() }
    }

    /// The next request opens another one.
    pub(super) fn forget(&self) {
        self.one.take();
        self.two.take();
    }

    /// One request; the error is a short text that names the kind of failure.
    pub(super) async fn ask(&self, spec: &Spec, number: u64) -> Result<Answered, String> {
        let request = request(spec, self.to, self.http2, number)?;
        if self.http2 {
            let kept = self.two.borrow().clone().filter(|sender| !sender.is_closed());
            let mut sender = match kept {
                Some(sender) => sender,
                None => {
                    let sender = self.open2().await?;
                    *self.two.borrow_mut() = Some(sender.clone());
                    sender
                }
            };
            sender.ready().await.map_err(|error| kind(&error))?;
            return read(sender.send_request(request).await).await;
        }
        let kept = self.one.take();
        let mut sender = match kept {
            Some(sender) if !sender.is_closed() => sender,
            _ => self.open1().await?,
        };
        sender.ready().await.map_err(|error| kind(&error))?;
        let answered = read(sender.send_request(request).await).await?;
        *self.one.borrow_mut() = Some(sender);
        Ok(answered)
    }

    async fn dial(&self) -> Result<TokioIo<TcpStream>, String> {
        let stream =
            TcpStream::connect(self.to).await.map_err(|error| format!("connect: {:?}", error.kind()))?;
        let _ = stream.set_nodelay(true);
        Ok(TokioIo::new(stream))
    }

    async fn open1(&self) -> Result<Sender1, String> {
        let (sender, connection) =
            http1::handshake(self.dial().await?).await.map_err(|error| kind(&error))?;
        tokio::task::spawn_local(connection);
        Ok(sender)
    }

    async fn open2(&self) -> Result<Sender2, String> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(1 << 20).initial_connection_window_size(1 << 22);
        let (sender, connection) =
            builder.handshake(self.dial().await?).await.map_err(|error| kind(&error))?;
        tokio::task::spawn_local(connection);
        Ok(sender)
    }
}

fn request(spec: &Spec, to: SocketAddr, http2: bool, number: u64) -> Result<Request<Full<Bytes>>, String> {
    let host = if spec.host.is_empty() { to.to_string() } else { spec.host.clone() };
    let target = if http2 { format!("http://{host}{}", spec.path) } else { spec.path.clone() };
    let uri: Uri = target.parse().map_err(|error| format!("uri: {error}"))?;
    let mut builder = Request::builder().method(spec.method.as_str()).uri(uri);
    if !http2 {
        builder = builder.header("host", host);
    }
    if spec.new_connection && !http2 {
        builder = builder.header("connection", "close");
    }
    builder = builder.header("x-id", format!("{}-{number}", spec.id));
    for (name, value) in &spec.headers {
        builder = builder.header(name, value);
    }
    builder.body(Full::new(Bytes::from(vec![b'b'; spec.body]))).map_err(|error| format!("request: {error}"))
}

async fn read(response: hyper::Result<Response<Incoming>>) -> Result<Answered, String> {
    let (parts, mut body) = response.map_err(|error| kind(&error))?.into_parts();
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let mut answered = Answered {
        status: parts.status.as_u16(),
        server: parts.headers.get("x-server").map(text),
        grpc_status: parts.headers.get("grpc-status").map(text),
        bytes: 0,
    };
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("body: {}", kind(&error)))?;
        answered.bytes += frame.data_ref().map_or(0, Bytes::len);
        if let Some(status) = frame.trailers_ref().and_then(|trailers| trailers.get("grpc-status")) {
            answered.grpc_status = Some(text(status));
        }
    }
    Ok(answered)
}

/// hyper's short word for it, without the changing rest.
fn kind(error: &hyper::Error) -> String {
    let inner = std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<std::io::Error>())
        .map(|source| format!(" ({:?})", source.kind()));
    format!("{error}{}", inner.unwrap_or_default())
}
