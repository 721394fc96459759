//! Why a connection ended, who ended it, and what Istio's `response_flags` calls it. Pure.

use crate::resilience::bulkhead::Bulkhead;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Which side of the local pod a connection is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The local pod was called: `reporter="destination"`.
    Inbound,
    /// The local pod calls: `reporter="source"`.
    Outbound,
}

impl Direction {
    /// `inbound` or `outbound`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }

    /// Value of Istio's label `reporter`.
    #[must_use]
    pub fn reporter(self) -> &'static str {
        match self {
            Self::Inbound => "destination",
            Self::Outbound => "source",
        }
    }
}

/// What protects the bytes between the nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Security {
    /// Nothing, or not known yet.
    #[default]
    None,
    /// A tunnel with mutual TLS.
    MutualTls,
}

impl Security {
    /// Value of Istio's label `connection_security_policy`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::MutualTls => "mutual_tls",
        }
    }
}

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// The side that opened it.
    Client,
    /// The side that was called.
    Server,
    /// Both closed in order.
    Both,
    /// The agent of the other pod, or what stands at its address.
    Peer,
    /// A policy, here or at the other agent.
    Policy,
    /// Nobody: time was up.
    TimeOut,
    /// This agent.
    Agent,
}

impl EndedBy {
    /// The word for tables, as in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Both => "both",
            Self::Peer => "peer",
            Self::Policy => "policy",
            Self::TimeOut => "time_out",
            Self::Agent => "agent",
        }
    }
}

/// Istio's `response_flags` of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ResponseFlag {
    /// Nothing to say: `-`.
    #[serde(rename = "-")]
    None,
    /// Refused by policy.
    Deny,
    /// The other side could not be reached.
    Connect,
    /// The TLS handshake failed.
    TlsFailure,
    /// TLS stood, HTTP/2 did not.
    H2HandshakeFailure,
    /// The certificate is not of who should be there, or we have none.
    IdentityError,
    /// The certificate was revoked.
    CertRevoked,
}

impl ResponseFlag {
    /// All flags, in the order of their discriminants.
    pub const ALL: [Self; 7] = [
        Self::None,
        Self::Deny,
        Self::Connect,
        Self::TlsFailure,
        Self::H2HandshakeFailure,
        Self::IdentityError,
        Self::CertRevoked,
    ];

    /// The label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "-",
            Self::Deny => "DENY",
            Self::Connect => "CONNECT",
            Self::TlsFailure => "TLS_FAILURE",
            Self::H2HandshakeFailure => "H2_HANDSHAKE_FAILURE",
            Self::IdentityError => "IDENTITY_ERROR",
            Self::CertRevoked => "CERT_REVOKED",
        }
    }
}

/// Why a connection ended: one variant per way, in the order of the stages of the data path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    /// The kernel knew no original destination: somebody connected to the agent's listener directly.
    NotCaptured,
    /// The pod is not in the snapshot (any more).
    UnknownPod,
    /// No snapshot was complete yet.
    NoSnapshot,
    /// The address is a service's, the port is not.
    UnknownPort,
    /// The service has no endpoint that may be used from here.
    NoEndpoints,
    /// A policy refused it.
    PolicyDenied,
    /// Plaintext at a pod that wants mutual TLS.
    PlaintextRefused,
    /// The pod has as many connections inside the agent as its bulkhead allows.
    Overflow,
    /// No endpoint accepted within the allowed attempts and time.
    ConnectFailed,
    /// The other side did not accept in time.
    TimedOut,
    /// The application at the local pod did not accept.
    ApplicationRefused,
    /// The endpoint is a pod of the mesh, and who it is could not be learnt in time: it gets no plaintext.
    UnresolvedPeer,
    /// The TLS handshake failed.
    TlsFailure,
    /// The peer's certificate names somebody else, or this pod has no certificate.
    IdentityError,
    /// The peer's certificate was revoked.
    CertificateRevoked,
    /// HTTP/2 did not start on the tunnel.
    H2Handshake,
    /// The peer's agent answered CONNECT with this HTTP status.
    Refused(u16),
    /// The request of the peer's agent did not make sense; it was answered with this HTTP status.
    BadRequest(u16),
    /// Both sides ended in order.
    Finished,
    /// The client reset it.
    ClientReset,
    /// The server reset it.
    ServerReset,
    /// The tunnel under it broke.
    TunnelLost,
    /// The pod left this node.
    PodLeft,
    /// The agent stops.
    Shutdown,
    /// The work was dropped before it came to an end.
    Cancelled,
}

