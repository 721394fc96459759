//! A real Kubernetes API for a world: `tests/apiserver` as a process on a site of its own, kubectl, tokens, a client. What is real in
//! it and what is not is said in the first lines of `tests/apiserver/main.go`: no controller runs beside that of namespaces, so the
//! tests write EndpointSlices and the status of pods themselves, as kubelet and the endpoint controller would.

pub mod ca;
mod client;
mod mirror;
mod objects;

pub use ca::ClusterCa;
pub use client::{Answer, Client};
pub use mirror::{Mirror, Shared};

use crate::{
    Doing, Fault, Running, Site, agent, tools,
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

/// Port of the server.
pub const PORT: u16 = 6443;
/// Namespace of Posthaste's own objects.
pub const SYSTEM: &str = "posthaste-system";
/// The agent's service account in it.
pub const AGENT: &str = "posthaste-agent";
/// Where ClusterIPs come from: the world's addresses that nothing routes. The first of each is the server's own.
const SERVICE_RANGES: &str = "10.96.0.0/16,fd96::/108";

/// The two bundles of the Gateway API; one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// What is stable.
    Standard,
    /// With XBackendTrafficPolicy and `retry` of routes.
    Experimental,
}

/// The API server of a world. Its state outlives a stop; all of it goes with the world's folder.
#[derive(Debug)]
pub struct Cluster {
    running: Option<Running>,
    client: Option<Client>,
    /// Where it runs.
    pub site: Site,
    folder: PathBuf,
    /// Flags added as they are; they count at the next start.
    pub extra: Vec<String>,
}

impl Cluster {
    /// Prepares a server on a site; `folder` is the world's. [`Cluster::start`] starts it.
    #[must_use]
    pub fn prepare(site: Site, folder: &Path) -> Self {
        Self { running: None, client: None, site, folder: folder.join("cluster"), extra: Vec::new() }
    }

    /// Starts it and waits until it serves. A later start goes on with the objects of before.
    ///
    /// # Errors
    /// It is not built, or it does not serve in time.
    pub fn start(&mut self) -> Result<(), Fault> {
        let mut command = self.site.command(tools::program("apiserver", "apiserver")?)?;
        command.arg("--dir").arg(&self.folder).args(["--port", &PORT.to_string()]);
        command.args(["--listen", &self.site.v4.to_string(), "--listen", &self.site.v6.to_string()]);
        command.args(["--service-cidr", SERVICE_RANGES]).args(&self.extra);
        let mut running = self.site.launch(command)?;
        eventually_within(Duration::from_secs(60), "the API server to serve", || {
            let said = running.stdout();
            if !running.alive() {
                return Ok(Err(Fault::new(format!("the API server ended: {said}{}", running.stderr()))));
            }
            holds(said.lines().any(|line| line == "ready"), said.clone() + &running.stderr()).map(Ok)
        })??;
        self.client = Some(Client::start(&self.site, &self.admin_kubeconfig())?);
        self.running = Some(running);
        Ok(())
    }

