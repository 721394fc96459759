//! What the CA's objects hold: its own Secret, the one that was given, the ConfigMap with the bundle. Asks nobody.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject};
use time::OffsetDateTime;

use super::plan::Given;
use crate::{
    ca::roots::{self, LIST, Root, StoredRoot},
    tls::{Bundle, provider},
};

/// Key of the bundle in the ConfigMap, as cert-manager's trust bundles and Kubernetes' own have it.
pub(crate) const BUNDLE: &str = "ca.crt";

/// The roots in the CA's own Secret.
pub(crate) fn read(secret: &Secret) -> Result<Vec<StoredRoot>, String> {
    let text = |name: &str| -> Result<Option<String>, String> {
        let bytes = secret.data.as_ref().and_then(|data| data.get(name));
        bytes.map(|bytes| utf8(name, bytes)).transpose()
    };
    let list = text(LIST)?.ok_or_else(|| format!("data has no {LIST}"))?;
    roots::read_all(&list, text)
}

/// The Secret that holds `roots`; `old` is what it replaces, whose version it then carries.
pub(crate) fn write(name: &str, roots: &[StoredRoot], old: Option<&Secret>) -> Result<Secret, String> {
    let mut data = BTreeMap::from([(LIST.to_owned(), ByteString(roots::write_list(roots)?.into_bytes()))]);
    let files = roots.iter().flat_map(StoredRoot::files);
    data.extend(files.map(|(name, text)| (name, ByteString(text.into_bytes()))));
    let metadata = old.map_or_else(|| named(name), |old| old.metadata.clone());
    Ok(Secret { metadata, data: Some(data), type_: Some("Opaque".to_owned()), ..Secret::default() })
}

/// Reads a Secret of type `kubernetes.io/tls`; everything that would keep it from signing is wrong here.
pub(crate) fn given(secret: &Secret, now: OffsetDateTime) -> Result<Given, String> {
    let find = |name: &str| secret.data.as_ref().and_then(|data| data.get(name));
    let need = |name: &str| utf8(name, find(name).ok_or_else(|| format!("data has no {name}"))?);
    let (certificate, key) = (need("tls.crt")?, need("tls.key")?);
    let anchors = find("ca.crt").map(|bytes| utf8("ca.crt", bytes)).transpose()?;
    let anchors = anchors.filter(|text| !text.trim().is_empty() && *text != certificate);
    let given = Given { certificate, key, anchors };
    let opened = given.root(now, now).open()?;
    if opened.not_after <= now {
        return Err(format!("tls.crt ended at {}", opened.not_after));
    }
    signs(&given.certificate)?;
    proves(&opened, now)?;
    Ok(given)
}

/// Signs a leaf for nobody and follows it to the anchors, as agents will.
fn proves(root: &Root, now: OffsetDateTime) -> Result<(), String> {
    let bundle = Bundle::from_pem(root.anchors.as_bytes()).map_err(|error| format!("ca.crt: {error}"))?;
    let wrong =
        |error: &dyn std::fmt::Display| format!("what tls.crt signs is not trusted by ca.crt: {error}");
    let key = KeyPair::generate().map_err(|error| wrong(&error))?;
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = (now - time::Duration::hours(1), now + time::Duration::hours(1));
    let leaf = params.signed_by(&key, &root.issuer).map_err(|error| wrong(&error))?;
    let mut chain = vec![leaf.der().clone()];
    for certificate in CertificateDer::pem_slice_iter(root.intermediates.as_bytes()) {
        chain.push(certificate.map_err(|error| wrong(&error))?);
    }
    let seconds = u64::try_from(now.unix_timestamp()).unwrap_or(0);
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    bundle.verify(&chain, now, &provider()).map_err(|error| wrong(&error))
}

/// Whether the first certificate may sign others (RFC 5280, 4.2.1.9 and 4.2.1.3).
fn signs(pem: &str) -> Result<(), String> {
    let wrong = |error: &dyn std::fmt::Display| format!("tls.crt: {error}");
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| wrong(&error))?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).map_err(|error| wrong(&error))?;
    if !parsed.is_ca() {
        return Err("tls.crt is no CA certificate: cert-manager makes one with `isCA: true`".to_owned());
    }
    match parsed.key_usage() {
        Ok(Some(usage)) if !usage.value.key_cert_sign() => {
            Err("tls.crt may not sign certificates: its key usage lacks `cert sign`".to_owned())
        }
        _ => Ok(()),
    }
}

/// The ConfigMap that tells agents whom to trust; `old` is what it replaces. None where it says so already.
pub(crate) fn bundle(name: &str, text: &str, old: Option<&ConfigMap>) -> Option<ConfigMap> {
    let known = old.and_then(|old| old.data.as_ref()?.get(BUNDLE));
    if known.is_some_and(|known| known == text) {
        return None;
    }
    let metadata = old.map_or_else(|| named(name), |old| old.metadata.clone());
    let mut data = old.and_then(|old| old.data.clone()).unwrap_or_default();
    data.insert(BUNDLE.to_owned(), text.to_owned());
    Some(ConfigMap { metadata, data: Some(data), ..ConfigMap::default() })
}