impl CloseReason {
    /// The word for logs and tables; a status is said apart by [`Self::status`].
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotCaptured => "not_captured",
            Self::UnknownPod => "unknown_pod",
            Self::NoSnapshot => "no_snapshot",
            Self::UnknownPort => "unknown_port",
            Self::NoEndpoints => "no_endpoints",
            Self::PolicyDenied => "policy_denied",
            Self::PlaintextRefused => "plaintext_refused",
            Self::Overflow => "overflow",
            Self::ConnectFailed => "connect_failed",
            Self::TimedOut => "timed_out",
            Self::ApplicationRefused => "application_refused",
            Self::UnresolvedPeer => "unresolved_peer",
            Self::TlsFailure => "tls_failure",
            Self::IdentityError => "identity_error",
            Self::CertificateRevoked => "certificate_revoked",
            Self::H2Handshake => "h2_handshake",
            Self::Refused(_) => "refused",
            Self::BadRequest(_) => "bad_request",
            Self::Finished => "finished",
            Self::ClientReset => "client_reset",
            Self::ServerReset => "server_reset",
            Self::TunnelLost => "tunnel_lost",
            Self::PodLeft => "pod_left",
            Self::Shutdown => "shutdown",
            Self::Cancelled => "cancelled",
        }
    }

    /// The HTTP status that the peer's agent said or was told.
    #[must_use]
    pub fn status(self) -> Option<u16> {
        match self {
            Self::Refused(status) | Self::BadRequest(status) => Some(status),
            _ => None,
        }
    }

    /// The limit that refused it.
    #[must_use]
    pub fn limit(self) -> Option<&'static str> {
        (self == Self::Overflow).then_some(Bulkhead::Connections.as_str())
    }

    /// What Istio's label `response_flags` says.
    #[must_use]
    pub fn response_flag(self) -> ResponseFlag {
        match self {
            Self::PolicyDenied | Self::PlaintextRefused | Self::Refused(401 | 403) => ResponseFlag::Deny,
            Self::NoEndpoints
            | Self::UnknownPort
            | Self::ConnectFailed
            | Self::ApplicationRefused
            | Self::TimedOut
            | Self::UnresolvedPeer
            | Self::Overflow
            | Self::NoSnapshot
            | Self::UnknownPod
            | Self::Refused(_)
            | Self::BadRequest(_) => ResponseFlag::Connect,
            Self::TlsFailure => ResponseFlag::TlsFailure,
            Self::IdentityError => ResponseFlag::IdentityError,
            Self::CertificateRevoked => ResponseFlag::CertRevoked,
            Self::H2Handshake => ResponseFlag::H2HandshakeFailure,
            Self::NotCaptured
            | Self::Finished
            | Self::ClientReset
            | Self::ServerReset
            | Self::TunnelLost
            | Self::PodLeft
            | Self::Shutdown
            | Self::Cancelled => ResponseFlag::None,
        }
    }

    /// Who ended it.
    #[must_use]
    pub fn ended_by(self) -> EndedBy {
        match self {
            Self::Finished => EndedBy::Both,
            Self::ClientReset => EndedBy::Client,
            Self::ServerReset | Self::ApplicationRefused => EndedBy::Server,
            // The other agent says 401 (ours) or 403 to what its policy refuses.
            Self::PolicyDenied | Self::PlaintextRefused | Self::Refused(401 | 403) => EndedBy::Policy,
            Self::ConnectFailed
            | Self::TlsFailure
            | Self::H2Handshake
            | Self::IdentityError
            | Self::CertificateRevoked
            | Self::Refused(_)
            | Self::TunnelLost => EndedBy::Peer,
            Self::TimedOut => EndedBy::TimeOut,
            Self::NotCaptured
            | Self::UnknownPod
            | Self::NoSnapshot
            | Self::UnknownPort
            | Self::NoEndpoints
            | Self::UnresolvedPeer
            | Self::Overflow
            | Self::BadRequest(_)
            | Self::PodLeft
            | Self::Shutdown
            | Self::Cancelled => EndedBy::Agent,
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status() {
            Some(status) => write!(f, "{} {status}", self.as_str()),
            None => f.write_str(self.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_follow_the_wire_format() {
        let table = [
            (CloseReason::Finished, "-"),
            (CloseReason::PlaintextRefused, "DENY"),
            (CloseReason::Refused(401), "DENY"),
            (CloseReason::Refused(503), "CONNECT"),
            (CloseReason::ConnectFailed, "CONNECT"),
            (CloseReason::TlsFailure, "TLS_FAILURE"),
            (CloseReason::H2Handshake, "H2_HANDSHAKE_FAILURE"),
            (CloseReason::IdentityError, "IDENTITY_ERROR"),
            (CloseReason::CertificateRevoked, "CERT_REVOKED"),
            (CloseReason::Cancelled, "-"),
        ];
        for (reason, flag) in table {
            assert_eq!(reason.response_flag().as_str(), flag, "{reason}");
        }
    }

    #[test]
    fn flags_are_counted_by_their_place() {
        for (place, flag) in ResponseFlag::ALL.into_iter().enumerate() {
            assert_eq!(flag as usize, place);
        }
    }

    #[test]
    fn a_status_is_said_with_the_reason() {
        assert_eq!(CloseReason::Refused(503).to_string(), "refused 503");
    }

    #[test]
    fn who_ended_it() {
        let table = [
            (CloseReason::ClientReset, EndedBy::Client),
            (CloseReason::ApplicationRefused, EndedBy::Server),
            (CloseReason::Finished, EndedBy::Both),
            (CloseReason::Refused(503), EndedBy::Peer),
            (CloseReason::Refused(401), EndedBy::Policy),
            (CloseReason::PlaintextRefused, EndedBy::Policy),
            (CloseReason::TimedOut, EndedBy::TimeOut),
            (CloseReason::Overflow, EndedBy::Agent),
        ];
        for (reason, who) in table {
            assert_eq!(reason.ended_by(), who, "{reason}");
            assert_eq!(serde_json::to_value(who).ok(), Some(who.as_str().into()));
        }
    }
}
