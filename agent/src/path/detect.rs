//! Stage `detect`: what a connection to a service port speaks. What the Service declares wins; else what the port taught; else the
//! first bytes, whoever sends them, while the other side is being reached. Nothing is taken from either side, but what a client says
//! to a port that is declared as HTTP.
//!
//! | the port | what happens |
//! |---|---|
//! | declared `tcp`, or learnt to be server-first | connects, looks at nothing |
//! | declared `tls` | connects; the ClientHello is looked at for its server name |
//! | declared HTTP | waits for the request; whoever handles HTTP connects |
//! | learnt to be HTTP | the same, but after a second of silence as below |
//! | else | connects and races: the client's first bytes decide, or the server's |

pub mod first;
pub mod hello;
mod incoming;
mod peek;
mod taken;

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::Context,
    time::Duration,
};

use bytes::Bytes;
use http::Version;
use tokio::{net::TcpStream, time::timeout};

use super::{
    connect::{Far, Reached},
    flow,
    socket::Socket,
};
use crate::{
    observe::CloseReason,
    snapshot::{
        Protocol, ServicePort,
        protocol::{Lesson, Why},
    },
    tunnel::ReceiveHalf,
};
pub use first::{Guess, classify};
pub use hello::sni;
pub use incoming::incoming;
use {
    first::{Spoke, classify_server},
    hello::Hello,
    peek::Seen,
};

/// How long a client that has begun may take to say enough, and how long a client of a port that is known for HTTP may take to begin
/// before its endpoint is chosen.
const PATIENCE: Duration = Duration::from_secs(1);

/// HTTP/1.1 or HTTP/2, and what was taken of the connection to see that. HTTP/1.1 also where a port that is declared as HTTP hears
/// neither, which HTTP/1 then refuses.
pub type Heard = (Version, Bytes);

/// What a connection speaks. What was reached on the way to knowing is dropped where each request chooses for itself.
pub enum Spoken {
    /// Requests.
    Http(Heard),
    /// Bytes that are only carried.
    Opaque {
        /// Always there on success.
        far: Option<Reached>,
        /// Server name of the application's own TLS.
        sni: Option<String>,
    },
}

/// How a connection to a port begins, by what is known of the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Approach {
    /// Connects and looks at nothing.
    Connect(Why),
    /// Connects, and hears the ClientHello for its server name.
    Name(Why),
    /// Waits for a request of the declared protocol.
    Request(Protocol, Why),
    /// Waits for a request, as earlier connections made them; after a second of silence as [`Approach::Race`].
    Expect,
    /// Connects, and whoever speaks first decides.
    Race,
}

/// What is known of a port decides how its connections begin. Nothing is waited for.
#[must_use]
pub fn approach(port: &ServicePort) -> Approach {
    match (port.protocol, port.state.learnt.lesson()) {
        (Protocol::Tcp, _) => Approach::Connect(port.protocol_why),
        (Protocol::Tls, _) => Approach::Name(port.protocol_why),
        (declared @ (Protocol::Http | Protocol::Http2 | Protocol::Grpc), _) => {
            Approach::Request(declared, port.protocol_why)
        }
        (Protocol::Detect, Some(Lesson::ServerFirst)) => Approach::Connect(Why::Learnt),
        (Protocol::Detect, Some(Lesson::Http)) => Approach::Expect,
        (Protocol::Detect, Some(Lesson::ClientFirst) | None) => Approach::Race,
    }
}

