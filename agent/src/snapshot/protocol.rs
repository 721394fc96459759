//! What a service port speaks, as far as its objects say, and what connections have taught. Pure.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// What travels on a service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Nothing says; the first bytes decide.
    #[default]
    Detect,
    /// HTTP: the client may speak HTTP/1.1 or HTTP/2 with prior knowledge; the server is spoken to in HTTP/1.1.
    Http,
    /// HTTP/2 without TLS on both sides (`kubernetes.io/h2c`, `http2`).
    Http2,
    /// As `Http2`, and requests are gRPC.
    Grpc,
    /// Opaque bytes.
    Tcp,
    /// TLS of the application: opaque, its server name is recorded.
    Tls,
}

/// Where the knowledge of a protocol comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// `appProtocol` of the Service's port.
    AppProtocol,
    /// The prefix of the port's name (`http-web`, `grpc-api`), as Istio reads it.
    PortName,
    /// The client's first bytes on this connection.
    FirstBytes,
    /// The server spoke first on this connection.
    ServerFirst,
    /// Earlier connections to this port.
    Learnt,
    /// Not a port of a service, so nobody looked.
    #[default]
    NotAsked,
    /// The client said nothing for too long, or too little.
    Silence,
}

/// What connections to a service port taught; carried from snapshot to snapshot. One byte, written without a lock.
#[derive(Debug, Default)]
pub struct Learnt(AtomicU8);

/// What was learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lesson {
    /// The server speaks first: connect at once, do not look at the client's bytes.
    ServerFirst,
    /// Clients speak HTTP: wait for their first bytes before choosing an endpoint.
    Http,
    /// Clients speak first, but no HTTP.
    ClientFirst,
}

impl Learnt {
    /// The last lesson.
    #[must_use]
    pub fn lesson(&self) -> Option<Lesson> {
        match self.0.load(Relaxed) {
            1 => Some(Lesson::ServerFirst),
            2 => Some(Lesson::Http),
            3 => Some(Lesson::ClientFirst),
            _ => None,
        }
    }

    /// Notes a lesson.
    pub fn note(&self, lesson: Lesson) {
        let value = match lesson {
            Lesson::ServerFirst => 1,
            Lesson::Http => 2,
            Lesson::ClientFirst => 3,
        };
        if self.0.load(Relaxed) != value {
            self.0.store(value, Relaxed);
        }
    }
}
