//! Everything that can be set from outside, read once at start: flags of `posthaste agent` and `posthaste ca`.
//! Nothing else reads flags or the environment.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// Ports 15001, 15006 and 15008 as in Istio ambient, so that people recognise them.
pub const OUTBOUND_PORT: u16 = 15001;
/// See [`OUTBOUND_PORT`].
pub const INBOUND_PORT: u16 = 15006;
/// HBONE, at each pod's own address.
pub const TUNNEL_PORT: u16 = 15008;
/// What the admin socket answers, on the loopback address, for port-forward: the port that ztunnel has for it.
pub const ADMIN_PORT: u16 = 15000;

/// Flags of `posthaste agent`.
#[derive(Debug, Clone, clap::Args)]
pub struct AgentArguments {
    /// Name of this node, as in `spec.nodeName` of its pods.
    #[arg(long, env = "POSTHASTE_NODE")]
    pub node: String,
    /// Folder of Kubernetes objects as YAML: the mesh without an API server.
    #[arg(long, value_name = "DIR")]
    pub manifests: PathBuf,
    /// Trust domain of every identity.
    #[arg(long, default_value = "cluster.local")]
    pub trust_domain: String,
    /// Cluster name in metrics and in the `baggage` header.
    #[arg(long, default_value = "Kubernetes")]
    pub cluster: String,
    /// Zone of this node, for topology hints and `trafficDistribution`.
    #[arg(long)]
    pub zone: Option<String>,
    /// `embedded` runs the CA inside this agent (a single node); otherwise name one with --ca-address.
    #[arg(long, value_name = "embedded", conflicts_with = "ca_address")]
    pub ca: Option<EmbeddedCa>,
    /// Address of the CA, as https://IP:PORT.
    #[arg(long, value_name = "URL", requires = "ca_root", requires = "join_token_file")]
    pub ca_address: Option<String>,
    /// Roots that the CA's own certificate is checked against, PEM.
    #[arg(long, value_name = "FILE")]
    pub ca_root: Option<PathBuf>,
    /// Name in the CA's own certificate.
    #[arg(long, value_name = "NAME", default_value = "posthaste-ca")]
    pub ca_name: String,
    /// Token that lets this agent ask for certificates.
    #[arg(long, value_name = "FILE")]
    pub join_token_file: Option<PathBuf>,
    /// State folder, made with mode 0700: the embedded CA's root, and what survives a restart.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/posthaste")]
    pub state: PathBuf,
    /// Where /metrics, /healthz and /readyz are served.
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:15020")]
    pub metrics_address: SocketAddr,
    /// Loopback address where root may ask what --admin-socket answers: for `posthaste --node` through port-forward; port 15000
    /// is what that looks for. Not served unless given.
    #[arg(long, value_name = "IP:PORT", env = "POSTHASTE_ADMIN_ADDRESS", value_parser = loopback)]
    pub admin_address: Option<SocketAddr>,
    /// Folder on a BPF file system for pinned programs, maps and links.
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf/posthaste")]
    pub bpffs: PathBuf,
    /// cgroup v2 folder the connect hooks attach to; the root of the hierarchy unless given.
    #[arg(long, value_name = "DIR")]
    pub cgroup_root: Option<PathBuf>,
    /// Worker threads; one per core unless given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: Option<u16>,
    /// Where the JSON access log goes: a path, `stdout` or `off`.
    #[arg(long, value_name = "PATH", default_value = "stdout")]
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
    /// Mark of the agent's own sockets.
    #[arg(long, value_name = "NUMBER", default_value_t = 0x7068)]
    pub mark: u32,
    /// Enrolled pods of this node at most; the size of a kernel map.
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub max_pods: u32,
    /// Connections that are captured and not yet accepted at most; the size of a kernel map.
    #[arg(long, value_name = "N", default_value_t = 65536)]
    pub max_flows: u32,
    /// Excluded ports over all pods at most; the size of a kernel map.
    #[arg(long, value_name = "N", default_value_t = 8192)]
    pub max_excluded_ports: u32,
    /// Addresses of this node at most; the size of a kernel map.
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub max_node_addresses: u32,
    /// Without a heartbeat for so long the kernel takes the agent for dead.
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = seconds)]
    pub heartbeat_limit: Duration,
    /// What a clean stop does with the capture: `release` undoes it without trace, `keep` leaves the kernel to each
    /// namespace's fail mode until the next agent comes.
    #[arg(long, value_name = "release|keep", default_value = "release")]
    pub on_stop: OnStop,
    /// How long a clean stop waits for connections to end.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub drain: Duration,
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

/// Flags of `posthaste ca`.
#[derive(Debug, Clone, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct CaArguments {
    /// Something else than serving.
    #[command(subcommand)]
    pub action: Option<CaAction>,
    /// State folder, made with mode 0700: the roots and their keys, and `root.pem` for the agents.
    #[arg(long, value_name = "DIR", required = true)]
    pub state: Option<PathBuf>,
    /// Where to serve the Istio CA API.
    #[arg(long, value_name = "IP:PORT", required = true)]
    pub listen: Option<SocketAddr>,
    /// Trust domain; no other is signed for.
    #[arg(long, default_value = "cluster.local")]
    pub trust_domain: String,
    /// Join tokens of agents, one a line, optionally after a node name; mode 0600.
    #[arg(long, value_name = "FILE", required = true)]
    pub join_token_file: Option<PathBuf>,
    /// Further names or addresses in the CA's own certificate.
    #[arg(long, value_name = "NAME")]
    pub name: Vec<String>,
    /// Validity of a certificate whose request does not say.
    #[arg(long, value_name = "SECONDS", default_value = "86400", value_parser = seconds)]
    pub validity: Duration,
    /// Longest validity that a request gets.
    #[arg(long, value_name = "SECONDS", default_value = "86400", value_parser = seconds)]
    pub longest_validity: Duration,
    /// The CA's own log, as a tracing filter.
    #[arg(long, value_name = "FILTER", default_value = "info", env = "POSTHASTE_LOG")]
    pub log: String,
}

/// What `posthaste ca` can do beside serving.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum CaAction {
    /// Add a root to the bundle; it signs once agents have had time to learn to trust it
    Rotate {
        /// State folder of the CA.
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// Trust domain.
        #[arg(long, default_value = "cluster.local")]
        trust_domain: String,
        /// How long both roots are trusted before the new one signs; one certificate's lifetime unless given.
        #[arg(long, value_name = "SECONDS", value_parser = seconds)]
        overlap: Option<Duration>,
    },
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| format!("`{text}` is not an address with a port"))?;
    match address {
        SocketAddr::V4(v4) if v4.ip().is_loopback() => Ok(address),
        _ => Err(format!("`{text}` is no IPv4 loopback address: others could read what goes on; give 127.0.0.1:{ADMIN_PORT}")),
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
