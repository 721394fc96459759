//! What the CA counts, for Prometheus.

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use tonic::Code;

/// Certificates and refusals; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    issued: Counter,
    refused: Family<[(&'static str, String); 1], Counter>,
}

impl Counts {
    /// A certificate was issued.
    pub(crate) fn issued(&self) {
        self.issued.inc();
    }

    /// A request was refused, or could not be answered.
    pub(crate) fn refused(&self, code: Code) {
        self.refused.get_or_create(&[("code", format!("{code:?}"))]).inc();
    }

    /// All of it in the OpenMetrics format.
    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::with_prefix("posthaste_ca");
        registry.register("certificates_issued", "Certificates signed", self.issued.clone());
        registry.register(
            "requests_refused",
            "Requests without a certificate, by gRPC code",
            self.refused.clone(),
        );
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn says_what_was_counted() {
        let counts = Counts::default();
        counts.issued();
        counts.refused(Code::PermissionDenied);
        let text = counts.text().unwrap();
        assert!(text.contains("posthaste_ca_certificates_issued_total 1"), "{text}");
        assert!(text.contains("posthaste_ca_requests_refused_total{code=\"PermissionDenied\"} 1"), "{text}");
    }
}
