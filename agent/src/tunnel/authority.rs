//! The `:authority` of a CONNECT: `ip:port`, `[v6]:port` or `service.hostname:port`. Pure.
//!
//! Refuses user information, paths, missing or zero ports, zone ids, IPv6 without brackets and host names that are no
//! DNS names (RFC 1123), so that what is looked up later is what was written.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

/// Where a CONNECT wants to go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Authority {
    /// The address of a pod and a port of it.
    Address(SocketAddr),
    /// The name of a service, in lower case, and a port of the service.
    Host(Arc<str>, u16),
}

/// Why a text is not an authority of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// No `:port`, or not a number between 1 and 65535.
    #[error("the port is missing or not a number between 1 and 65535")]
    Port,
    /// In brackets, but no IPv6 address.
    #[error("the brackets do not hold an IPv6 address")]
    Ipv6,
    /// Neither an IPv4 address nor a DNS name.
    #[error("the host is neither an address nor a DNS name")]
    Host,
}

impl Authority {
    /// The port, of the pod or of the service.
    #[must_use]
    pub fn port(&self) -> u16 {
        match self {
            Self::Address(address) => address.port(),
            Self::Host(_, port) => *port,
        }
    }
}

impl From<SocketAddr> for Authority {
    fn from(address: SocketAddr) -> Self {
        Self::Address(SocketAddr::new(address.ip(), address.port()))
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Host(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

impl FromStr for Authority {
    type Err = AuthorityError;

    fn from_str(text: &str) -> Result<Self, AuthorityError> {
        let (host, port) = text.rsplit_once(':').ok_or(AuthorityError::Port)?;
        let port = parse_port(port)?;
        if let Some(inner) = host.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(AuthorityError::Ipv6)?;
            let address: Ipv6Addr = inner.parse().map_err(|_| AuthorityError::Ipv6)?;
            return Ok(Self::Address(SocketAddr::new(IpAddr::V6(address), port)));
        }
        if let Ok(address) = host.parse::<Ipv4Addr>() {
            return Ok(Self::Address(SocketAddr::new(IpAddr::V4(address), port)));
        }
        if !is_dns_name(host) {
            return Err(AuthorityError::Host);
        }
        Ok(Self::Host(host.to_ascii_lowercase().into(), port))
    }
}

fn parse_port(text: &str) -> Result<u16, AuthorityError> {
    let plain = (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(port) if plain && port != 0 => Ok(port),
        _ => Err(AuthorityError::Port),
    }
}

/// At most 253 characters, labels of 1 to 63 letters, digits and inner hyphens, and not all digits at the end (such a text
/// is a mistyped address).
fn is_dns_name(host: &str) -> bool {
    let labels_fit = host.split('.').all(is_dns_label);
    let last_is_number = host.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    host.len() <= 253 && labels_fit && !last_is_number
}

fn is_dns_label(label: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=63).contains(&label.len())
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parses_what_the_wire_allows() {
        let table = [
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("[fd00::1]:8080", "[fd00::1]:8080"),
            ("[FD00:0:0::1]:8080", "[fd00::1]:8080"),
            ("Cart.shop.svc.cluster.local:443", "cart.shop.svc.cluster.local:443"),
            ("a:1", "a:1"),
        ];
        for (text, shown) in table {
            assert_eq!(text.parse::<Authority>().expect(text).to_string(), shown);
        }
    }

    #[test]
    fn refuses_everything_else() {
        use AuthorityError::{Host, Ipv6, Port};
        let table = [
            ("", Port),
            ("10.0.0.1", Port),
            ("10.0.0.1:", Port),
            ("10.0.0.1:0", Port),
            ("10.0.0.1:65536", Port),
            ("10.0.0.1:+80", Port),
            ("10.0.0.1:080080", Port),
            ("10.0.0.1:80/x", Port),
            ("[fd00::1:80", Ipv6),
            ("[fd00::1%eth0]:80", Ipv6),
            ("[10.0.0.1]:80", Ipv6),
            ("fd00::1:80", Host),
            ("10.0.0:80", Host),
            ("10.0.0.256:80", Host),
            ("user@host:80", Host),
            ("http://host:80", Host),
            ("-a.b:80", Host),
            ("a..b:80", Host),
            ("a_b:80", Host),
            ("hôte:80", Host),
            (":80", Host),
        ];
        for (text, error) in table {
            assert_eq!(text.parse::<Authority>(), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_shows_what_it_read(text in "\\PC{0,80}") {
            if let Ok(authority) = text.parse::<Authority>() {
                prop_assert_eq!(authority.to_string().parse::<Authority>(), Ok(authority));
            }
        }

        #[test]
        fn addresses_come_back(address: IpAddr, port in 1u16..) {
            let authority = Authority::from(SocketAddr::new(address, port));
            prop_assert_eq!(authority.to_string().parse::<Authority>(), Ok(authority));
        }
    }
}
