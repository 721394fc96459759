//! Pods as kubelet and a container runtime make them: a cgroup named by the uid, a pause container that holds the network
//! namespace, then the containers of the application. Their objects say nothing of the namespace.

use crate::{Doing, Fault, Mesh, Pod, Running, Site, cgroup, mesh::NAMESPACE, objects::PodSpec};
use std::{
    fs,
    ops::Deref,
    path::{Path, PathBuf},
    time::Duration,
};

/// Who names the cgroups, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// kubelet's `systemd` driver with containerd.
    Systemd,
    /// kubelet's `cgroupfs` driver.
    Cgroupfs,
    /// The `systemd` driver below kind's `kubelet.slice`, with CRI-O.
    Kind,
}

/// A runtime enters a container's cgroup first and its network namespace a little later.
const RUNTIME: Duration = Duration::from_millis(5);
/// What containers are called.
const PAUSE: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const APPLICATION: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// A pod; it ends with all its processes and cgroups on drop, the object stays until [`Mesh::remove`].
#[derive(Debug)]
pub struct KubeletPod {
    // Order matters: processes end before the folders are removed.
    pause: Option<Running>,
    folder: PodFolder,
    pod: Pod,
}

#[derive(Debug)]
struct PodFolder(PathBuf);

impl Drop for PodFolder {
    fn drop(&mut self) {
        cgroup::remove(&self.0);
    }
}

impl Deref for KubeletPod {
    type Target = Pod;

    fn deref(&self) -> &Pod {
        &self.pod
    }
}

impl Driver {
    /// Folder of a pod below the node's root, and of a container in it.
    fn folders(self, uid: &str, container: &str) -> (String, String) {
        let slice = uid.replace('-', "_");
        match self {
            Self::Systemd => (
                format!("kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{slice}.slice"),
                format!("cri-containerd-{container}.scope"),
            ),
            Self::Cgroupfs => (format!("kubepods/pod{uid}"), container.to_owned()),
            Self::Kind => (
                format!("kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{slice}.slice"),
                format!("crio-{container}.scope"),
            ),
        }
    }
}

impl Mesh {
    /// Gives each agent the cgroups of its own node as root: the agent's own and those of pods as kubelet makes them, and no
    /// others. Before the agents start.
    pub fn split_cgroups(&mut self) {
        for agent in [&mut self.a, &mut self.b] {
            agent.settings.cgroup_root = self.world.cgroup().path().join(node_folder(agent.node()));
        }
    }

    /// What kubelet does first: the cgroup, the network namespace (by CNI), no process yet. The object is not written.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn kubelet_pod(&mut self, node: &str, name: &str, driver: Driver) -> Result<KubeletPod, Fault> {
        let number = self.next_pod();
        let uid = format!("{:08x}-0000-4000-8000-{number:012x}", std::process::id());
        self.kubelet_pod_of(node, name, driver, (number, uid))
    }

    /// The same in a cluster, where the object comes first and the API server gives the uid.
    ///
    /// # Errors
    /// It cannot be made, or there is no API server.
    pub fn scheduled_pod(&mut self, node: &str, name: &str, driver: Driver) -> Result<KubeletPod, Fault> {
        let spec = PodSpec {
            name: name.to_owned(),
            namespace: NAMESPACE.to_owned(),
            node: node.to_owned(),
            ..PodSpec::default()
        };
        self.manifests.put(spec.object());
        self.manifests.apply()?;
        let cluster = self.cluster.as_ref().ok_or_else(|| Fault::new("there is no API server"))?;
        let uid =
            cluster.lock().read(&spec.object())?["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let number = self.next_pod();
        self.kubelet_pod_of(node, name, driver, (number, uid))
    }

    fn kubelet_pod_of(
        &mut self,
        node: &str,
        name: &str,
        driver: Driver,
        (number, uid): (u8, String),
    ) -> Result<KubeletPod, Fault> {
        let (folder, container) = driver.folders(&uid, APPLICATION);
        let folder = format!("{}/{folder}", node_folder(node));
        let group = if node == "a" { 2 } else { 3 };
        let site = self.world.site_in(name, group, number, &format!("{folder}/{container}"))?;
        let folder = PodFolder(self.world.cgroup().path().join(&folder));
        let pause = folder.0.join(driver.folders(&uid, PAUSE).1);
        fs::create_dir_all(&pause).doing(format!("make {}", pause.display()))?;
        let spec = PodSpec {
            name: name.to_owned(),
            namespace: NAMESPACE.to_owned(),
            node: node.to_owned(),
            addresses: vec![site.v4.into(), site.v6.into()],
            uid,
            ..PodSpec::default()
        };
        Ok(KubeletPod { pause: None, folder, pod: Pod { site, spec } })
    }

    /// What the API server learns: the object, without its addresses while it has no process.
    ///
    /// # Errors
    /// The manifests cannot be written.
    pub fn announce(&mut self, pod: &KubeletPod) -> Result<(), Fault> {
        self.manifests.put(pod.spec.object());
        self.manifests.apply()
    }

    /// All of it: a pod that runs and is captured when this returns.
    ///
    /// # Errors
    /// It cannot be made, or its agent does not enrol it in time.
    pub fn running_pod(&mut self, node: &str, name: &str, driver: Driver) -> Result<KubeletPod, Fault> {
        let mut pod = self.kubelet_pod(node, name, driver)?;
        self.announce(&pod)?;
        pod.start_pause()?;
        self.settle(&pod)?;
        Ok(pod)
    }
}

/// Where the cgroups of a node are, below that of the world.
pub(crate) fn node_folder(node: &str) -> String {
    format!("machine-{node}")
}

impl KubeletPod {
    /// Starts the pause container.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_pause(&mut self) -> Result<(), Fault> {
        let cgroup = self.container(PAUSE)?;
        let mut command = self.site.command_in(&cgroup, "sleep", RUNTIME)?;
        command.arg("1000");
        self.pause = Some(self.site.launch(command)?);
        Ok(())
    }

    /// Ends the pause container, as a runtime that keeps namespaces by itself (CRI-O) has none.
    pub fn end_pause(&mut self) {
        self.pause = None;
    }

    /// Folder of its cgroup.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder.0
    }

    /// Where programs of the application run.
    #[must_use]
    pub fn site(&self) -> &Site {
        &self.pod.site
    }

    /// The folder of a container.
    fn container(&self, id: &str) -> Result<PathBuf, Fault> {
        let entries = fs::read_dir(&self.folder.0).doing(format!("read {}", self.folder.0.display()))?;
        let mut paths = entries.flatten().map(|entry| entry.path());
        let is_it = |path: &PathBuf| path.to_string_lossy().contains(id);
        paths
            .find(is_it)
            .ok_or_else(|| Fault::new(format!("no container {id} in {}", self.folder.0.display())))
    }
}
