//! A certificate authority for unit tests: identities of any trust domain, validity and purpose, in memory only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;

use super::{Bundle, Clock, Credentials, TlsIdentity};
use crate::snapshot::spiffe::SpiffeId;

/// One self-signed root.
pub(crate) struct TestAuthority {
    pub(crate) root: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    pub(crate) clock: Clock,
}

/// What a leaf says, where it differs from a good one.
#[derive(Clone)]
pub(crate) struct Leaf {
    pub(crate) uris: Vec<String>,
    pub(crate) not_before: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
    pub(crate) purposes: Vec<ExtendedKeyUsagePurpose>,
}

impl Leaf {
    /// A leaf valid from a minute ago for an hour, for client and server.
    pub(crate) fn new(uri: &str, clock: &Clock) -> Self {
        Self {
            uris: vec![uri.to_owned()],
            not_before: clock.date() - time::Duration::minutes(1),
            not_after: clock.date() + time::Duration::hours(1),
            purposes: vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth],
        }
    }
}

impl TestAuthority {
    pub(crate) fn new() -> Self {
        Self::with_clock(Clock::system())
    }

    pub(crate) fn with_clock(clock: Clock) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let root = params.self_signed(&key).unwrap().der().clone();
        Self { root, issuer: Issuer::new(params, key), clock }
    }

    pub(crate) fn bundle(&self) -> Bundle {
        Bundle::new(vec![self.root.clone()]).unwrap()
    }

    /// A revocation list, PEM, that names one serial number (hexadecimal).
    pub(crate) fn revoke(&self, serial: &str) -> String {
        let bytes: Vec<u8> = (0..serial.len() / 2)
            .map(|at| u8::from_str_radix(&serial[at * 2..at * 2 + 2], 16).unwrap())
            .collect();
        let now = self.clock.date();
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from_slice(&bytes),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: now,
            next_update: now + time::Duration::hours(1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    /// Signs `leaf` for a fresh key; chain without the root.
    pub(crate) fn sign(&self, leaf: &Leaf) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        let uris = leaf.uris.iter().map(|uri| SanType::URI(uri.as_str().try_into().unwrap()));
        params.subject_alt_names = uris.collect();
        params.not_before = leaf.not_before;
        params.not_after = leaf.not_after;
        params.extended_key_usages = leaf.purposes.clone();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
    }

    /// A ready identity that trusts this authority.
    pub(crate) fn identity(&self, id: &SpiffeId) -> TlsIdentity {
        self.identity_of(&Leaf::new(id.as_str(), &self.clock), &self.bundle())
    }

    /// A ready identity of `leaf` that trusts `bundle`.
    pub(crate) fn identity_of(&self, leaf: &Leaf, bundle: &Bundle) -> TlsIdentity {
        let (chain, key) = self.sign(leaf);
        let id = leaf.uris[0].parse().unwrap();
        let credentials = Credentials::new(id, chain, key).unwrap();
        TlsIdentity::build(Arc::new(credentials), bundle, self.clock.clone()).unwrap()
    }
}

/// `spiffe://cluster.local/ns/shop/sa/<name>`.
pub(crate) fn shop(name: &str) -> SpiffeId {
    SpiffeId::new("cluster.local", "shop", name)
}
