//! The CA of a cluster, `posthaste ca --kubernetes`, as one replica on a site, with the rights that are shipped.

use crate::{
    Doing, Fault, Running, Site, agent,
    wait::{eventually_within, holds},
};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Client, Cluster, SYSTEM};

/// Port of the Istio CA API.
const PORT: u16 = 15012;
/// Port of health.
const HEALTH: u16 = 15014;
/// The service account of the manifests.
const ACCOUNT: &str = "posthaste-ca";
/// The audience of the tokens of agents.
pub const AUDIENCE: &str = "posthaste-ca";
/// The name in its certificate.
pub const NAME: &str = "posthaste-ca.posthaste-system.svc";

/// One replica.
#[derive(Debug)]
pub struct ClusterCa {
    running: Option<Running>,
    site: Site,
    kubeconfig: PathBuf,
    /// Flags added as they are; they count at the next start.
    pub extra: Vec<String>,
}

impl ClusterCa {
    /// Prepares a replica on a site. The manifests must have been applied.
    ///
    /// # Errors
    /// The service account is not there.
    pub fn prepare(site: Site, cluster: &Cluster) -> Result<Self, Fault> {
        let kubeconfig = cluster.kubeconfig_of(SYSTEM, ACCOUNT)?;
        Ok(Self { running: None, site, kubeconfig, extra: Vec::new() })
    }

    /// Starts it; does not wait.
    ///
    /// # Errors
    /// The binary is missing.
    pub fn start(&mut self) -> Result<(), Fault> {
        let mut command = self.site.command(agent::binary()?)?;
        command.args(["ca", "--kubernetes", "--kubeconfig"]).arg(&self.kubeconfig);
        command.args(["--listen", &self.address(PORT).to_string()]);
        command.args(["--health-address", &self.address(HEALTH).to_string()]).args(&self.extra);
        self.running = Some(self.site.launch(command)?);
        Ok(())
    }

    /// Waits until `/readyz` answers 200.
    ///
    /// # Errors
    /// It ended, or is not ready in time; says its log.
    pub fn wait_ready(&mut self) -> Result<(), Fault> {
        eventually_within(Duration::from_secs(60), "the CA to be ready", || {
            if !self.running.as_mut().is_some_and(Running::alive) {
                return Ok(Err(Fault::new(format!("the CA ended: {}", self.log()))));
            }
            match crate::http::fetch(self.site.namespace(), self.address(HEALTH), "/readyz") {
                Ok((200, _)) => Ok(Ok(())),
                Ok((status, body)) => Err(format!("{status} {body}; log: {}", self.log())),
                Err(error) => Err(format!("{error}; log: {}", self.log())),
            }
        })?
    }

    /// Adds a root, as an operator does in its pod.
    ///
    /// # Errors
    /// What it said.
    pub fn rotate(&self, overlap: Duration) -> Result<String, Fault> {
        let mut command = self.site.command(agent::binary()?)?;
        command.args(["ca", "rotate", "--kubernetes", "--kubeconfig"]).arg(&self.kubeconfig);
        command.args(["--overlap", &overlap.as_secs().to_string()]);
        self.site.launch(command)?.finish(Duration::from_secs(30))?.success()
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn stop(&mut self) -> Result<(), Fault> {
        let Some(running) = self.running.take() else { return Ok(()) };
        running.signal(Signal::TERM);
        running.finish(Duration::from_secs(30)).map(drop)
    }

    /// Its URL for agents.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address(PORT))
    }

    /// What it logged since it was started.
    #[must_use]
    pub fn log(&self) -> String {
        self.running.as_ref().map(|running| running.stderr() + &running.stdout()).unwrap_or_default()
    }

    fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.site.v4.into(), port)
    }
}

impl Cluster {
    /// The trust bundle that the CA wrote, as kubelet would mount it.
    ///
    /// # Errors
    /// There is none.
    pub fn trust_bundle(&self) -> Result<String, Fault> {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "posthaste-ca-bundle", "namespace": SYSTEM}});
        let map = self.read(&object)?;
        let text = map.pointer("/data/ca.crt").and_then(Value::as_str);
        text.map(str::to_owned).ok_or_else(|| Fault::new(format!("no bundle in {map}")))
    }

    /// Makes a pod as the scheduler leaves it: on a node, running.
    ///
    /// # Errors
    /// The server refuses.
    pub fn running_pod(
        &self,
        namespace: &str,
        name: &str,
        account: &str,
        node: &str,
    ) -> Result<Value, Fault> {
        self.apply(&json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
            "spec": {"nodeName": node, "serviceAccountName": account,
                     "containers": [{"name": "main", "image": "main"}]},
            "status": {"phase": "Running"},
        }))
    }

    /// The token that kubelet projects into a pod.
    ///
    /// # Errors
    /// The pod or its service account is not there.
    pub fn projected_token(&self, pod: &Value, audience: &str) -> Result<String, Fault> {
        let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let bound = json!({"apiVersion": "v1", "kind": "Pod",
            "name": text("/metadata/name"), "uid": text("/metadata/uid")});
        let spec = json!({"audiences": [audience], "expirationSeconds": 3600, "boundObjectRef": bound});
        self.token(text("/metadata/namespace"), text("/spec/serviceAccountName"), &spec)
    }

    /// Applies one of the folders of `deploy`, and waits until its rights count.
    ///
    /// # Errors
    /// The server refuses something.
    pub fn deploy(&self, folder: &str) -> Result<(), Fault> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(folder);
        self.apply_folder(&folder)?;
        let whom = format!("--as=system:serviceaccount:{SYSTEM}:posthaste-agent");
        eventually_within(Duration::from_secs(20), "the rights to count", || {
            let said = self.kubectl(&["auth", "can-i", "list", "services", "--all-namespaces", &whom]);
            holds(said.is_ok(), format!("{said:?}"))
        })
    }

    /// Requests with a token of choice.
    ///
    /// # Errors
    /// Its kubeconfig cannot be written.
    pub fn client_with(&self, name: &str, token: &str) -> Result<Client, Fault> {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "tests",
            "clusters": [{"name": "tests", "cluster": {"server": self.url(), "certificate-authority": self.root()}}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": name}}],
            "users": [{"name": name, "user": {"token": token}}],
        });
        Client::start(&self.site, &self.file(&format!("{name}.kubeconfig"), &config.to_string())?)
    }

    /// Writes a text into the world's folder; answers with the path.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn file(&self, name: &str, text: &str) -> Result<PathBuf, Fault> {
        let path = self.folder.join(name);
        // Renamed, as kubelet does it: nobody reads half a file.
        let aside = self.folder.join(format!("{name}.new"));
        fs::write(&aside, text).and_then(|()| fs::rename(&aside, &path)).doing(format!("write {name}"))?;
        Ok(path)
    }
}
