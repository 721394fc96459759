//! Whose business it is that an endpoint was not reached. Pure.

use crate::{observe::CloseReason, path::accept, tls, tunnel::OpenError};

/// Why an endpoint was not reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setback {
    /// No other endpoint would do better.
    Here(CloseReason),
    /// Another one may.
    There(CloseReason),
}

impl Setback {
    /// What the record says.
    #[must_use]
    pub fn reason(self) -> CloseReason {
        match self {
            Self::Here(reason) | Self::There(reason) => reason,
        }
    }

    /// Whether the endpoint should be avoided for this. Whoever stands there with another's identity is no endpoint.
    #[must_use]
    pub fn is_endpoints_fault(self) -> bool {
        matches!(
            self,
            Self::There(
                CloseReason::ConnectFailed
                    | CloseReason::IdentityError
                    | CloseReason::TlsFailure
                    | CloseReason::H2Handshake
                    | CloseReason::Refused(503)
            )
        )
    }
}

pub(super) fn open_error(error: &tls::TlsError) -> OpenError {
    let text = error.to_string().into();
    match accept::reason_of(error) {
        CloseReason::IdentityError => OpenError::Identity(text),
        _ => OpenError::Tls(text),
    }
}

/// Which endpoint's business a failure is. A policy that refuses us does so everywhere; after a reset an application may have
/// seen the connection.
pub(super) fn setback_of(error: &OpenError) -> Setback {
    let reason = reason_of(error);
    match error {
        OpenError::Draining | OpenError::Request(_) | OpenError::Reset(_) | OpenError::Refused(401 | 403) => {
            Setback::Here(reason)
        }
        _ => Setback::There(reason),
    }
}

fn reason_of(error: &OpenError) -> CloseReason {
    match error {
        OpenError::Tls(_) => CloseReason::TlsFailure,
        OpenError::Identity(_) => CloseReason::IdentityError,
        OpenError::Handshake(_) | OpenError::NotHttp2(_) | OpenError::HandshakeTimeout(_) => {
            CloseReason::H2Handshake
        }
        OpenError::Refused(status) => CloseReason::Refused(*status),
        OpenError::Draining => CloseReason::Shutdown,
        OpenError::DialTimeout(_) => CloseReason::TimedOut,
        OpenError::Dial(_)
        | OpenError::Request(_)
        | OpenError::NotProcessed
        | OpenError::Reset(_)
        | OpenError::Tunnel(_) => CloseReason::ConnectFailed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_business_a_failure_is() {
        let table = [
            (OpenError::Dial("refused".into()), Setback::There(CloseReason::ConnectFailed), true),
            (OpenError::Identity("an impostor".into()), Setback::There(CloseReason::IdentityError), true),
            (OpenError::Tls("alert".into()), Setback::There(CloseReason::TlsFailure), true),
            (OpenError::Refused(503), Setback::There(CloseReason::Refused(503)), true),
            (OpenError::Refused(400), Setback::There(CloseReason::Refused(400)), false),
            (OpenError::Refused(401), Setback::Here(CloseReason::Refused(401)), false),
            (OpenError::Reset(2), Setback::Here(CloseReason::ConnectFailed), false),
            (OpenError::Draining, Setback::Here(CloseReason::Shutdown), false),
        ];
        for (error, setback, fault) in table {
            assert_eq!(setback_of(&error), setback, "{error}");
            assert_eq!(setback.is_endpoints_fault(), fault, "{error}");
        }
    }
}
