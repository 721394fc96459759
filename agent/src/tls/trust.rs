//! What the certificate of a peer is judged by for as long as its tunnel stands: the roots of now, and what was revoked since.

use std::{future::pending, sync::Arc};

use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime, pem::PemObject};
use tokio::sync::watch;
use webpki::{
    CertRevocationList, ExpirationPolicy, OwnedCertRevocationList, RevocationCheckDepth,
    RevocationOptionsBuilder, UnknownStatusPolicy,
};

use super::{Bundle, Clock, Facts, provider};

/// Certificate revocation lists (RFC 5280, section 5). A list counts for certificates of the issuer that signed it; it goes on counting when
/// its `nextUpdate` is past, since a list that is not renewed must not bring back what it revoked.
#[derive(Clone, Debug, Default)]
pub struct Revocations(Vec<Arc<CertRevocationList<'static>>>);

/// Why a text is no revocation list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {reason}; give PEM blocks `-----BEGIN X509 CRL-----` or one list in DER")]
pub struct MalformedList {
    /// Where it was read.
    pub file: String,
    /// What does not fit.
    pub reason: String,
}

impl Revocations {
    /// The lists in the content of files: PEM, several each, or one in DER.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn read<'file>(
        files: impl Iterator<Item = (&'file str, &'file [u8])>,
    ) -> Result<Self, MalformedList> {
        let mut lists = Vec::new();
        for (file, content) in files {
            let malformed = |reason: String| MalformedList { file: file.to_owned(), reason };
            if content.starts_with(b"0") {
                lists.push(list(content).map_err(malformed)?);
                continue;
            }
            let before = lists.len();
            for der in CertificateRevocationListDer::pem_slice_iter(content) {
                let der = der.map_err(|error| malformed(error.to_string()))?;
                lists.push(list(&der).map_err(malformed)?);
            }
            if lists.len() == before {
                return Err(malformed("holds no revocation list".to_owned()));
            }
        }
        Ok(Self(lists))
    }

    /// How many lists.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

fn list(der: &[u8]) -> Result<Arc<CertRevocationList<'static>>, String> {
    let owned = OwnedCertRevocationList::from_der(der)
        .map_err(|error| format!("is not a revocation list: {error}"))?;
    Ok(Arc::new(owned.into()))
}

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// None before the first certificate came: nothing was accepted by then.
    pub roots: Option<Bundle>,
    /// What was taken back.
    pub revoked: Revocations,
}

/// Why a peer that was trusted is trusted no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// A list names it.
    #[error("the peer's certificate was revoked")]
    Revoked,
    /// Its root is gone.
    #[error("the peer's certificate does not lead to a root that is trusted now")]
    Root,
    /// Anything else, in webpki's words.
    #[error("the peer's certificate: {0}")]
    Other(String),
}