fn named(name: &str) -> ObjectMeta {
    let labels = BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), "posthaste-ca".to_owned())]);
    ObjectMeta { name: Some(name.to_owned()), labels: Some(labels), ..ObjectMeta::default() }
}

fn utf8(name: &str, bytes: &ByteString) -> Result<String, String> {
    String::from_utf8(bytes.0.clone()).map_err(|_| format!("{name} is no text"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap()
    }

    fn tls(parts: &[(&str, &str)]) -> Secret {
        let data =
            parts.iter().map(|(name, text)| ((*name).to_owned(), ByteString(text.as_bytes().to_vec())));
        Secret { data: Some(data.collect()), ..Secret::default() }
    }

    /// A certificate that may sign, and the root above it.
    fn intermediate() -> (StoredRoot, StoredRoot) {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(rcgen::DnType::CommonName, "top");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        let stored = |certificate: String, key: &KeyPair| StoredRoot {
            name: "x".to_owned(),
            certificate,
            anchors: None,
            key: key.serialize_pem(),
            signs_from: now(),
        };
        let top = stored(certificate, &key);
        let below = KeyPair::generate().unwrap();
        let mut middle = params.clone();
        middle.distinguished_name = rcgen::DistinguishedName::new();
        middle.distinguished_name.push(rcgen::DnType::CommonName, "middle");
        let signed = middle.signed_by(&below, &rcgen::Issuer::new(params, key)).unwrap().pem();
        (stored(signed, &below), top)
    }

    #[test]
    fn roots_survive_the_secret() {
        let one = StoredRoot::make("t", 1, now(), now()).unwrap();
        let mut two = StoredRoot::make("t", 2, now(), now() + time::Duration::days(1)).unwrap();
        two.anchors = Some(one.certificate.clone());
        let roots = vec![one, two];
        let mut secret = write("s", &roots, None).unwrap();
        assert_eq!(read(&secret).unwrap(), roots);
        secret.metadata.resource_version = Some("7".to_owned());
        let less = write("s", roots.get(..1).unwrap(), Some(&secret)).unwrap();
        assert_eq!(
            (less.metadata, less.data.unwrap().len()),
            (secret.metadata.clone(), 3),
            "nothing is left over"
        );
        secret.data.as_mut().unwrap().remove(LIST);
        assert!(read(&secret).unwrap_err().contains("roots.json"));
    }

    #[test]
    fn a_given_secret_that_cannot_sign_is_refused_with_its_field() {
        let root = StoredRoot::make("t", 1, now(), now()).unwrap();
        let other = StoredRoot::make("t", 2, now(), now()).unwrap();
        let good = [("tls.crt", &*root.certificate), ("tls.key", &*root.key)];
        assert_eq!(given(&tls(&good), now()).unwrap().anchors, None);
        let with_ca = [good[0], good[1], ("ca.crt", &*root.certificate)];
        assert_eq!(given(&tls(&with_ca), now()).unwrap().anchors, None, "cert-manager repeats it");
        let (middle, top) = intermediate();
        let under =
            [("tls.crt", &*middle.certificate), ("tls.key", &*middle.key), ("ca.crt", &*top.certificate)];
        assert_eq!(given(&tls(&under), now()).unwrap().anchors, Some(top.certificate.clone()));
        let leaf = rcgen::generate_simple_self_signed(vec!["a".to_owned()]).unwrap();
        let (leaf_pem, leaf_key) = (leaf.cert.pem(), leaf.signing_key.serialize_pem());
        let table: [(&[(&str, &str)], &str); 7] = [
            (&[good[0], good[1], ("ca.crt", &other.certificate)], "not trusted by ca.crt"),
            (&good[..1], "data has no tls.key"),
            (&good[1..], "data has no tls.crt"),
            (&[good[0], ("tls.key", &other.key)], "do not belong together"),
            (&[("tls.crt", "x"), good[1]], "holds no certificate"),
            (&[("tls.crt", &leaf_pem), ("tls.key", &leaf_key)], "no CA certificate"),
            (&[good[0], good[1], ("ca.crt", "x")], "ca.crt"),
        ];
        for (parts, reason) in table {
            let error = given(&tls(parts), now()).unwrap_err();
            assert!(error.contains(reason), "{error} instead of {reason}");
        }
        assert!(given(&tls(&good), now() + time::Duration::days(4000)).unwrap_err().contains("ended"));
    }

    #[test]
    fn the_bundle_is_written_once() {
        let first = bundle("b", "pem", None).unwrap();
        assert_eq!(bundle("b", "pem", Some(&first)), None);
        let second = bundle("b", "other", Some(&first)).unwrap();
        assert_eq!(second.data.unwrap().get(BUNDLE).unwrap(), "other");
    }
}
