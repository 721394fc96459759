//! What a CONNECT says, as values: the request that we send and the head that we received. Pure.

use std::{fmt, str::FromStr, sync::Arc};

use super::authority::Authority;

/// Joins the records of both agents for one connection: 64 random bits, written as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The text is not 16 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a connection id is 16 lower-case hexadecimal digits")]
pub struct NotConnectionId;

impl FromStr for ConnectionId {
    type Err = NotConnectionId;

    fn from_str(text: &str) -> Result<Self, NotConnectionId> {
        let digits = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 16 || !text.bytes().all(digits) {
            return Err(NotConnectionId);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| NotConnectionId)
    }
}

/// A CONNECT that we send.
#[derive(Clone, Debug)]
pub struct ConnectRequest {
    /// Where to: the chosen pod's address, or a service's name.
    pub authority: Authority,
    /// Who we are, as `headers::Baggage` writes it; shared by all connections of a workload.
    pub baggage: Arc<str>,
    /// For whom, as `headers::forwarded` writes it.
    pub forwarded: String,
    /// W3C trace context, if there is one.
    pub traceparent: Option<String>,
    /// Joins our record with the peer's.
    pub connection: ConnectionId,
}

/// A CONNECT that we received. Texts are the peer's and limited in length by the header list limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// Where to.
    pub authority: Authority,
    /// Who the caller says it is; labels only, the certificate decides.
    pub baggage: Option<String>,
    /// For whom; `headers::parse_forwarded` reads it.
    pub forwarded: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// The caller's connection id; only our own agents send it.
    pub connection: Option<ConnectionId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_ids_are_sixteen_digits() {
        assert_eq!(ConnectionId(0x2a).to_string(), "000000000000002a");
        assert_eq!("000000000000002a".parse(), Ok(ConnectionId(0x2a)));
        for text in ["", "2a", "000000000000002A", "+00000000000002a", "000000000000002a0"] {
            assert_eq!(text.parse::<ConnectionId>(), Err(NotConnectionId), "{text}");
        }
    }
}
