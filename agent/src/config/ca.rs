//! Flags of `posthaste ca`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::seconds;

/// Flags of `posthaste ca`.
#[derive(Debug, Clone, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct CaArguments {
    /// Something else than serving.
    #[command(subcommand)]
    pub action: Option<CaAction>,
    /// Keep the roots in a Secret of a cluster, and let in its agents by their service account tokens.
    #[command(flatten)]
    pub cluster: ClusterArguments,
    /// State folder, made with mode 0700: the roots and their keys, and `root.pem` for the agents.
    #[arg(long, value_name = "DIR", required_unless_present = "kubernetes", conflicts_with = "kubernetes")]
    pub state: Option<PathBuf>,
    /// Where to serve the Istio CA API; 0.0.0.0:15012 with --kubernetes unless given.
    #[arg(long, value_name = "IP:PORT", required_unless_present = "kubernetes")]
    pub listen: Option<SocketAddr>,
    /// Trust domain; no other is signed for.
    #[arg(long, default_value = "cluster.local", env = "POSTHASTE_TRUST_DOMAIN")]
    pub trust_domain: String,
    /// Join tokens of agents, one a line, optionally after a node name; mode 0600.
    #[arg(long, value_name = "FILE", required_unless_present = "kubernetes", conflicts_with = "kubernetes")]
    pub join_token_file: Option<PathBuf>,
    /// Further names or addresses in the CA's own certificate.
    #[arg(long, value_name = "NAME")]
    pub name: Vec<String>,
    /// Validity of a certificate whose request does not say.
    #[arg(long, value_name = "SECONDS", default_value = "86400", value_parser = seconds, env = "POSTHASTE_CA_VALIDITY")]
    pub validity: Duration,
    /// Longest validity that a request gets.
    #[arg(long, value_name = "SECONDS", default_value = "86400", value_parser = seconds, env = "POSTHASTE_CA_LONGEST_VALIDITY")]
    pub longest_validity: Duration,
    /// Where `/healthz` and `/readyz` are served, with --kubernetes.
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:15014")]
    pub health_address: SocketAddr,
    /// Audience that the tokens of agents must have, with --kubernetes.
    #[arg(long, value_name = "NAME", default_value = "posthaste-ca")]
    pub audience: String,
    /// Service account whose pods may ask for certificates, with --kubernetes; may be given more than once.
    #[arg(long, value_name = "NAMESPACE/NAME", default_value = "posthaste-system/posthaste-agent")]
    pub agent_account: Vec<String>,
    /// How long a new root of a cluster is trusted before it signs; the longest validity and five minutes unless given.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub overlap: Option<Duration>,
    /// The CA's own log, as a tracing filter.
    #[arg(long, value_name = "FILTER", default_value = "info", env = "POSTHASTE_LOG")]
    pub log: String,
}

/// What `posthaste ca` can do beside serving.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum CaAction {
    /// Add a root to the bundle; it signs once agents have had time to learn to trust it
    Rotate {
        /// The roots of a cluster.
        #[command(flatten)]
        cluster: ClusterArguments,
        /// State folder of the CA.
        #[arg(
            long,
            value_name = "DIR",
            required_unless_present = "kubernetes",
            conflicts_with = "kubernetes"
        )]
        state: Option<PathBuf>,
        /// Trust domain.
        #[arg(long, default_value = "cluster.local", env = "POSTHASTE_TRUST_DOMAIN")]
        trust_domain: String,
        /// How long both roots are trusted before the new one signs; one certificate's lifetime unless given,
        /// and five minutes more in a cluster.
        #[arg(long, value_name = "SECONDS", value_parser = seconds)]
        overlap: Option<Duration>,
    },
}

/// Which cluster the CA belongs to.
#[derive(Debug, Clone, clap::Args)]
pub struct ClusterArguments {
    /// The CA of a Kubernetes cluster: roots in a Secret, agents known by their service account tokens
    #[arg(long)]
    pub kubernetes: bool,
    /// Namespace of the CA's Secrets and its ConfigMap
    #[arg(long, value_name = "NAME", default_value = "posthaste-system", env = "POSTHASTE_NAMESPACE")]
    pub namespace: String,
    /// Kubeconfig; the pod's own service account unless given
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}
