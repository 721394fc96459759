//! One node: a site with an agent process in it, and the questions that tests ask it.

use crate::{
    Doing, Fault, Finished, Running, Site, http,
    metrics::Metrics,
    sweep,
    wait::{eventually_within, holds},
};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    env, fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

/// Port of metrics and health.
pub const METRICS_PORT: u16 = 15020;

/// How an agent is started.
#[derive(Debug, Clone)]
pub struct AgentSettings {
    /// Folder of manifests; not used where there is a kubeconfig.
    pub manifests: PathBuf,
    /// Kubeconfig of the API server that is followed.
    pub kubeconfig: Option<PathBuf>,
    /// URL of the CA, or `None` for the one inside the agent.
    pub ca_address: Option<String>,
    /// Root certificates of the CA.
    pub ca_root: PathBuf,
    /// Join token.
    pub join_token: PathBuf,
    /// Cgroup to attach to.
    pub cgroup_root: PathBuf,
    /// Worker threads.
    pub workers: usize,
    /// Congestion control of the agent's sockets.
    pub congestion: String,
    /// Zone of the node.
    pub zone: Option<String>,
    /// Flags added as they are.
    pub extra: Vec<String>,
}

/// An agent and its node.
#[derive(Debug)]
pub struct Agent {
    running: Option<Running>,
    /// How it is started; a change counts at the next start.
    pub settings: AgentSettings,
    /// A program and its arguments that run the agent; none unless given.
    pub wrapper: Vec<String>,
    /// The node.
    pub site: Site,
    folder: PathBuf,
    bpffs: PathBuf,
}

impl Agent {
    /// Prepares an agent on a node; `prefix` is the world's. [`Agent::start`] starts it.
    ///
    /// # Errors
    /// Its folder cannot be made.
    pub fn prepare(site: Site, settings: AgentSettings, folder: &Path, prefix: &str) -> Result<Self, Fault> {
        let folder = folder.join(format!("agent-{}", site.name));
        fs::create_dir_all(&folder).doing(format!("make {}", folder.display()))?;
        let bpffs = Path::new(sweep::BPFFS).join(format!("{prefix}-{}", site.name));
        Ok(Self { running: None, settings, wrapper: Vec::new(), site, folder, bpffs })
    }

    /// Name of the node.
    #[must_use]
    pub fn node(&self) -> &str {
        self.site.name.strip_prefix("node-").unwrap_or(&self.site.name)
    }