/// Decides what a connection speaks and reaches the far side where that needs no request. `connect` is polled when it is needed.
///
/// # Errors
/// `connect` did not reach anything.
pub async fn decide(
    port: &ServicePort,
    near: &Socket,
    connect: impl Future<Output = Result<Reached, CloseReason>>,
) -> Result<(Spoken, Protocol, Why), CloseReason> {
    let connect = pin!(connect);
    match approach(port) {
        Approach::Connect(why) => Ok((opaque(connect.await?, None), Protocol::Tcp, why)),
        Approach::Name(why) => {
            let (far, sni) = race_for_name(waits(near)?, connect).await?;
            Ok((opaque(far, sni), Protocol::Tls, why))
        }
        Approach::Request(said, why) => {
            let (heard, protocol, why) = declared(said, why, near).await;
            Ok((Spoken::Http(heard), protocol, why))
        }
        Approach::Expect => {
            let near = waits(near)?;
            match timeout(PATIENCE, first_bytes(near)).await {
                Ok(guess) => client_spoke(port, near, guess, None, connect).await,
                Err(_) => race_for_bytes(port, near, connect).await,
            }
        }
        Approach::Race => race_for_bytes(port, waits(near)?, connect).await,
    }
}

/// A client that is waited for while others are.
fn waits(near: &Socket) -> Result<&TcpStream, CloseReason> {
    near.told().map_err(|_| CloseReason::ClientReset)
}

/// Waits for the first request on a port that is `declared` as HTTP; what is spoken in truth, and who says so. The bytes are taken: to
/// look at them and leave them there would be a system call more for each connection.
pub async fn declared(declared: Protocol, why: Why, near: &Socket) -> (Heard, Protocol, Why) {
    let (mut ahead, mut chunk) = (Bytes::new(), flow::SMALL);
    let read = |context: &mut Context<'_>| near.poll_read(&mut chunk, flow::LARGE, context);
    let guess = taken::until_known(&mut ahead, PATIENCE, read).await;
    let version = version_of(guess);
    let (protocol, why) = match (declared, version) {
        (Protocol::Http, Version::HTTP_2) => (Protocol::Http2, Why::FirstBytes),
        (Protocol::Http2 | Protocol::Grpc, Version::HTTP_11) => (Protocol::Http, Why::FirstBytes),
        _ => (declared, why),
    };
    ((version, ahead), protocol, why)
}

/// What is spoken with a client of HTTP.
fn version_of(guess: Guess) -> Version {
    if guess == Guess::Http2 { Version::HTTP_2 } else { Version::HTTP_11 }
}

/// The client's first bytes; pending until they decide. `Other` also where the client ends or breaks first, `More` where it falls silent
/// in the middle of a word.
pub async fn first_bytes(near: &TcpStream) -> Guess {
    let judge = |bytes: &[u8]| Some(classify(bytes)).filter(|guess| *guess != Guess::More);
    match peek::until::<{ first::WINDOW }, Guess>(near, PATIENCE, judge).await {
        Seen::Decided(guess) => guess,
        Seen::Ended => Guess::Other,
        Seen::TooLittle => Guess::More,
    }
}

/// The server name of the client's TLS, once it has said it or will not.
async fn server_name(near: &TcpStream) -> Option<String> {
    let judge = |bytes: &[u8]| Some(hello::read(bytes)).filter(|hello| *hello != Hello::More);
    match peek::until::<{ hello::WINDOW }, Hello>(near, PATIENCE, judge).await {
        Seen::Decided(Hello::Name(name)) => Some(name),
        Seen::Decided(Hello::Nameless | Hello::More) | Seen::Ended | Seen::TooLittle => None,
    }
}

type Decided = Result<(Spoken, Protocol, Why), CloseReason>;