    /// SIGTERM, and waits for its end. Open watches are cut.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn stop(&mut self) -> Result<(), Fault> {
        self.client = None;
        let Some(running) = self.running.take() else { return Ok(()) };
        running.signal(Signal::TERM);
        running.finish(Duration::from_secs(30)).map(drop)
    }

    /// Compacts its history: from some seconds later, watches and lists of before get 410.
    pub fn compact(&self) {
        if let Some(running) = &self.running {
            running.signal(Signal::USR1);
        }
    }

    /// Where it serves.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", SocketAddr::new(self.site.v4.into(), PORT))
    }

    /// Its process id.
    ///
    /// # Errors
    /// It is not running.
    pub fn pid(&self) -> Result<u32, Fault> {
        self.running.as_ref().map(Running::pid).ok_or_else(|| Fault::new("the API server is not running"))
    }

    /// Where it runs.
    #[must_use]
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Kubeconfig of `cluster-admin`.
    #[must_use]
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.folder.join("admin.kubeconfig")
    }

    /// Its certificate authority, PEM.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// Requests as `cluster-admin`.
    ///
    /// # Errors
    /// It is not running.
    pub fn client(&self) -> Result<&Client, Fault> {
        self.client.as_ref().ok_or_else(|| Fault::new("the API server is not running"))
    }

    /// Makes or changes an object, all of it, as server-side apply does; the status as well where it has one.
    ///
    /// # Errors
    /// The server refuses it.
    pub fn apply(&self, object: &Value) -> Result<Value, Fault> {
        let client = self.client()?;
        let path = objects::path(object)?;
        let applied = client.apply(&path, object)?.success()?;
        match object.get("status") {
            None => Ok(applied),
            Some(status) => client.merge(&format!("{path}/status"), &json!({"status": status}))?.success(),
        }
    }

    /// Deletes an object at once, without a grace period. One that is not there is deleted.
    ///
    /// # Errors
    /// The server refuses.
    pub fn delete(&self, object: &Value) -> Result<(), Fault> {
        let path = objects::path(object)?;
        let answer = self.client()?.delete(&format!("{path}?gracePeriodSeconds=0"))?;
        if answer.status == 404 { Ok(()) } else { answer.success().map(drop) }
    }

    /// An object as the server has it.
    ///
    /// # Errors
    /// It is not there.
    pub fn read(&self, object: &Value) -> Result<Value, Fault> {
        self.client()?.read(&objects::path(object)?)?.success()
    }

    /// Runs kubectl as `cluster-admin`.
    ///
    /// # Errors
    /// It failed; says what it printed.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String, Fault> {
        self.kubectl_as(&self.admin_kubeconfig(), arguments)
    }

    /// Runs kubectl with another kubeconfig.
    ///
    /// # Errors
    /// It failed; says what it printed.
    pub fn kubectl_as(&self, kubeconfig: &Path, arguments: &[&str]) -> Result<String, Fault> {
        // Its cache of discovery answers is the world's as well.
        let cache = self.folder.join("kubectl-cache").display().to_string();
        self.kubectl_with(kubeconfig, &[], &[arguments, &["--cache-dir", &cache]].concat())
    }

    /// The same with variables of the environment and nothing added to the line.
    ///
    /// # Errors
    /// It failed; says what it printed.
    pub fn kubectl_with(
        &self,
        kubeconfig: &Path,
        variables: &[(&str, &str)],
        arguments: &[&str],
    ) -> Result<String, Fault> {
        self.start_kubectl(kubeconfig, variables, arguments)?.finish(Duration::from_secs(60))?.success()
    }

    /// Starts it and lets it run.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_kubectl(
        &self,
        kubeconfig: &Path,
        variables: &[(&str, &str)],
        arguments: &[&str],
    ) -> Result<Running, Fault> {
        let mut command = self.site.command(tools::program("kubectl", "kubectl")?)?;
        command.env("KUBECONFIG", kubeconfig).envs(variables.iter().copied()).args(arguments);
        self.site.launch(command)
    }

    /// Runs `posthaste` as somebody at a desk: with a kubeconfig, from where the API server is reached.
    ///
    /// # Errors
    /// It failed; says what it printed.
    pub fn posthaste(&self, kubeconfig: &Path, arguments: &[&str]) -> Result<String, Fault> {
        self.start_posthaste(kubeconfig, arguments)?.finish(Duration::from_secs(60))?.success()
    }

    /// Starts it and lets it run.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_posthaste(&self, kubeconfig: &Path, arguments: &[&str]) -> Result<Running, Fault> {
        let mut command = self.site.command(agent::binary()?)?;
        command.arg("--kubeconfig").arg(kubeconfig).args(arguments);
        self.site.launch(command)
    }

    /// `kubectl apply --server-side -k FOLDER`, as a user would.
    ///
    /// # Errors
    /// The server refuses something.
    pub fn apply_folder(&self, folder: &Path) -> Result<String, Fault> {
        self.kubectl(&["apply", "--server-side", "-k", &folder.display().to_string()])
    }

    /// `kubectl apply --server-side -f FILE`.
    ///
    /// # Errors
    /// The server refuses something.
    pub fn apply_file(&self, file: &Path) -> Result<String, Fault> {
        self.kubectl(&["apply", "--server-side", "-f", &file.display().to_string()])
    }

    /// Installs the Gateway API's CRDs and waits until they are served.
    ///
    /// # Errors
    /// The server refuses them.
    pub fn install_gateway_api(&self, channel: Channel) -> Result<(), Fault> {
        let bundles = tools::folder("gateway-api")?;
        self.apply_folder(&match channel {
            Channel::Standard => bundles,
            Channel::Experimental => bundles.join("experimental"),
        })?;
        self.wait_established()
    }

    /// Installs our own CRDs and waits until they are served.
    ///
    /// # Errors
    /// The server refuses them.
    pub fn install_crds(&self) -> Result<(), Fault> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds");
        for entry in fs::read_dir(&folder).doing(format!("list {}", folder.display()))?.flatten() {
            // A kustomization lies beside them.
            let text = fs::read_to_string(entry.path()).doing("read a CRD")?;
            if text.contains("kind: CustomResourceDefinition") {
                self.apply_file(&entry.path())?;
            }
        }
        self.wait_established()
    }

    fn wait_established(&self) -> Result<(), Fault> {
        self.kubectl(&["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"]).map(drop)
    }

    /// A token of a service account; `spec` is that of a TokenRequest (audiences, `boundObjectRef`, `expirationSeconds`).
    ///
    /// # Errors
    /// There is no such service account, or the server refuses.
    pub fn token(&self, namespace: &str, account: &str, spec: &Value) -> Result<String, Fault> {
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let answer = self.client()?.create(&path, &request)?.success()?;
        let token = answer.pointer("/status/token").and_then(Value::as_str);
        token.map(str::to_owned).ok_or_else(|| Fault::new(format!("no token in {answer}")))
    }

    /// A kubeconfig with the agent's service account and the rights that are shipped, once they count.
    ///
    /// # Errors
    /// The server refuses, or the rights do not suffice to list pods.
    pub fn agent_kubeconfig(&self) -> Result<PathBuf, Fault> {
        let kubeconfig = self.kubeconfig_of(SYSTEM, AGENT)?;
        let rights = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/base/agent-rights.yaml");
        let rights = rights.display().to_string();
        self.kubectl(&["apply", "--server-side", "--namespace", SYSTEM, "-f", &rights])?;
        eventually_within(Duration::from_secs(20), "the agent's rights to count", || {
            self.kubectl_as(&kubeconfig, &["auth", "can-i", "list", "pods", "--all-namespaces"])
        })?;
        Ok(kubeconfig)
    }

    /// A kubeconfig that carries a fresh token of a service account, which is made where it is not there.
    ///
    /// # Errors
    /// The server refuses.
    pub fn kubeconfig_of(&self, namespace: &str, account: &str) -> Result<PathBuf, Fault> {
        self.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}))?;
        let metadata = json!({"name": account, "namespace": namespace});
        self.apply(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}))?;
        let token = self.token(namespace, account, &json!({}))?;
        let path = self.folder.join(format!("{namespace}-{account}.kubeconfig"));
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "tests",
            "clusters": [{"name": "tests", "cluster": {"server": self.url(), "certificate-authority": self.root()}}],
            "users": [{"name": account, "user": {"token": token}}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": account}}],
        });
        fs::write(&path, config.to_string()).doing(format!("write {}", path.display()))?;
        Ok(path)
    }
}
