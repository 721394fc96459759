//! SPIFFE identities as Istio writes them: `spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>`. Pure.

use std::{fmt, str::FromStr, sync::Arc};

/// The identity of a workload; cheap to clone, compared by text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId(Arc<str>);

/// Why a text is not an identity of this mesh.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not `spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>`")]
pub struct NotSpiffe(String);

impl SpiffeId {
    /// Joins three parts that are already valid names (Kubernetes names and a trust domain).
    #[must_use]
    pub fn new(trust_domain: &str, namespace: &str, service_account: &str) -> Self {
        Self(format!("spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}").into())
    }

    /// The whole URI.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The trust domain, the authority of the URI.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        self.parts().0
    }

    /// The namespace of the workload.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.parts().1
    }

    /// The service account of the workload.
    #[must_use]
    pub fn service_account(&self) -> &str {
        self.parts().2
    }

    fn parts(&self) -> (&str, &str, &str) {
        split(&self.0).unwrap_or(("", "", ""))
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SpiffeId {
    type Err = NotSpiffe;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match split(text) {
            Some(_) => Ok(Self(text.into())),
            None => Err(NotSpiffe(text.chars().take(200).collect())),
        }
    }
}

fn split(text: &str) -> Option<(&str, &str, &str)> {
    let (trust_domain, path) = text.strip_prefix("spiffe://")?.split_once('/')?;
    let mut segments = path.split('/');
    let parts = match [segments.next(), segments.next(), segments.next(), segments.next(), segments.next()] {
        [Some("ns"), Some(namespace), Some("sa"), Some(account), None] => (trust_domain, namespace, account),
        _ => return None,
    };
    let trust = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
    let name = |s: &str| !s.is_empty() && s.bytes().all(|b| trust(b) || b.is_ascii_uppercase());
    (!trust_domain.is_empty() && trust_domain.bytes().all(trust) && name(parts.1) && name(parts.2))
        .then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_only_the_exact_form() {
        let table = [
            ("spiffe://cluster.local/ns/shop/sa/cart", true),
            ("spiffe://cluster.local/ns/shop/sa/cart/x", false),
            ("spiffe://cluster.local/ns//sa/cart", false),
            ("spiffe:///ns/shop/sa/cart", false),
            ("spiffe://a/ns/shop/sa/cart?x", false),
            ("https://a/ns/shop/sa/cart", false),
            ("spiffe://a/sa/cart/ns/shop", false),
            ("spiffe://A/ns/shop/sa/cart", false),
        ];
        for (text, fits) in table {
            assert_eq!(text.parse::<SpiffeId>().is_ok(), fits, "{text}");
        }
    }
}
