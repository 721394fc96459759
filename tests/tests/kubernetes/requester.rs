//! Asks a CA for one certificate, through the agent's own client, from a site of the world.

use posthaste::{
    identity::{CaClient, CaClientOptions, CertificateSource},
    snapshot::spiffe::SpiffeId,
    tls::Clock,
};
use posthaste_tests::{Site, cluster::ca::NAME};
use rcgen::{CertificateParams, KeyPair, SanType};
use std::{
    fs,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

pub(crate) struct Requester {
    site: Site,
    asked: AtomicU32,
}

impl Requester {
    pub(crate) fn new(site: Site) -> Self {
        Self { site, asked: AtomicU32::new(0) }
    }

    /// The chain, or what the CA said. `bundle` is what the CA's own certificate is checked against.
    pub(crate) fn ask(
        &self,
        url: &str,
        bundle: &str,
        token: &str,
        namespace: &str,
        account: &str,
    ) -> Result<Vec<String>, String> {
        let (root_file, token_file) = (self.file("roots", bundle), self.file("token", token));
        let options = CaClientOptions {
            url: url.to_owned(),
            server_name: Some(NAME.to_owned()),
            root_file,
            token_file,
            cluster_id: None,
            connect_timeout: Duration::from_secs(5),
        };
        let id = SpiffeId::new("cluster.local", namespace, account);
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(id.as_str().try_into().unwrap())];
        let csr = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        let work = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = CaClient::new(options, Clock::system()).unwrap();
                let asked = client.issue(&id, &csr, Duration::from_secs(3600));
                tokio::time::timeout(Duration::from_secs(20), asked).await
            })
        };
        let answer = self.site.namespace().inside(work).unwrap();
        let issued = answer.map_err(|_| "no answer within 20 s".to_owned())?;
        issued.map(|issued| issued.cert_chain).map_err(|error| error.to_string())
    }

    /// Whether openssl finds that a fresh leaf is signed by `root`.
    pub(crate) fn verifies(
        &self,
        url: &str,
        bundle: &str,
        token: &str,
        (namespace, account): (&str, &str),
        root: &str,
    ) -> Result<bool, String> {
        let chain = self.ask(url, bundle, token, namespace, account)?;
        let (leaf, root) = (self.file("leaf", &chain[0]), self.file("root", root));
        let said = Command::new("openssl").arg("verify").arg("-CAfile").arg(root).arg(leaf).output();
        Ok(said.map_err(|error| error.to_string())?.status.success())
    }

    fn file(&self, what: &str, text: &str) -> PathBuf {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let path = self.site.folder().join(format!("asked-{number}-{what}"));
        fs::write(&path, text).unwrap();
        path
    }
}
