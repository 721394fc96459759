//! What a service port speaks, as far as its objects say, and what connections have taught. Pure.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// What travels on a service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Nothing says; the first bytes decide.
    #[default]
    Detect,
    /// HTTP: the client may speak HTTP/1.1 or HTTP/2 with prior knowledge; the server is spoken to in HTTP/1.1, or in HTTP/2
    /// where the client speaks it and the server turns out to.
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

/// What connections to a service port taught; carried from snapshot to snapshot. Two bytes, written without a lock.
#[derive(Debug, Default)]
pub struct Learnt {
    first: AtomicU8,
    server: AtomicU8,
}

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

/// Which HTTP servers turned out to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerSpeaks {
    /// HTTP/1.1, and no HTTP/2 with prior knowledge.
    Http1,
    /// HTTP/2 with prior knowledge, perhaps HTTP/1.1 too.
    Http2,
}

impl Learnt {
    /// The last lesson.
    #[must_use]
    pub fn lesson(&self) -> Option<Lesson> {
        match self.first.load(Relaxed) {
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
        write(&self.first, value);
    }

    /// What its servers spoke last.
    #[must_use]
    pub fn server(&self) -> Option<ServerSpeaks> {
        match self.server.load(Relaxed) {
            1 => Some(ServerSpeaks::Http1),
            2 => Some(ServerSpeaks::Http2),
            _ => None,
        }
    }

    /// Notes what a server speaks; none where the last lesson turned out to be wrong.
    pub fn note_server(&self, speaks: Option<ServerSpeaks>) {
        let value = match speaks {
            None => 0,
            Some(ServerSpeaks::Http1) => 1,
            Some(ServerSpeaks::Http2) => 2,
        };
        write(&self.server, value);
    }
}

/// Leaves the line with the other readers where nothing changes.
fn write(cell: &AtomicU8, value: u8) {
    if cell.load(Relaxed) != value {
        cell.store(value, Relaxed);
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
    fn lessons_about_clients_and_servers_are_kept_apart() {
        let learnt = Learnt::default();
        assert_eq!((learnt.lesson(), learnt.server()), (None, None));
        learnt.note(Lesson::Http);
        learnt.note_server(Some(ServerSpeaks::Http2));
        assert_eq!((learnt.lesson(), learnt.server()), (Some(Lesson::Http), Some(ServerSpeaks::Http2)));
        learnt.note_server(Some(ServerSpeaks::Http1));
        assert_eq!(learnt.server(), Some(ServerSpeaks::Http1));
        learnt.note_server(None);
        assert_eq!((learnt.lesson(), learnt.server()), (Some(Lesson::Http), None));
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
