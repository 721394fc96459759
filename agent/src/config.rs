//! Everything that can be set from outside, read once at start: flags of `posthaste agent`, `posthaste ca` and `posthaste guard`.
//! Nothing else reads flags or the environment.

mod ca;
pub(crate) mod guard;
mod kernel;

pub use ca::{CaAction, CaArguments, ClusterArguments};
pub use guard::{GuardAction, GuardArguments, Place, WithoutInputs};
pub use kernel::{BPFFS, KernelArguments, Limit};
use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use crate::snapshot::MtlsMode;

/// Ports 15001, 15006 and 15008 as in Istio ambient, so that people recognise them.
pub const OUTBOUND_PORT: u16 = 15001;
/// See [`OUTBOUND_PORT`].
pub const INBOUND_PORT: u16 = 15006;
/// HBONE, at each pod's own address.
pub const TUNNEL_PORT: u16 = 15008;
/// What the admin socket answers, on the loopback address, for port-forward: the port that ztunnel has for it.
pub const ADMIN_PORT: u16 = 15000;

/// The state folder unless another is named.
const STATE: &str = "/var/lib/posthaste";
const STATE_VARIABLE: &str = "POSTHASTE_STATE";
const MTLS_VARIABLE: &str = "POSTHASTE_MTLS";

/// Flags of `posthaste agent`.
#[derive(Debug, Clone, clap::Args)]
pub struct AgentArguments {
    /// Name of this node, as in `spec.nodeName` of its pods.
    #[arg(long, env = "POSTHASTE_NODE")]
    pub node: String,
    /// Folder of Kubernetes objects as YAML: the mesh without an API server.
    #[arg(long, value_name = "DIR", required_unless_present = "kubernetes", conflicts_with = "kubernetes")]
    pub manifests: Option<PathBuf>,
    /// Follow the API server of the cluster that this agent runs in.
    #[arg(long)]
    pub kubernetes: bool,
    /// With --kubernetes: reach the API server as this file says, instead of as a pod.
    #[arg(long, value_name = "FILE", requires = "kubernetes")]
    pub kubeconfig: Option<PathBuf>,
    /// Trust domain of every identity.
    #[arg(long, default_value = "cluster.local", env = "POSTHASTE_TRUST_DOMAIN")]
    pub trust_domain: String,
    /// Cluster name in metrics, in the `baggage` header, and for CAs of several clusters (istiod's `clusterid`).
    #[arg(long, default_value = "Kubernetes", env = "POSTHASTE_CLUSTER")]
    pub cluster: String,
    /// What holds for enrolled namespaces without the annotation `posthaste.dev/mtls`: `permissive` takes plaintext from outside
    /// the mesh, `strict` refuses it and fails closed.
    #[arg(long, value_name = "permissive|strict", default_value = "permissive", env = MTLS_VARIABLE)]
    pub mtls: Mtls,
    /// Zone of this node, for topology hints and `trafficDistribution`.
    #[arg(long)]
    pub zone: Option<String>,
    /// `embedded` runs the CA inside this agent (a single node); otherwise name one with --ca-address.
    #[arg(long, value_name = "embedded", conflicts_with = "ca_address")]
    pub ca: Option<EmbeddedCa>,
    /// Address of any CA that speaks the Istio CA API (ours, istiod, istio-csr), as https://HOST:PORT.
    #[arg(
        long,
        value_name = "URL",
        requires = "ca_root",
        requires = "join_token_file",
        env = "POSTHASTE_CA_ADDRESS"
    )]
    pub ca_address: Option<String>,
    /// Roots that the CA's own certificate is checked against, PEM; read anew for each request.
    #[arg(long, value_name = "FILE", env = "POSTHASTE_CA_ROOT")]
    pub ca_root: Option<PathBuf>,
    /// Name in the CA's own certificate.
    #[arg(long, value_name = "NAME", default_value = "posthaste-ca", env = "POSTHASTE_CA_NAME")]
    pub ca_name: String,
    /// Token that lets this agent ask for certificates: a join token, or a projected service account token. Read anew for
    /// each request.
    #[arg(long, visible_alias = "ca-token-file", value_name = "FILE", env = "POSTHASTE_CA_TOKEN_FILE")]
    pub join_token_file: Option<PathBuf>,
    /// Certificate revocation lists, PEM or DER: a file, or a folder of them; looked at every second. Tunnels with a peer that one of
    /// them names are closed at once, and no new ones are made.
    #[arg(long, value_name = "PATH", env = "POSTHASTE_CRL")]
    pub crl: Option<PathBuf>,
    /// State folder, made with mode 0700: the embedded CA's root, and what survives a restart.
    #[arg(long, value_name = "DIR", default_value = STATE, env = STATE_VARIABLE)]
    pub state: PathBuf,
    /// Where /metrics, /healthz and /readyz are served.
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:15020")]
    pub metrics_address: SocketAddr,
    /// Loopback address where root may ask what --admin-socket answers: for `posthaste --node` through port-forward; port 15000
    /// is what that looks for. Not served unless given.
    #[arg(long, value_name = "IP:PORT", env = "POSTHASTE_ADMIN_ADDRESS", value_parser = loopback)]
    pub admin_address: Option<SocketAddr>,
    /// What the programs in the kernel are loaded with.
    #[command(flatten)]
    pub kernel: KernelArguments,
    /// Worker threads; one per core unless given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: Option<u16>,
    /// Where the JSON access log goes: a path, `stdout` or `off`.
    #[arg(long, value_name = "PATH", default_value = "stdout", env = "POSTHASTE_ACCESS_LOG")]
    pub access_log: String,
    /// Share of requests that get a line in the access log, 0 to 1; those that failed always do.
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = share)]
    pub access_log_sample: f64,
    /// No line for requests with a lower status; one without answer counts as 599.
    #[arg(long, value_name = "STATUS", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=599))]
    pub access_log_min_status: u16,
    /// Collector that takes OpenTelemetry spans of requests over OTLP/gRPC, as http://HOST:4317; no spans unless given.
    #[arg(long, value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// Share of the traces that begin at this agent which are recorded, 0 to 1; those of a `traceparent` follow its flag.
    #[arg(long, value_name = "SHARE", default_value_t = 0.01, value_parser = share)]
    pub trace_sample: f64,
    /// The agent's own log, as a tracing filter.
    #[arg(long, value_name = "FILTER", default_value = "info", env = "POSTHASTE_LOG")]
    pub log: String,
    /// Congestion control of the agent's sockets; `kernel` leaves the kernel's default.
    #[arg(long, value_name = "NAME", default_value = "cubic")]
    pub congestion: String,
    /// Address of this node that probes come from; all addresses of the agent's namespace unless given.
    #[arg(long, value_name = "IP")]
    pub node_address: Vec<IpAddr>,
    /// What a clean stop does with the capture: `release` undoes it without trace, `keep` leaves the kernel to each
    /// namespace's fail mode until the next agent comes.
    #[arg(long, value_name = "release|keep", default_value = "release")]
    pub on_stop: OnStop,
    /// Wait for the other agent of this node to end, and take over then, instead of refusing to start; for rolling updates.
    #[arg(long)]
    pub stand_by: bool,
    /// How long a clean stop waits for connections to end; what has not ended then is cut, and counted in the last line of the log.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub drain: Duration,
}

