//! Messages of `istio.v1.auth.IstioCertificateService`, as far as they are used. Pure.
//!
//! Source: istio/api `security/v1alpha1/ca.proto`. Written by hand so that no `protoc` is needed; unknown fields are skipped.

use std::{collections::HashMap, time::Duration};

/// Path of its only method.
pub const PATH: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";
/// Key in the metadata that names the workload when a node agent asks for it.
pub const IMPERSONATED_IDENTITY: &str = "ImpersonatedIdentity";
/// Largest request that is read, bytes.
pub const LARGEST_REQUEST: usize = 64 * 1024;
/// Largest answer that is read, bytes.
pub const LARGEST_ANSWER: usize = 1024 * 1024;

/// `IstioCertificateRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CreateRequest {
    /// PKCS #10 in PEM.
    #[prost(string, tag = "1")]
    pub csr: String,
    /// Seconds that the certificate should be valid; 0 leaves it to the CA.
    #[prost(int64, tag = "3")]
    pub validity_duration: i64,
    /// Opaque to the API; carries [`IMPERSONATED_IDENTITY`].
    #[prost(message, optional, tag = "4")]
    pub metadata: Option<Struct>,
}

/// `google.protobuf.Struct`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Struct {
    /// Values by name.
    #[prost(map = "string, message", tag = "1")]
    pub fields: HashMap<String, Value>,
}

/// `google.protobuf.Value`, its string form only.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Value {
    /// The text; absent for a value of another kind.
    #[prost(string, optional, tag = "3")]
    pub string_value: Option<String>,
}

/// `IstioCertificateResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CreateResponse {
    /// PEM texts: leaf, intermediates, last the roots concatenated.
    #[prost(string, repeated, tag = "1")]
    pub cert_chain: Vec<String>,
}

impl CreateRequest {
    /// A node agent's request on behalf of `identity`.
    #[must_use]
    pub fn new(csr: String, identity: &str, validity: Duration) -> Self {
        let value = Value { string_value: Some(identity.to_owned()) };
        let metadata = Struct { fields: HashMap::from([(IMPERSONATED_IDENTITY.to_owned(), value)]) };
        let validity_duration = i64::try_from(validity.as_secs()).unwrap_or(i64::MAX);
        Self { csr, validity_duration, metadata: Some(metadata) }
    }

    /// The identity that the agent asks for, if it names one.
    #[must_use]
    pub fn impersonated(&self) -> Option<&str> {
        self.metadata.as_ref()?.fields.get(IMPERSONATED_IDENTITY)?.string_value.as_deref()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use prost::Message;

    use super::*;

    #[test]
    fn writes_the_bytes_that_the_protobuf_schema_asks_for() {
        let request = CreateRequest::new("c".to_owned(), "id", Duration::from_secs(5));
        let mut wanted =
            b"\x0a\x01c\x18\x05\x22\x1e\x0a\x1c\x0a\x14ImpersonatedIdentity\x12\x04\x1a\x02id".to_vec();
        assert_eq!(request.encode_to_vec(), wanted);
        wanted.extend(b"\x7a\x03abc");
        assert_eq!(CreateRequest::decode(wanted.as_slice()).unwrap(), request, "unknown fields are skipped");
        assert_eq!(request.impersonated(), Some("id"));
    }
}
