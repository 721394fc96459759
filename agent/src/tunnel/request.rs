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

/// The request in this stream was tried before: by how many attempts, and what names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryMark {
    /// Attempts before this one, those of hops before included.
    pub attempt: u32,
    /// What the request carries through all hops: its trace id or request id.
    pub key: Arc<str>,
}

/// The longest key of a mark, bytes: a trace id, a semicolon and a request id of up to 128.
const LONGEST_KEY: usize = 32 + 1 + 128;

impl fmt::Display for RetryMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};{}", self.attempt, self.key)
    }
}

/// The text is no number, semicolon and key of visible characters, at most as many as a trace id and a request id have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a retry mark is a number, a semicolon and a key")]
pub struct NotRetryMark;

impl FromStr for RetryMark {
    type Err = NotRetryMark;

    fn from_str(text: &str) -> Result<Self, NotRetryMark> {
        let (number, key) = text.split_once(';').ok_or(NotRetryMark)?;
        let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let visible = key.bytes().all(|byte| byte.is_ascii_graphic());
        if !digits || key.is_empty() || key.len() > LONGEST_KEY || !visible {
            return Err(NotRetryMark);
        }
        Ok(Self { attempt: number.parse().map_err(|_| NotRetryMark)?, key: key.into() })
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
    /// Says that this stream is for a retry.
    pub attempt: Option<RetryMark>,
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
    /// The stream is for a retry; only our own agents say so, and an application cannot.
    pub attempt: Option<RetryMark>,
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

    #[test]
    fn marks_are_a_number_and_a_key() {
        let mark = RetryMark { attempt: 2, key: "4bf92f35;x".into() };
        assert_eq!(mark.to_string(), "2;4bf92f35;x");
        assert_eq!(mark.to_string().parse(), Ok(mark));
        let long = format!("1;{}", "k".repeat(LONGEST_KEY + 1));
        for text in ["", "2", "2;", ";key", "-1;key", "+1;key", "4294967296;key", "1;a b", "1;\u{e9}", &long]
        {
            assert_eq!(text.parse::<RetryMark>(), Err(NotRetryMark), "{text}");
        }
    }
}
