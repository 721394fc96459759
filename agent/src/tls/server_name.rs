//! Tells the certificate verifier whom a connection expects, through the only per-connection value that rustls hands it:
//! the server name. Pure.
//!
//! SNI is off, so the name never leaves the process. It is `<hash of the identity, two labels>.<address>`, which also makes
//! the key of the resumption cache (expected identity, peer address): a ticket is offered only where it was given.
//! A hash because an identity may be longer than a DNS name may be.

use std::{fmt::Write, net::IpAddr};

use rustls_pki_types::ServerName;

use super::provider::sha256;
use crate::snapshot::spiffe::SpiffeId;

/// The name that stands for `expected` at `peer`; `None` only if it were no DNS name, which its form excludes.
pub(crate) fn encode(expected: &SpiffeId, peer: IpAddr) -> Option<ServerName<'static>> {
    let mut name = prefix(expected.as_str());
    let bits = match peer.to_canonical() {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    write!(name, "a{bits:x}").ok()?;
    ServerName::try_from(name).ok()
}

/// Whether `name` was encoded for the identity `presented`.
pub(crate) fn expects(name: &ServerName<'_>, presented: &str) -> bool {
    match name {
        ServerName::DnsName(name) => name.as_ref().starts_with(&prefix(presented)),
        _ => false,
    }
}

fn prefix(identity: &str) -> String {
    let mut name = String::with_capacity(2 * 34 + 34);
    for half in sha256(identity.as_bytes()).chunks(16) {
        name.push('h');
        for byte in half {
            // Writing to a String cannot fail.
            let _ = write!(name, "{byte:02x}");
        }
        name.push('.');
    }
    name
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_tell_identities_and_addresses_apart() {
        let cart = SpiffeId::new("cluster.local", "shop", "cart");
        let long = SpiffeId::new("cluster.local", &"n".repeat(63), &"s".repeat(253));
        let four: IpAddr = "10.1.2.3".parse().unwrap();
        let six: IpAddr = "fd00::ffff:1".parse().unwrap();
        for (id, other) in [(&cart, &long), (&long, &cart)] {
            for address in [four, six] {
                let name = encode(id, address).unwrap();
                assert!(expects(&name, id.as_str()));
                assert!(!expects(&name, other.as_str()));
            }
            assert_ne!(encode(id, four), encode(id, six));
        }
    }
}
