//! What a service port speaks, as far as its objects say, and what connections have taught. Pure.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// What travels on a service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
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

impl Protocol {
    /// Every one, in the order of the enum, so that counters find their place by it.
    pub const ALL: [Self; 6] = [Self::Detect, Self::Http, Self::Http2, Self::Grpc, Self::Tcp, Self::Tls];

    /// The word for metrics, tables and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Detect => "detect",
            Self::Http => "http",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }

    /// Whether the server is spoken to in HTTP/2.
    #[must_use]
    pub fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc)
    }

    /// Whether requests are seen.
    #[must_use]
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc)
    }
}

impl Why {
    /// Every one, in the order of the enum.
    pub const ALL: [Self; 7] = [
        Self::AppProtocol,
        Self::PortName,
        Self::FirstBytes,
        Self::ServerFirst,
        Self::Learnt,
        Self::NotAsked,
        Self::Silence,
    ];

    /// The word for metrics, tables and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AppProtocol => "app-protocol",
            Self::PortName => "port-name",
            Self::FirstBytes => "first-bytes",
            Self::ServerFirst => "server-first",
            Self::Learnt => "learnt",
            Self::NotAsked => "not-asked",
            Self::Silence => "silence",
        }
    }
}

/// What the Service says that a port speaks: `appProtocol` where it is given (then the name does not count, as in Istio),
/// else the name `<protocol>` or `<protocol>-<suffix>`. Where neither says anything that is known, the bytes decide.
#[must_use]
pub fn declared(app_protocol: Option<&str>, port_name: &str) -> (Protocol, Why) {
    let (said, why) = match app_protocol.filter(|given| !given.is_empty()) {
        Some(given) => (of_app_protocol(given), Why::AppProtocol),
        None => (of_port_name(port_name), Why::PortName),
    };
    match said {
        Protocol::Detect => (Protocol::Detect, Why::NotAsked),
        said => (said, why),
    }
}

/// Kubernetes' own values (KEP-3726), IANA service names, and Istio's.
fn of_app_protocol(given: &str) -> Protocol {
    match &*given.to_ascii_lowercase() {
        "kubernetes.io/h2c" | "h2c" => Protocol::Http2,
        "kubernetes.io/ws" | "ws" => Protocol::Http,
        "kubernetes.io/wss" | "wss" | "ssl" => Protocol::Tls,
        word => of_word(word),
    }
}

fn of_port_name(name: &str) -> Protocol {
    let name = name.to_ascii_lowercase();
    if name == "grpc-web" || name.starts_with("grpc-web-") {
        return of_word("grpc-web");
    }
    of_word(name.split('-').next().unwrap_or_default())
}

fn of_word(word: &str) -> Protocol {
    match word {
        // gRPC-Web is made for HTTP/1.1, and nothing is translated here.
        "http" | "http1" | "grpc-web" => Protocol::Http,
        "http2" => Protocol::Http2,
        "grpc" => Protocol::Grpc,
        "https" | "tls" => Protocol::Tls,
        "tcp" | "mongo" | "mongodb" | "mysql" | "redis" | "postgres" | "postgresql" | "smtp" | "ssh"
        | "ftp" | "imap" | "pop3" | "amqp" | "ldap" | "kafka" => Protocol::Tcp,
        _ => Protocol::Detect,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_says_what_its_port_speaks() {
        use Protocol::{Detect, Grpc, Http, Http2, Tcp, Tls};
        use Why::{AppProtocol, NotAsked, PortName};
        let table = [
            (Some("http"), "", Http, AppProtocol),
            (Some("HTTP"), "tcp", Http, AppProtocol),
            (Some("kubernetes.io/h2c"), "", Http2, AppProtocol),
            (Some("kubernetes.io/ws"), "", Http, AppProtocol),
            (Some("kubernetes.io/wss"), "", Tls, AppProtocol),
            (Some("grpc"), "", Grpc, AppProtocol),
            (Some("http2"), "", Http2, AppProtocol),
            (Some("https"), "", Tls, AppProtocol),
            (Some("tls"), "", Tls, AppProtocol),
            (Some("tcp"), "http", Tcp, AppProtocol),
            (Some("mysql"), "", Tcp, AppProtocol),
            // Known to somebody else: the bytes decide, whatever the name says.
            (Some("example.com/custom"), "http", Detect, NotAsked),
            (Some(""), "http", Http, PortName),
            (None, "http", Http, PortName),
            (None, "http-web", Http, PortName),
            (None, "HTTP-Web", Http, PortName),
            (None, "http2-web", Http2, PortName),
            (None, "grpc-api", Grpc, PortName),
            (None, "grpc", Grpc, PortName),
            (None, "grpc-web", Http, PortName),
            (None, "grpc-web-api", Http, PortName),
            (None, "https-web", Tls, PortName),
            (None, "tls", Tls, PortName),
            (None, "tcp-x", Tcp, PortName),
            (None, "redis", Tcp, PortName),
            (None, "httpx", Detect, NotAsked),
            (None, "web", Detect, NotAsked),
            (None, "", Detect, NotAsked),
        ];
        for (app_protocol, name, protocol, why) in table {
            assert_eq!(declared(app_protocol, name), (protocol, why), "{app_protocol:?} {name}");
        }
    }

    #[test]
    fn counters_find_their_place_and_words_are_those_of_json() {
        for (place, protocol) in Protocol::ALL.into_iter().enumerate() {
            assert_eq!(protocol as usize, place);
            assert_eq!(serde_json::to_value(protocol).ok(), Some(protocol.as_str().into()));
        }
        for (place, why) in Why::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, place);
            assert_eq!(serde_json::to_value(why).ok(), Some(why.as_str().into()));
        }
    }
}