/// Whichever side says something first.
async fn race_for_bytes<C>(port: &ServicePort, near: &TcpStream, mut connect: Pin<&mut C>) -> Decided
where
    C: Future<Output = Result<Reached, CloseReason>>,
{
    let mut client = pin!(first_bytes(near));
    let mut reached = tokio::select! {
        biased;
        guess = &mut client => return client_spoke(port, near, guess, None, connect).await,
        reached = &mut connect => reached?,
    };
    let spoke = tokio::select! {
        biased;
        guess = &mut client => return client_spoke(port, near, guess, Some(reached), connect).await,
        spoke = server_spoke(&mut reached.far) => spoke,
    };
    match spoke {
        // The client's preface is still to come.
        Spoke::Http2 => {
            let guess = client.await;
            client_spoke(port, near, guess, Some(reached), connect).await
        }
        Spoke::Other => {
            port.state.learnt.note(Lesson::ServerFirst);
            Ok((opaque(reached, None), Protocol::Tcp, Why::ServerFirst))
        }
        // What a server says to a client that it is tired of teaches nothing.
        Spoke::Http1 | Spoke::Ended => Ok((opaque(reached, None), Protocol::Tcp, Why::ServerFirst)),
    }
}

/// The client has decided; `far` where the far side is already there.
async fn client_spoke<C>(
    port: &ServicePort,
    near: &TcpStream,
    guess: Guess,
    far: Option<Reached>,
    connect: Pin<&mut C>,
) -> Decided
where
    C: Future<Output = Result<Reached, CloseReason>>,
{
    let learnt = &port.state.learnt;
    let protocol = match guess {
        Guess::Http1 => Protocol::Http,
        Guess::Http2 => Protocol::Http2,
        Guess::Tls => Protocol::Tls,
        Guess::Other | Guess::More => Protocol::Tcp,
    };
    if protocol.is_http() {
        learnt.note(Lesson::Http);
        let heard = (version_of(guess), Bytes::new());
        return Ok((Spoken::Http(heard), protocol, Why::FirstBytes));
    }
    let ended = guess == Guess::Other && is_empty(near);
    let why = if ended || guess == Guess::More { Why::Silence } else { Why::FirstBytes };
    if why == Why::FirstBytes {
        learnt.note(Lesson::ClientFirst);
    }
    let (far, sni) = match far {
        Some(far) if protocol == Protocol::Tls => (far, server_name(near).await),
        Some(far) => (far, None),
        None if protocol == Protocol::Tls => race_for_name(near, connect).await?,
        None => (connect.await?, None),
    };
    Ok((opaque(far, sni), protocol, why))
}

/// Reaches the far side, and hears the client's ClientHello unless the server speaks before it.
async fn race_for_name<C>(
    near: &TcpStream,
    mut connect: Pin<&mut C>,
) -> Result<(Reached, Option<String>), CloseReason>
where
    C: Future<Output = Result<Reached, CloseReason>>,
{
    let mut name = pin!(server_name(near));
    let mut reached = tokio::select! {
        biased;
        name = &mut name => return Ok((connect.await?, name)),
        reached = &mut connect => reached?,
    };
    let name = tokio::select! {
        biased;
        name = &mut name => name,
        _ = server_spoke(&mut reached.far) => None,
    };
    Ok((reached, name))
}

/// Whether there is nothing to read: the client left or shut down before it said anything.
fn is_empty(near: &TcpStream) -> bool {
    let peeked = rustix::net::recv(
        near,
        &mut [0_u8; 1][..],
        rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT,
    );
    !matches!(peeked, Ok((1.., _)))
}

/// The server's first bytes, or its end.
async fn server_spoke(far: &mut Far) -> Spoke {
    match far {
        Far::Socket(socket) => {
            let judge = |bytes: &[u8]| Some(classify_server(bytes));
            match peek::until::<{ first::WINDOW }, Spoke>(socket, PATIENCE, judge).await {
                Seen::Decided(spoke) => spoke,
                Seen::Ended | Seen::TooLittle => Spoke::Ended,
            }
        }
        Far::Stream { receive, .. } => {
            poll_fn(|cx| {
                receive.poll_peek(cx).map(|next| next.map_or(Spoke::Ended, |bytes| classify_server(&bytes)))
            })
            .await
        }
    }
}

fn opaque(far: Reached, sni: Option<String>) -> Spoken {
    Spoken::Opaque { far: Some(far), sni }
}

#[cfg(test)]
mod tests;
