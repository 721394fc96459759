//! Finds the network namespaces of this node's pods: by the path that an annotation names, or by a process in the pod's cgroup.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use crate::{
    cgroup::{APPEARS_NS, Scan, Search, Tree, process},
    netns::{Namespace, NamespaceFile},
    snapshot::NetnsSource,
};

/// What knows this node's pods by their cgroups.
#[derive(Debug)]
pub struct Locator {
    tree: Tree,
    scan: Scan,
    /// When it was last read, agent time.
    read_ns: u64,
    /// The agent's own namespace and that of the first process: no pod's.
    nodes: Vec<NamespaceFile>,
}

/// Where a pod's network namespace is.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    /// The path that names it now.
    pub path: PathBuf,
    /// When the process that was found started, nanoseconds since boot; none where a path was given.
    pub started_ns: Option<u64>,
}

/// Why there is no namespace to enter yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// Kubelet has not made it yet, or not here.
    #[error(
        "no cgroup has its uid yet; where it runs, the agent's --cgroup-root is not above kubelet's folder `kubepods`"
    )]
    NoCgroup,
    /// The pod sandbox is not running yet.
    #[error("no process is in its cgroup yet")]
    NoProcess,
    /// A pod of the host's network, or a runtime on its way into the pod.
    #[error("all its processes are in the node's network namespace, which is never captured")]
    OnlyNodes,
    /// The agent lives in a process namespace of its own.
    #[error("its processes are not to be seen; give the agent the node's process namespace (hostPID: true)")]
    Hidden,
}

impl Locator {
    /// Looks below this cgroup: the one that was chosen, or the whole hierarchy of the machine.
    #[must_use]
    pub fn new(root: &Path, is_chosen: bool) -> Self {
        let nodes = ["/proc/self/ns/net", "/proc/1/ns/net"].map(Path::new);
        Self {
            tree: Tree::new(root, is_chosen),
            scan: Scan::default(),
            read_ns: 0,
            nodes: nodes.into_iter().filter_map(NamespaceFile::of).collect(),
        }
    }

    /// The kernel told of these pods: one that is in no folder that is known may be in a new one.
    pub fn expect(&mut self, uids: &BTreeSet<String>) {
        self.rescan();
        if uids.iter().any(|uid| !self.scan.pods.contains_key(uid)) {
            self.tree.expect_pods();
        }
    }

    /// The same, and searches for a folder of all pods that was made at `folder_made_ns`, as the kernel told.
    pub fn read(&mut self, folder_made_ns: u64, now_ns: u64) {
        if self.read_ns < folder_made_ns.saturating_add(APPEARS_NS) {
            self.tree.expect_pods();
        }
        self.read_ns = now_ns;
        self.rescan();
    }

    /// Reads which pods have cgroups now.
    pub fn rescan(&mut self) {
        self.scan = self.tree.scan();
    }

    /// The pods that have cgroups, as of the last scan.
    #[must_use]
    pub fn scan(&self) -> &Scan {
        &self.scan
    }

    /// Where the pod's network namespace is now.
    ///
    /// # Errors
    /// It is not there yet, or never will be.
    pub fn find(&self, source: &NetnsSource) -> Result<Place, Missing> {
        let uid = match source {
            NetnsSource::Path(path) => return Ok(Place { path: path.clone(), started_ns: None }),
            NetnsSource::Cgroup(uid) => uid,
        };
        let cgroup = self.scan.pods.get(&**uid).ok_or(Missing::NoCgroup)?;
        match process::search(&cgroup.path, &self.nodes) {
            Search::Found(path, started_ns) => Ok(Place { path, started_ns: Some(started_ns) }),
            Search::Empty => Err(Missing::NoProcess),
            Search::OnlyNodes => Err(Missing::OnlyNodes),
            Search::Hidden => Err(Missing::Hidden),
        }
    }

    /// Whether the pod still has this network namespace; `named` is the path that last named it, and is brought up to date. A pod
    /// whose containers are all between two runs keeps its namespace as long as it has its cgroup.
    pub fn still_has(&self, source: &NetnsSource, namespace: &Namespace, named: &mut PathBuf) -> bool {
        if NamespaceFile::of(named) == Some(namespace.file()) {
            return true;
        }
        let NetnsSource::Cgroup(uid) = source else { return false };
        let Some(cgroup) = self.scan.pods.get(&**uid) else { return false };
        // A process of the node that is on its way into the pod may arrive between two looks: one that has it decides.
        let Search::Found(path, _) = process::search(&cgroup.path, &self.nodes) else { return true };
        let is_it = NamespaceFile::of(&path) == Some(namespace.file());
        let path = if is_it { Some(path) } else { process::in_namespace(&cgroup.path, namespace.file()) };
        let still = path.is_some();
        *named = path.unwrap_or_default();
        still
    }
}
