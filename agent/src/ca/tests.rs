//! The authority on a real state folder: what it signs, what it refuses, how roots overlap.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use rcgen::{CertificateParams, KeyPair, SanType};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use time::OffsetDateTime;

use super::{
    Authority, AuthorityOptions, RequestError, SigningError, SigningOptions, StateError, rotate,
    tokens::TokenFile,
};
use crate::tls::{Bundle, Facts};

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

fn options(folder: &Path) -> AuthorityOptions {
    AuthorityOptions {
        state: folder.join("ca"),
        signing: SigningOptions {
            trust_domain: "cluster.local".to_owned(),
            default_validity: Duration::from_secs(24 * 3600),
            longest_validity: Duration::from_secs(48 * 3600),
        },
    }
}

fn request(uris: &[&str]) -> String {
    let mut params = CertificateParams::default();
    params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
    params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
}

fn leaf(pem: &str) -> Facts {
    Facts::read(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap()
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc().replace_nanosecond(0).unwrap()
}

#[test]
fn signs_what_was_asked_for_within_its_limits() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(options(folder.path()), now()).unwrap();
    for (asked, hours) in [(None, 24), (Some(0), 24), (Some(3600), 1), (Some(1_000_000_000), 48)] {
        let now = now();
        let issued =
            authority.issue(&request(&[WEB]), Some(WEB), asked.map(Duration::from_secs), now).unwrap();
        let facts = leaf(&issued.cert_chain[0]);
        assert_eq!(facts.uris, [WEB]);
        assert_eq!(facts.serial, issued.serial);
        assert_eq!(facts.not_after, now + time::Duration::hours(hours));
        assert_eq!(facts.not_before, now - time::Duration::minutes(1));
    }
    let bundle = fs::read_to_string(folder.path().join("ca/root.pem")).unwrap();
    assert_eq!(Bundle::from_pem(bundle.as_bytes()).unwrap().certificates().len(), 1);
    let reopened = Authority::open(options(folder.path()), now()).unwrap();
    assert_eq!(reopened.trusted(now()).unwrap(), bundle, "the root is kept");
}

#[test]
fn refuses_requests_and_says_which_field() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(options(folder.path()), now()).unwrap();
    let issue = |csr: &str, impersonated: Option<&str>| match authority.issue(csr, impersonated, None, now())
    {
        Err(SigningError::Request(error)) => error,
        other => panic!("{other:?}"),
    };
    let (cart, far) = ("spiffe://cluster.local/ns/shop/sa/cart", "spiffe://elsewhere/ns/shop/sa/web");
    assert!(matches!(issue("nonsense", Some(WEB)), RequestError::Csr(_)));
    assert!(matches!(issue(&request(&[WEB]), Some(cart)), RequestError::Contradiction { .. }));
    assert!(matches!(issue(&request(&[WEB, cart]), Some(WEB)), RequestError::Names(_)));
    assert!(matches!(issue(&request(&["https://a/b"]), Some(WEB)), RequestError::Names(_)));
    assert!(matches!(issue(&request(&[WEB]), Some("web")), RequestError::Impersonated(_)));
    assert!(matches!(issue(&request(&[]), None), RequestError::Nobody));
    assert!(matches!(issue(&request(&[far]), None), RequestError::TrustDomain { .. }));
    assert!(matches!(issue(&request(&[]), Some(far)), RequestError::TrustDomain { .. }));
    let mut forged = pem_bytes(&request(&[WEB]));
    let end = forged.len() - 1;
    forged[end] ^= 1;
    let forged = rcgen_pem(&forged);
    assert!(matches!(issue(&forged, Some(WEB)), RequestError::Csr(_)), "signature");
    assert!(authority.issue(&request(&[]), Some(WEB), None, now()).is_ok());
    assert!(authority.issue(&request(&[WEB]), None, None, now()).is_ok());
}