/// Values of `--mtls`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mtls {
    /// Plaintext from outside the mesh is taken.
    Permissive,
    /// It is refused.
    Strict,
}

impl From<Mtls> for MtlsMode {
    fn from(value: Mtls) -> Self {
        match value {
            Mtls::Permissive => Self::Permissive,
            Mtls::Strict => Self::Strict,
        }
    }
}

/// The only value of `--ca`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum EmbeddedCa {
    /// Run it in process.
    Embedded,
}

/// What a clean stop leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OnStop {
    /// Nothing.
    Release,
    /// The capture.
    Keep,
}

impl AgentArguments {
    /// Number of worker threads.
    #[must_use]
    pub fn worker_count(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.workers.map_or_else(cores, usize::from)
    }
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| format!("`{text}` is not an address with a port"))?;
    match address {
        SocketAddr::V4(v4) if v4.ip().is_loopback() => Ok(address),
        _ => Err(format!(
            "`{text}` is no IPv4 loopback address: others could read what goes on; give 127.0.0.1:{ADMIN_PORT}"
        )),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let value: f64 = text.parse().map_err(|_| format!("`{text}` is not a number of seconds"))?;
    Duration::try_from_secs_f64(value).map_err(|_| format!("`{text}` is not a length of time"))
}

fn share(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    value.ok_or_else(|| format!("`{text}` is not a share: give a number from 0 to 1"))
}
