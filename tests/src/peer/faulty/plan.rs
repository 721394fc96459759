//! What a faulty server does wrong, to which requests. Pure.

use serde::{Deserialize, Serialize};

/// What goes wrong with a request. `Reset` ends the connection with RST (over HTTP/2 the stream, with INTERNAL_ERROR),
/// `Close` ends the connection with FIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// Nothing.
    #[default]
    None,
    /// Nobody listens any more: the kernel refuses. Concerns all connections, whatever the share.
    Refuse,
    /// Accepts and resets, before anything is read. Concerns all connections, whatever the share.
    ResetOnAccept,
    /// Reads the head and nothing of the body, then resets.
    ResetMidRequest,
    /// Reads the request, then resets.
    ResetBeforeHead,
    /// Reads the request, then closes.
    CloseBeforeHead,
    /// Half a status line and header, then a reset.
    ResetMidHead,
    /// The head and half the body, then a reset.
    ResetMidBody,
    /// The head and half the body, then an orderly end that comes too early.
    CloseMidBody,
    /// Waits `delay_ms` before it answers.
    SlowHead,
    /// The head at once, the body in ten pieces over `delay_ms`.
    SlowBody,
    /// Reads the request and never answers.
    Silence,
    /// Answers with `status` (and `retry_after`).
    Status,
    /// A good answer, and then the connection is closed without a word of warning.
    CloseAfterAnswer,
    /// An answer that is not HTTP.
    Garbage,
    /// HTTP/2: REFUSED_STREAM. The request is not counted, for it was not taken. Over HTTP/1.1 a status 503.
    RefusedStream,
    /// HTTP/2: GOAWAY, and the answer after it. Over HTTP/1.1 an answer with `connection: close`.
    GoAway,
    /// gRPC: trailers alone with the status code `status`, and `retry_after` as `grpc-retry-pushback-ms`.
    GrpcStatus,
}

/// A server's behaviour; all fields have defaults that mean "a good server".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    /// What goes wrong.
    pub trouble: Trouble,
    /// With which share of the requests, 0 to 1, spread evenly.
    pub share: f64,
    /// Only with these methods; empty: all.
    pub methods: Vec<String>,
    /// Of [`Trouble::Status`] and [`Trouble::GrpcStatus`].
    pub status: u16,
    /// `Retry-After` beside that status.
    pub retry_after: Option<String>,
    /// Milliseconds of the slow ones.
    pub delay_ms: u64,
    /// Milliseconds that every good answer takes.
    pub work_ms: u64,
    /// Closes (with `connection: close`) after so many requests on a connection; 0: never.
    pub keep_alive_requests: u32,
    /// Length of the usual answer, bytes.
    pub body: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            trouble: Trouble::None,
            share: 1.0,
            methods: Vec::new(),
            status: 503,
            retry_after: None,
            delay_ms: 1000,
            work_ms: 0,
            keep_alive_requests: 0,
            body: 64,
        }
    }
}

impl Plan {
    /// One trouble with every request.
    #[must_use]
    pub fn always(trouble: Trouble) -> Self {
        Self { trouble, ..Self::default() }
    }

    /// The trouble of the `number`th request (from 1) that has this method.
    #[must_use]
    pub fn trouble(&self, method: &str, number: u64) -> Trouble {
        let meant = self.methods.is_empty() || self.methods.iter().any(|name| name == method);
        // Evenly spread without chance: of the first n requests floor(n * share) are hit.
        let hit = |count: u64| (count as f64 * self.share + 1e-9).floor();
        let whole = matches!(self.trouble, Trouble::Refuse | Trouble::ResetOnAccept);
        if meant && !whole && hit(number) > hit(number.saturating_sub(1)) {
            self.trouble
        } else {
            Trouble::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_exact_and_even() {
        let plan = Plan { share: 0.3, ..Plan::always(Trouble::Status) };
        let hits: Vec<u64> = (1..=10).filter(|n| plan.trouble("GET", *n) == Trouble::Status).collect();
        assert_eq!(hits, [4, 7, 10]);
        let all = Plan::always(Trouble::Silence);
        assert!((1..=100).all(|n| all.trouble("GET", n) == Trouble::Silence));
        let posts = Plan { methods: vec!["POST".to_owned()], ..all };
        assert_eq!((posts.trouble("GET", 1), posts.trouble("POST", 1)), (Trouble::None, Trouble::Silence));
    }

    #[test]
    fn an_unknown_field_is_no_plan() {
        assert!(serde_json::from_str::<Plan>(r#"{"trouble": "reset-mid-body", "share": 0.5}"#).is_ok());
        assert!(serde_json::from_str::<Plan>(r#"{"troubel": "status"}"#).is_err());
    }
}
