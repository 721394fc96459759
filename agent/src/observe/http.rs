//! A small HTTP/1.1 server for machines and people on the control runtime: GET only, bounded connections, bounded time. It never
//! reads a request's body.

use super::{exposition, peer_uid};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    header,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::Semaphore,
};

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 64;
/// For the head of a request, also the first one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// For a whole connection with all its requests; scrapers connect again.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(300);
/// Bytes of a head.
const HEAD_BYTES: usize = 16 * 1024;

/// Says which version of the answers an agent speaks.
pub const VERSION_HEADER: &str = "posthaste-admin";

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// `content-type`.
    pub content: &'static str,
    /// What follows.
    pub body: AnswerBody,
}

/// Pieces of a text that go on until there are no more; dropped when the client left.
pub type Pieces = Box<dyn FnMut(&mut Context<'_>) -> Poll<Option<Bytes>> + Send>;

/// The text of an answer.
pub enum AnswerBody {
    /// As a whole.
    Whole(Bytes),
    /// As it comes.
    Pieces(Pieces),
}

impl From<String> for AnswerBody {
    fn from(text: String) -> Self {
        Self::Whole(text.into())
    }
}

impl fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Whole(_) => "Whole",
            Self::Pieces(_) => "Pieces",
        })
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = match self.get_mut() {
            Self::Whole(text) if text.is_empty() => None,
            Self::Whole(text) => Some(std::mem::take(text)),
            Self::Pieces(pieces) => match pieces(context) {
                Poll::Ready(piece) => piece,
                Poll::Pending => return Poll::Pending,
            },
        };
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(text) => SizeHint::with_exact(text.len() as u64),
            Self::Pieces(_) => SizeHint::default(),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(text) if text.is_empty())
    }
}

impl Answer {
    /// A plain text.
    #[must_use]
    pub fn text(status: StatusCode, body: impl Into<String>) -> Self {
        Self { status, content: "text/plain; charset=utf-8", body: body.into().into() }
    }

    /// Metrics in the format that the client takes (RFC 9110, section 12.5.1); other answers as they are.
    fn fitting(self, accept: &str) -> Self {
        match self.body {
            AnswerBody::Whole(text)
                if self.content == exposition::OPEN_METRICS && !exposition::takes_open_metrics(accept) =>
            {
                let body = exposition::classic(&String::from_utf8_lossy(&text)).into();
                Self { content: exposition::CLASSIC, body, ..self }
            }
            body => Self { body, ..self },
        }
    }

    /// A JSON value; 500 where it cannot be written.
    #[must_use]
    pub fn json<T: serde::Serialize>(value: &T) -> Self {
        match serde_json::to_string(value) {
            Ok(body) => Self { status: StatusCode::OK, content: "application/json", body: body.into() },
            Err(error) => Self::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }
}

/// Answers a path and its query.
pub type Answers = Arc<dyn Fn(&str, &str) -> Answer + Send + Sync>;

/// Where connections come from.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// TCP on the loopback address, for processes of our own user (root) only.
    Own(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

/// Serves until the task is dropped. Run it on a tokio runtime with I/O and time.
pub async fn serve(listener: Listener, answers: Answers) -> Infallible {
    serve_with(listener, move |request| std::future::ready(respond(&request, &answers))).await
}

/// The same for who looks at more of a request than its path, or takes time to answer.
pub async fn serve_with<F, R>(listener: Listener, respond: F) -> Infallible
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + 'static,
    R: Future<Output = Response<AnswerBody>> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else {
            std::future::pending::<()>().await;
            continue;
        };
        let work = match accept(&listener).await {
            Ok(io) => carry(io, respond.clone()),
            Err(_) => {
                // Out of descriptors or the like: a busy loop would make it worse.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        tokio::spawn(async move {
            let _ = tokio::time::timeout(CONNECTION_TIMEOUT, work).await;
            drop(permit);
        });
    }
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

async fn accept(listener: &Listener) -> io::Result<Box<dyn Io>> {
    Ok(match listener {
        Listener::Tcp(listener) => Box::new(listener.accept().await?.0),
        Listener::Own(listener) => loop {
            let (stream, peer) = listener.accept().await?;
            // Another's connection is closed without a word.
            if is_own(peer, stream.local_addr()?) {
                break Box::new(stream);
            }
        },
        Listener::Unix(listener) => Box::new(listener.accept().await?.0),
    })
}

fn is_own(peer: SocketAddr, local: SocketAddr) -> bool {
    let (SocketAddr::V4(peer), SocketAddr::V4(local)) = (peer, local) else { return false };
    peer_uid::of(peer, local).is_ok_and(|uid| uid == Some(rustix::process::geteuid().as_raw()))
}

async fn carry<F, R>(io: Box<dyn Io>, respond: F)
where
    F: Fn(Request<Incoming>) -> R,
    R: Future<Output = Response<AnswerBody>>,
{
    let service = service_fn(move |request| {
        let response = respond(request);
        async move { Ok::<_, Infallible>(response.await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES);
    // A client that breaks HTTP or leaves is its own business.
    let _ = server.serve_connection(TokioIo::new(io), service).await;
}

fn respond<B>(request: &Request<B>, answers: &Answers) -> Response<AnswerBody> {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let answer = if matches!(*request.method(), Method::GET | Method::HEAD) {
        answers(request.uri().path(), request.uri().query().unwrap_or_default())
            .fitting(accept.unwrap_or_default())
    } else {
        Answer::text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n")
    };
    let mut response = Response::new(answer.body);
    *response.status_mut() = answer.status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(answer.content));
    response.headers_mut().insert(VERSION_HEADER, header::HeaderValue::from(super::views::ADMIN_VERSION));
    response
}
