//! Where the agent is that a command asks: its socket on this machine, or a pod of a cluster. Flags and names, no I/O.

use super::super::ADMIN_SOCKET;
use std::{fmt, path::PathBuf};

/// Namespace of Posthaste's own objects unless it is named.
const SYSTEM: &str = "posthaste-system";

/// Which agent, by flags that stand before the command.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Place {
    /// Unix socket of the agent
    #[arg(long, global = true, env = "POSTHASTE_ADMIN_SOCKET", default_value = ADMIN_SOCKET, value_name = "PATH", help_heading = "Of every command")]
    pub admin_socket: PathBuf,
    /// Ask the agent of this node of a cluster
    #[arg(
        long,
        value_name = "NODE",
        conflicts_with = "pod",
        help_heading = "From outside, before the command"
    )]
    pub node: Option<String>,
    /// Ask the agent of the node that this pod is on
    #[arg(long, value_name = "NAMESPACE/NAME", help_heading = "From outside, before the command")]
    pub pod: Option<String>,
    /// Context of the kubeconfig; its current one unless given
    #[arg(long, value_name = "NAME", help_heading = "From outside, before the command")]
    pub context: Option<String>,
    /// The kubeconfig; KUBECONFIG or ~/.kube/config unless given
    #[arg(long, value_name = "FILE", help_heading = "From outside, before the command")]
    pub kubeconfig: Option<PathBuf>,
    /// Namespace of the agents
    #[arg(long, value_name = "NAME", default_value = SYSTEM, help_heading = "From outside, before the command")]
    pub system_namespace: String,
    /// Set where the program is called as a plug-in of kubectl.
    #[arg(skip)]
    pub plugin: bool,
}

impl Place {
    /// Whether a cluster is asked rather than this machine.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.plugin
            || self.node.is_some()
            || self.pod.is_some()
            || self.context.is_some()
            || self.kubeconfig.is_some()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.node, &self.pod) {
            (Some(node), _) => write!(f, "node {node}"),
            (None, Some(pod)) => write!(f, "the node of pod {pod}"),
            (None, None) if self.is_cluster() => f.write_str("the cluster"),
            (None, None) => write!(f, "{}", self.admin_socket.display()),
        }
    }
}

/// Whether a program of this name is the plug-in `kubectl posthaste`.
#[must_use]
pub fn is_plugin(program: Option<&str>) -> bool {
    let name = program.and_then(|path| path.rsplit('/').next());
    matches!(name, Some("kubectl-posthaste" | "kubectl_posthaste"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plugin_is_known_by_its_name() {
        for (program, expected) in [
            (Some("/usr/local/bin/kubectl-posthaste"), true),
            (Some("kubectl-posthaste"), true),
            (Some("/usr/bin/posthaste"), false),
            (None, false),
        ] {
            assert_eq!(is_plugin(program), expected, "{program:?}");
        }
    }

    #[test]
    fn a_place_is_named_for_people() {
        let place = Place { admin_socket: "/run/a.sock".into(), ..Place::default() };
        assert_eq!((place.to_string().as_str(), place.is_cluster()), ("/run/a.sock", false));
        let node = Place { node: Some("one".to_owned()), ..place.clone() };
        assert_eq!((node.to_string().as_str(), node.is_cluster()), ("node one", true));
        let pod = Place { pod: Some("shop/web".to_owned()), ..place.clone() };
        assert_eq!(pod.to_string(), "the node of pod shop/web");
        let plugin = Place { plugin: true, ..place };
        assert_eq!((plugin.to_string().as_str(), plugin.is_cluster()), ("the cluster", true));
    }
}
