//! The key of consistent hashing: a header, a cookie or the caller's address. Pure.

use std::net::IpAddr;

use http::{HeaderMap, header::COOKIE};

use crate::{
    resilience::ring,
    snapshot::policy::{Balancer, HashKey},
};

/// The key of a request by which the port's balancer chooses; none where it does not choose by key.
#[must_use]
pub fn key_of(balancer: &Balancer, headers: &HeaderMap, source: IpAddr) -> Option<u64> {
    match balancer {
        Balancer::PowerOfTwo => None,
        Balancer::ConsistentHash(key) => hash_key(key, headers, source),
    }
}

/// The stable hash of what the policy names; none where the request does not have it.
#[must_use]
pub fn hash_key(key: &HashKey, headers: &HeaderMap, source: IpAddr) -> Option<u64> {
    match key {
        HashKey::Header(name) => headers.get(name).map(|value| ring::hash(value.as_bytes())),
        HashKey::Cookie(name) => cookie(headers, name.as_bytes()).map(ring::hash),
        HashKey::Source => Some(ring::hash_ip(source)),
    }
}

/// The value of the first cookie of that name (RFC 6265, section 4.2), quotes and all.
fn cookie<'headers>(headers: &'headers HeaderMap, name: &[u8]) -> Option<&'headers [u8]> {
    let lines = headers.get_all(COOKIE).into_iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.map(<[u8]>::trim_ascii).find_map(|pair| pair.strip_prefix(name)?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys() {
        let mut headers = HeaderMap::new();
        headers.insert("x-user", "ann".parse().unwrap());
        headers.append(COOKIE, "ab=1; a=2;a=3".parse().unwrap());
        headers.append(COOKIE, "session=\"x=y\"; empty=".parse().unwrap());
        let source: IpAddr = "10.0.0.1".parse().unwrap();
        let of = |key: HashKey| hash_key(&key, &headers, source);
        let cookie = |name: &str| of(HashKey::Cookie(name.into()));
        assert_eq!(of(HashKey::Header("x-user".parse().unwrap())), Some(ring::hash(b"ann")));
        assert_eq!(of(HashKey::Header("x-other".parse().unwrap())), None);
        assert_eq!((cookie("a"), cookie("ab")), (Some(ring::hash(b"2")), Some(ring::hash(b"1"))));
        assert_eq!(
            (cookie("session"), cookie("empty")),
            (Some(ring::hash(b"\"x=y\"")), Some(ring::hash(b"")))
        );
        assert_eq!((cookie("b"), cookie("sess")), (None, None));
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(of(HashKey::Source), hash_key(&HashKey::Source, &headers, mapped));
        // Stable: what another version of the agent reckons.
        assert_eq!(ring::hash(b"ann"), 12_972_911_246_729_296_188);
    }
}