fn pem_bytes(pem: &str) -> Vec<u8> {
    rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

fn rcgen_pem(der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = "-----BEGIN CERTIFICATE REQUEST-----\n".to_owned();
    for (index, chunk) in der.chunks(3).enumerate() {
        let bits =
            chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit) & 63) as usize;
            text.push(if digit > chunk.len() { '=' } else { char::from(DIGITS[value]) });
        }
        if index % 16 == 15 {
            text.push('\n');
        }
    }
    text + "\n-----END CERTIFICATE REQUEST-----\n"
}

#[test]
fn roots_overlap_when_rotated() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let authority = Authority::open(options.clone(), now()).unwrap();
    let old = authority.trusted(now()).unwrap();
    rotate(&options, None).unwrap();
    let both = authority.trusted(now()).unwrap();
    assert!(both.starts_with(&old) && both.len() > old.len(), "the running authority follows");
    assert_eq!(fs::read_to_string(folder.path().join("ca/root.pem")).unwrap(), both);
    let new = both.strip_prefix(&old).unwrap();

    let signed_by = |hours: i64| {
        let at = now() + time::Duration::hours(hours);
        let issued = authority.issue(&request(&[WEB]), None, None, at).unwrap();
        let verifies = |root: &str| chains(&issued.cert_chain[0], root, at);
        (verifies(&old), verifies(new), issued.cert_chain[1].clone())
    };
    assert_eq!(signed_by(0), (true, false, both.clone()));
    assert_eq!(signed_by(47), (true, false, both.clone()));
    assert_eq!(signed_by(49), (false, true, both.clone()));
    assert_eq!(signed_by(97), (false, true, new.to_owned()));
}

fn chains(leaf: &str, root: &str, at: OffsetDateTime) -> bool {
    let leaf = CertificateDer::from_pem_slice(leaf.as_bytes()).unwrap();
    let bundle = Bundle::from_pem(root.as_bytes()).unwrap();
    let at = rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(at.unix_timestamp() as u64));
    let provider = crate::tls::provider();
    let parsed = webpki::EndEntityCert::try_from(&leaf).unwrap();
    let algorithms = provider.signature_verification_algorithms.all;
    let roots = bundle.store();
    let usage = webpki::KeyUsage::server_auth();
    parsed.verify_for_usage(algorithms, &roots.roots, &[], at, usage, None, None).is_ok()
}

#[test]
fn refuses_a_state_folder_that_others_can_read() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    drop(Authority::open(options.clone(), now()).unwrap());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&options.state), 0o700);
    let key = fs::read_dir(&options.state).unwrap().map(|entry| entry.unwrap().path());
    let key = key.into_iter().find(|path| path.extension().is_some_and(|end| end == "key")).unwrap();
    assert_eq!((mode(&key), mode(&options.state.join("root.pem"))), (0o600, 0o644));

    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let error = Authority::open(options.clone(), now()).err().unwrap();
    assert!(error.to_string().contains("chmod 600"), "{error}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(&options.state, fs::Permissions::from_mode(0o750)).unwrap();
    assert!(matches!(Authority::open(options.clone(), now()), Err(StateError::Mode { .. })));
    fs::set_permissions(&options.state, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(options.state.join("roots.json"), "[]").unwrap();
    assert!(matches!(Authority::open(options, now()), Err(StateError::Content { .. })));
}

#[test]
fn token_files_are_guarded_and_followed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    let write = |text: &str, mode| {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    write("node-a 0123456789abcdef\n", 0o644);
    let error = TokenFile::open(&path).err().unwrap();
    assert!(error.to_string().contains("chmod 600"), "{error}");
    write("node-a 0123456789abcdef\n", 0o600);
    let tokens = TokenFile::open(&path).unwrap();
    assert_eq!(tokens.holder("0123456789abcdef").unwrap().as_deref(), Some("node-a"));
    write("node-b another-token-of-length\n", 0o600);
    assert_eq!(tokens.holder("0123456789abcdef").unwrap(), None);
    assert_eq!(tokens.holder("another-token-of-length").unwrap().as_deref(), Some("node-b"));
    fs::remove_file(&path).unwrap();
    assert!(tokens.holder("another-token-of-length").is_err());
}