    /// Its state folder.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// The command line after the program.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let settings = &self.settings;
        let text = |path: &Path| path.display().to_string();
        let metrics = SocketAddr::new(IpAddr::V4(self.site.v4), METRICS_PORT).to_string();
        let mut line = vec!["agent".to_owned()];
        let mut flag = |name: &str, value: String| line.extend([format!("--{name}"), value]);
        flag("node", self.node().to_owned());
        match &settings.kubeconfig {
            Some(path) => flag("kubeconfig", text(path)),
            None => flag("manifests", text(&settings.manifests)),
        }
        flag("trust-domain", "cluster.local".to_owned());
        match &settings.ca_address {
            Some(address) => {
                flag("ca-address", address.clone());
                flag("ca-root", text(&settings.ca_root));
                flag("join-token-file", text(&settings.join_token));
            }
            None => flag("ca", "embedded".to_owned()),
        }
        flag("state", text(&self.state()));
        flag("admin-socket", text(&self.socket()));
        flag("metrics-address", metrics);
        flag("bpffs", text(&self.bpffs));
        flag("cgroup-root", text(&settings.cgroup_root));
        flag("workers", settings.workers.to_string());
        flag("access-log", text(&self.access_log_path()));
        flag("log", env::var("POSTHASTE_LOG").unwrap_or_else(|_| "info".to_owned()));
        flag("congestion", settings.congestion.clone());
        flag("cluster", "Kubernetes".to_owned());
        if let Some(zone) = &settings.zone {
            flag("zone", zone.clone());
        }
        if settings.kubeconfig.is_some() {
            line.push("--kubernetes".to_owned());
        }
        line.extend(settings.extra.iter().cloned());
        line
    }

    /// Starts the process; [`Agent::wait_ready`] waits for it.
    ///
    /// # Errors
    /// The binary is missing.
    pub fn start(&mut self) -> Result<(), Fault> {
        self.running = Some(self.launch(&self.arguments())?);
        Ok(())
    }

    /// Starts another agent of the same node, with an admin socket of its own.
    ///
    /// # Errors
    /// The binary is missing.
    pub fn start_next(&self, socket: &Path) -> Result<Running, Fault> {
        let (own, other) = (self.socket().display().to_string(), socket.display().to_string());
        let line: Vec<String> = self.arguments().iter().map(|word| word.replace(&own, &other)).collect();
        self.launch(&line)
    }

    fn launch(&self, arguments: &[String]) -> Result<Running, Fault> {
        let program = binary()?.display().to_string();
        let mut line = self.wrapper.iter().chain([&program]).chain(arguments);
        let mut command = self.site.command(line.next().unwrap_or(&program))?;
        command.args(line);
        self.site.launch(command)
    }

    /// Waits until `/readyz` answers 200.
    ///
    /// # Errors
    /// It ended, or is not ready in time; says the end of its log.
    pub fn wait_ready(&mut self) -> Result<(), Fault> {
        // An early end is an answer too: nothing is to be waited for then.
        eventually_within(Duration::from_secs(20), "the agent to be ready", || {
            if !self.alive() {
                return Ok(Err(Fault::new(format!("agent {} ended: {}", self.node(), self.log()))));
            }
            match self.get("/readyz") {
                Ok((200, _)) => Ok(Ok(())),
                Ok((status, body)) => Err(format!("{status} {body}; log: {}", self.log())),
                Err(error) => Err(format!("{error}; log: {}", self.log())),
            }
        })?
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// It does not start or does not get ready.
    pub fn restart(&mut self) -> Result<(), Fault> {
        self.start()?;
        self.wait_ready()
    }

    /// SIGKILL, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.kill();
        }
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// It does not end within 30 s.
    pub fn stop(&mut self) -> Result<(), Fault> {
        self.stop_and_tell().map(drop)
    }

    /// The same; what it has said, unless it did not run.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop_and_tell(&mut self) -> Result<Option<Finished>, Fault> {
        let Some(running) = self.running.take() else { return Ok(None) };
        running.signal(Signal::TERM);
        running.finish(Duration::from_secs(30)).map(Some)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(running) = &self.running {
            running.signal(signal);
        }
    }

    /// Whether the process is there.
    pub fn alive(&mut self) -> bool {
        self.running.as_mut().is_some_and(Running::alive)
    }

    /// Its process id.
    ///
    /// # Errors
    /// It is not running.
    pub fn pid(&self) -> Result<u32, Fault> {
        self.running.as_ref().map(Running::pid).ok_or_else(|| Fault::new("the agent is not running"))
    }

    /// What it logged since it was started.
    #[must_use]
    pub fn log(&self) -> String {
        self.running.as_ref().map(|running| running.stderr() + &running.stdout()).unwrap_or_default()
    }

    /// `GET path` at its metrics port, asked from its node.
    ///
    /// # Errors
    /// No answer.
    pub fn get(&self, path: &str) -> Result<(u16, String), Fault> {
        http::fetch(self.site.namespace(), SocketAddr::new(self.site.v4.into(), METRICS_PORT), path)
    }

    /// Its metrics.
    ///
    /// # Errors
    /// No answer.
    pub fn metrics(&self) -> Result<Metrics, Fault> {
        self.get("/metrics").map(|(_, text)| Metrics::parse(&text))
    }

    /// Output of `posthaste --admin-socket .. ARGUMENTS`.
    ///
    /// # Errors
    /// The command failed.
    pub fn cli(&self, arguments: &[&str]) -> Result<String, Fault> {
        self.start_cli(arguments)?.finish(Duration::from_secs(10))?.success()
    }

    /// Starts `posthaste --admin-socket .. ARGUMENTS` and lets it run.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_cli(&self, arguments: &[&str]) -> Result<Running, Fault> {
        let mut command = self.site.command(binary()?)?;
        command.arg("--admin-socket").arg(self.socket()).args(arguments);
        self.site.launch(command)
    }

    /// [`Agent::cli`] with `-o json`, read.
    ///
    /// # Errors
    /// The command failed or did not print JSON.
    pub fn json(&self, arguments: &[&str]) -> Result<Value, Fault> {
        let text = self.cli(&[arguments, &["-o", "json"]].concat())?;
        serde_json::from_str(&text).map_err(|error| Fault::new(format!("{error} in `{text}`")))
    }

    /// All lines of its access log, over restarts.
    #[must_use]
    pub fn access_log(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.access_log_path()).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits for an access log line that `fits`.
    ///
    /// # Errors
    /// There is none in time; says the last lines.
    pub fn wait_for_log(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Result<Value, Fault> {
        eventually_within(Duration::from_secs(10), what, || {
            let lines = self.access_log();
            let recent =
                || lines.iter().rev().take(6).map(ToString::to_string).collect::<Vec<_>>().join("\n");
            lines.iter().find(|line| fits(line)).cloned().ok_or_else(recent)
        })
    }

    /// Resident memory in KiB.
    ///
    /// # Errors
    /// It is not running.
    pub fn rss_kib(&self) -> Result<u64, Fault> {
        let text =
            fs::read_to_string(format!("/proc/{}/status", self.pid()?)).doing("read the agent's status")?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next()).and_then(|word| word.parse().ok());
        number.ok_or_else(|| Fault::new("no VmRSS"))
    }

    /// Number of open descriptors.
    ///
    /// # Errors
    /// It is not running.
    pub fn descriptors(&self) -> Result<usize, Fault> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid()?)).doing("list descriptors")?.count())
    }

    /// Where its programs are pinned.
    #[must_use]
    pub fn bpffs(&self) -> &Path {
        &self.bpffs
    }

    /// Its Unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join("admin.sock")
    }

    fn access_log_path(&self) -> PathBuf {
        self.folder.join("access.log")
    }
}

/// Waits until `check` of an agent's JSON answer holds.
///
/// # Errors
/// It never held; says the last answer.
pub fn wait_json(agent: &Agent, question: &[&str], check: impl Fn(&Value) -> bool) -> Result<Value, Fault> {
    eventually_within(Duration::from_secs(10), &format!("{question:?} of {}", agent.node()), || {
        let answer = agent.json(question).map_err(|error| error.to_string())?;
        holds(check(&answer), answer.to_string()).map(|()| answer)
    })
}

/// The binary under test: `POSTHASTE_BIN`, else `posthaste` beside the running executable's build.
///
/// # Errors
/// It was not built.
pub fn binary() -> Result<PathBuf, Fault> {
    match env::var_os("POSTHASTE_BIN") {
        Some(path) => Ok(path.into()),
        None => beside("posthaste"),
    }
}

/// A program of this workspace, from the folder that the running executable was built to.
///
/// # Errors
/// It was not built.
pub fn beside(name: &str) -> Result<PathBuf, Fault> {
    let own = env::current_exe().doing("find the running executable")?;
    let found = own.ancestors().skip(1).take(3).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| Fault::new(format!("`{name}` is not built; run `cargo build --workspace` first")))
}
