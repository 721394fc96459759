//! What `posthaste certs` and the metrics show of each certificate. Pure.

/// How far a certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateState {
    /// Never had one.
    Waiting,
    /// In use.
    Valid,
    /// In use, and the last renewal failed.
    RenewalFailing,
    /// Over and not in use; connections of this identity fail.
    Expired,
}

/// One identity's certificate as it is now. Dates are RFC 3339.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct CertificateStatus {
    /// SPIFFE id.
    pub identity: String,
    /// How far it is.
    pub state: CertificateState,
    /// Serial number, lower-case hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Start of validity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    /// End of validity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<String>,
    /// When a new one will be asked for (again).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renew_at: Option<String>,
    /// Why the last request failed; absent after a success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Certificates received since the agent started.
    pub issued_total: u64,
    /// Requests that failed since the agent started.
    pub failed_total: u64,
}
