//! What a request was made with, and what went wrong with it in Envoy's short codes, which Istio's dashboards read. Pure.

use std::{borrow::Cow, fmt};

/// What the client speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RequestProtocol {
    /// HTTP/1.0 or HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2.
    Http2,
    /// gRPC over HTTP/2.
    Grpc,
}

impl RequestProtocol {
    /// Value of Istio's label `request_protocol`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Http1 | Self::Http2 => "http",
            Self::Grpc => "grpc",
        }
    }

    /// The word for logs and tables; also OpenTelemetry's `network.protocol.version` of it is 2 but for `http/1.1`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::Http2 => "http/2",
            Self::Grpc => "grpc",
        }
    }
}

/// Why an answer is not the application's own, or not whole: Envoy's response flags. A request can have several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum RequestFlag {
    /// `UH`: no healthy endpoint.
    NoHealthyUpstream = 1,
    /// `UF`: the endpoint could not be reached.
    UpstreamFailure = 1 << 1,
    /// `UC`: the endpoint closed before its answer was whole.
    UpstreamClosed = 1 << 2,
    /// `UR`: the endpoint reset.
    UpstreamReset = 1 << 3,
    /// `UT`: an attempt or the request took too long.
    UpstreamTimeout = 1 << 4,
    /// `UO`: a limit or a bulkhead is full.
    Overflow = 1 << 5,
    /// `UPE`: the endpoint's answer is malformed.
    UpstreamProtocolError = 1 << 6,
    /// `URX`: there were no attempts left, or no budget for them.
    RetriesExhausted = 1 << 7,
    /// `NR`: no route matches.
    NoRoute = 1 << 8,
    /// `NC`: the route or its backend is not valid.
    NoCluster = 1 << 9,
    /// `DC`: the client went away.
    ClientGone = 1 << 10,
    /// `DPE`: the request is malformed.
    Malformed = 1 << 11,
    /// `DT`: the deadline that the client brought is over.
    DeadlineExceeded = 1 << 12,
    /// `DENY`: a policy does not allow it.
    Denied = 1 << 13,
}

impl RequestFlag {
    /// All flags, in the order in which they are written.
    pub const ALL: [Self; 14] = [
        Self::NoHealthyUpstream,
        Self::UpstreamTimeout,
        Self::UpstreamReset,
        Self::UpstreamFailure,
        Self::UpstreamClosed,
        Self::Overflow,
        Self::NoRoute,
        Self::NoCluster,
        Self::ClientGone,
        Self::RetriesExhausted,
        Self::UpstreamProtocolError,
        Self::Malformed,
        Self::DeadlineExceeded,
        Self::Denied,
    ];

    /// Envoy's code.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoHealthyUpstream => "UH",
            Self::UpstreamFailure => "UF",
            Self::UpstreamClosed => "UC",
            Self::UpstreamReset => "UR",
            Self::UpstreamTimeout => "UT",
            Self::Overflow => "UO",
            Self::UpstreamProtocolError => "UPE",
            Self::RetriesExhausted => "URX",
            Self::NoRoute => "NR",
            Self::NoCluster => "NC",
            Self::ClientGone => "DC",
            Self::Malformed => "DPE",
            Self::DeadlineExceeded => "DT",
            Self::Denied => "DENY",
        }
    }
}

/// The flags of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RequestFlags(u16);

impl RequestFlags {
    /// One more.
    pub fn add(&mut self, flag: RequestFlag) {
        self.0 |= flag as u16;
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `flag` is one of them.
    #[must_use]
    pub fn has(self, flag: RequestFlag) -> bool {
        self.0 & flag as u16 != 0
    }

    pub(crate) fn bits(self) -> u16 {
        self.0
    }

    /// As Istio's label: `-`, one code, or several with commas.
    #[must_use]
    pub fn text(self) -> Cow<'static, str> {
        let mut found = RequestFlag::ALL.into_iter().filter(|flag| self.has(*flag)).map(RequestFlag::as_str);
        match (found.next(), found.next()) {
            (None, _) => "-".into(),
            (Some(one), None) => one.into(),
            (Some(one), Some(two)) => {
                found.fold(format!("{one},{two}"), |text, more| text + "," + more).into()
            }
        }
    }
}

impl fmt::Display for RequestFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_written_as_envoy_does() {
        let of = |flags: &[RequestFlag]| {
            let mut all = RequestFlags::default();
            flags.iter().for_each(|flag| all.add(*flag));
            all.text().into_owned()
        };
        assert_eq!(of(&[]), "-");
        assert_eq!(of(&[RequestFlag::ClientGone]), "DC");
        assert_eq!(of(&[RequestFlag::RetriesExhausted, RequestFlag::UpstreamFailure]), "UF,URX");
        assert_eq!(
            of(&RequestFlag::ALL),
            "UH,UT,UR,UF,UC,UO,NR,NC,DC,URX,UPE,DPE,DT,DENY",
            "each has its own bit"
        );
    }
}
