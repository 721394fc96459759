//! The texts of the headers of a CONNECT: `baggage` (W3C Baggage) and `forwarded` (RFC 7239). Pure.
//!
//! Unknown members and parameters of a peer are skipped; what is malformed reads as absent: these texts are labels, never policy.

use std::{
    fmt::{self, Write as _},
    net::SocketAddr,
};

/// Who a workload is, for records and metrics.
pub const BAGGAGE: &str = "baggage";
/// For whom a connection is made.
pub const FORWARDED: &str = "forwarded";
/// W3C trace context.
pub const TRACEPARENT: &str = "traceparent";
/// Joins the records of two of our agents; others ignore it.
pub const CONNECTION: &str = "x-posthaste-connection";
/// The stream carries a retry: `attempts before;key of the request`; only our own agents read it.
pub const ATTEMPT: &str = "x-posthaste-attempt";

/// The members of `baggage` that Istio's ambient mode exchanges; an empty text is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Baggage {
    /// `k8s.cluster.name`
    pub cluster: String,
    /// `k8s.namespace.name`
    pub namespace: String,
    /// `k8s.<kind>.name`: the kind of the workload in lower case (deployment, statefulset, pod) ..
    pub workload_kind: String,
    /// .. and its name.
    pub workload: String,
    /// `service.name`
    pub service: String,
    /// `service.version`
    pub version: String,
    /// `cloud.region`
    pub region: String,
    /// `cloud.availability_zone`
    pub zone: String,
}

impl Baggage {
    /// Reads a peer's text.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut baggage = Self::default();
        for member in text.split(',') {
            let pair = member.split(';').next().unwrap_or_default();
            if let Some((key, value)) = pair.split_once('=') {
                baggage.take(key.trim(), &decode(value.trim()));
            }
        }
        baggage
    }

    fn take(&mut self, key: &str, value: &str) {
        let field = match key {
            "k8s.cluster.name" => &mut self.cluster,
            "k8s.namespace.name" => &mut self.namespace,
            "service.name" => &mut self.service,
            "service.version" => &mut self.version,
            "cloud.region" => &mut self.region,
            "cloud.availability_zone" => &mut self.zone,
            _ => match key.strip_prefix("k8s.").and_then(|rest| rest.strip_suffix(".name")) {
                Some(kind) if is_kind(kind) => {
                    self.workload_kind = kind.to_owned();
                    &mut self.workload
                }
                _ => return,
            },
        };
        value.clone_into(field);
    }
}

fn is_kind(kind: &str) -> bool {
    !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

impl fmt::Display for Baggage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.workload_kind.is_empty() { "pod" } else { &self.workload_kind };
        let members = [
            ("k8s.cluster", ".name", &self.cluster),
            ("k8s.namespace", ".name", &self.namespace),
            (&format!("k8s.{kind}"), ".name", &self.workload),
            ("service", ".name", &self.service),
            ("service", ".version", &self.version),
            ("cloud", ".region", &self.region),
            ("cloud", ".availability_zone", &self.zone),
        ];
        let mut separator = "";
        for (scope, key, value) in members.into_iter().filter(|(_, _, value)| !value.is_empty()) {
            write!(f, "{separator}{scope}{key}=")?;
            encode(f, value)?;
            separator = ",";
        }
        Ok(())
    }
}

/// `baggage-octet` of W3C Baggage, less `%` itself: others are percent-encoded.
fn encode(f: &mut fmt::Formatter<'_>, value: &str) -> fmt::Result {
    for byte in value.bytes() {
        match byte {
            b'"' | b',' | b';' | b'\\' | b'%' => write!(f, "%{byte:02X}")?,
            0x21..=0x7e => f.write_char(char::from(byte))?,
            _ => write!(f, "%{byte:02X}")?,
        }
    }
    Ok(())
}

fn decode(value: &str) -> String {
    let bytes = value.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match bytes.get(at + 1..at + 3).filter(|_| byte == b'%').and_then(hexadecimal) {
            Some(decoded) => {
                out.push(decoded);
                at += 3;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hexadecimal(digits: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?;
    u8::from_str_radix(text, 16).ok()
}

/// Writes `forwarded`: the application's address as the pod sees it, and the service that was asked for (empty: none).
#[must_use]
pub fn forwarded(client: SocketAddr, service: &str) -> String {
    if service.is_empty() {
        return format!("for=\"{client}\"");
    }
    // RFC 7230 token characters need no quotes; a name with a port does.
    match service.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) {
        true => format!("for=\"{client}\";host={service}"),
        false => format!("for=\"{client}\";host=\"{}\"", service.replace(['"', '\\'], "")),
    }
}

/// What a `forwarded` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// The client's address and port.
    pub client: Option<SocketAddr>,
    /// The service that was asked for.
    pub host: Option<String>,
}

/// Reads the first element of a peer's `forwarded`.
#[must_use]
pub fn parse_forwarded(text: &str) -> Forwarded {
    let first = text.split(',').next().unwrap_or_default();
    let mut read = Forwarded::default();
    for (name, value) in first.split(';').filter_map(|pair| pair.split_once('=')) {
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "for" => read.client = value.parse().ok(),
            "host" if !value.is_empty() => read.host = Some(value.to_owned()),
            _ => {}
        }
    }
    read
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn baggage() -> Baggage {
        Baggage {
            cluster: "one".into(),
            namespace: "shop".into(),
            workload_kind: "deployment".into(),
            workload: "cart".into(),
            service: "cart".into(),
            version: "v1, beta".into(),
            region: String::new(),
            zone: "a".into(),
        }
    }

    #[test]
    fn baggage_is_written_as_istio_reads_it() {
        let text = "k8s.cluster.name=one,k8s.namespace.name=shop,k8s.deployment.name=cart,service.name=cart,\
                    service.version=v1%2C%20beta,cloud.availability_zone=a";
        assert_eq!(baggage().to_string(), text);
        assert_eq!(Baggage::parse(text), baggage());
    }

    #[test]
    fn baggage_of_a_stranger_is_read_leniently() {
        let read = Baggage::parse(" service.name = a%2 ;p=1,,x, =,k8s..name=q,k8s.job.name=%FF");
        assert_eq!(read.service, "a%2");
        assert_eq!((read.workload_kind.as_str(), read.workload.as_str()), ("job", "\u{fffd}"));
    }

    #[test]
    fn forwarded_is_read_back() {
        for client in ["10.0.0.7:4711", "[fd00::7]:4711"] {
            for host in ["cart.shop.svc.cluster.local", "cart.shop:80"] {
                let client = client.parse().ok();
                let text = client.map(|client| forwarded(client, host)).unwrap_or_default();
                assert_eq!(
                    parse_forwarded(&text),
                    Forwarded { client, host: Some(host.to_owned()) },
                    "{text}"
                );
            }
        }
        assert_eq!(parse_forwarded("for=_hidden;proto=tcp"), Forwarded::default());
    }

    proptest! {
        #[test]
        fn values_come_back(version in "\\PC{1,40}") {
            let written = Baggage { version, workload_kind: "pod".into(), workload: "p".into(), ..Baggage::default() };
            prop_assert_eq!(Baggage::parse(&written.to_string()), written);
        }

        #[test]
        fn strangers_never_panic_us(text in ".{0,200}") {
            let _ = Baggage::parse(&text);
            let _ = parse_forwarded(&text);
        }
    }
}