impl Trust {
    /// Judges a chain, leaf first. That a leaf has ended since does not matter here: its successor cannot be shown on a tunnel that stands.
    ///
    /// # Errors
    /// It is not trusted.
    pub fn check(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Untrusted> {
        let Some(roots) = &self.roots else { return Ok(()) };
        let end = chain.first().and_then(|leaf| Facts::read(leaf).ok()).map(|facts| facts.not_after);
        let end = end.and_then(|end| u64::try_from(end.unix_timestamp()).ok()).unwrap_or(u64::MAX);
        let at = std::time::Duration::from_secs(now.as_secs().min(end));
        let at = UnixTime::since_unix_epoch(at);
        roots.verify_with(chain, at, &provider(), None).map_err(|error| match error {
            webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => Untrusted::Root,
            other => Untrusted::Other(other.to_string()),
        })?;
        // One by one: of several lists of an issuer webpki asks the first alone.
        let revoked = self.revoked.0.iter().any(|list| {
            let list: [&CertRevocationList<'_>; 1] = [list];
            let Ok(options) = RevocationOptionsBuilder::new(&list) else { return false };
            let options = options
                .with_depth(RevocationCheckDepth::Chain)
                .with_status_policy(UnknownStatusPolicy::Allow)
                .with_expiration_policy(ExpirationPolicy::Ignore)
                .build();
            let judged = roots.verify_with(chain, at, &provider(), Some(options));
            // A list with a signature that is not its issuer's says nothing.
            matches!(judged, Err(webpki::Error::CertRevoked))
        });
        if revoked { Err(Untrusted::Revoked) } else { Ok(()) }
    }
}

/// Resolves when a peer with this chain is trusted no more, which may be at once.
pub async fn lost(
    mut trust: watch::Receiver<Arc<Trust>>,
    chain: Vec<CertificateDer<'static>>,
    clock: Clock,
) -> Untrusted {
    loop {
        let judged = trust.borrow_and_update().check(&chain, clock.unix());
        if let Err(untrusted) = judged {
            return untrusted;
        }
        if trust.changed().await.is_err() {
            return pending().await;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::tls::test_authority::{Leaf, TestAuthority, shop};

    fn revoking(authority: &TestAuthority, chain: &[CertificateDer<'_>]) -> Revocations {
        let serial = Facts::read(&chain[0]).unwrap().serial;
        let list = authority.revoke(&serial);
        Revocations::read([("list", list.as_bytes())].into_iter()).unwrap()
    }

    #[test]
    fn what_is_revoked_or_without_a_root_is_trusted_no_more() {
        let (ours, theirs) = (TestAuthority::new(), TestAuthority::new());
        let leaf = Leaf::new(shop("a").as_str(), &ours.clock);
        let (chain, _) = ours.sign(&leaf);
        let (other, _) = ours.sign(&leaf);
        let now = ours.clock.unix();
        let trust = |roots: &TestAuthority, revoked| Trust { roots: Some(roots.bundle()), revoked };
        assert_eq!(Trust::default().check(&chain, now), Ok(()));
        assert_eq!(trust(&ours, Revocations::default()).check(&chain, now), Ok(()));
        assert_eq!(trust(&ours, revoking(&ours, &chain)).check(&chain, now), Err(Untrusted::Revoked));
        assert_eq!(trust(&ours, revoking(&ours, &other)).check(&chain, now), Ok(()));
        let mut both = revoking(&ours, &other);
        both.0.extend(revoking(&ours, &chain).0);
        assert_eq!(trust(&ours, both).check(&chain, now), Err(Untrusted::Revoked));
        // A list counts for those of its own issuer only.
        assert_eq!(trust(&ours, revoking(&theirs, &chain)).check(&chain, now), Ok(()));
        assert!(trust(&theirs, Revocations::default()).check(&chain, now).is_err());
        // An end that has come meanwhile is no reason.
        let day = std::time::Duration::from_secs(now.as_secs() + 86_400);
        assert_eq!(
            trust(&ours, Revocations::default()).check(&chain, UnixTime::since_unix_epoch(day)),
            Ok(())
        );
    }

    #[test]
    fn what_is_no_list_is_said() {
        let read = |content: &'static [u8]| Revocations::read([("f", content)].into_iter());
        for content in
            [b"".as_slice(), b"hello", b"0\x82", b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"]
        {
            let error = read(content).unwrap_err();
            assert!(error.to_string().starts_with("f: "), "{error}");
        }
        assert_eq!(Revocations::read(std::iter::empty()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn waits_for_the_judgement_that_goes_against_it() {
        let authority = TestAuthority::new();
        let (chain, _) = authority.sign(&Leaf::new(shop("a").as_str(), &authority.clock));
        let good = Trust { roots: Some(authority.bundle()), revoked: Revocations::default() };
        let bad = Trust { revoked: revoking(&authority, &chain), ..good.clone() };
        let (sender, receiver) = watch::channel(Arc::new(good.clone()));
        let waiting = lost(receiver, chain, authority.clock.clone());
        let telling = async {
            tokio::task::yield_now().await;
            sender.send_replace(Arc::new(good));
            tokio::task::yield_now().await;
            sender.send_replace(Arc::new(bad));
        };
        assert_eq!(tokio::join!(waiting, telling).0, Untrusted::Revoked);
    }
}
