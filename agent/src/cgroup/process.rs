//! The process of a pod that tells its network namespace: the oldest that is not in the node's own, which is the pause container
//! where there is one. Needs the node's process ids (`hostPID`).

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::netns::NamespaceFile;

/// What the processes of a pod say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Search {
    /// The path that names its network namespace, `/proc/PID/ns/net`, and when that process started, nanoseconds since boot
    /// (to 10 ms).
    Found(PathBuf, u64),
    /// Its cgroup has no process.
    Empty,
    /// It has, all in the network namespace of the node: a pod of the host's network, or one that is just being made.
    OnlyNodes,
    /// The processes are not to be seen from the agent's process namespace.
    Hidden,
}

/// Clock ticks per second in `/proc/PID/stat` (`USER_HZ`), the same on every architecture that Linux's eBPF runs on.
const TICKS: u64 = 100;
/// Nested folders of a container that are looked into, at most.
const DEEPEST: usize = 8;

/// Looks through the processes of a pod's cgroup; `nodes` are network namespaces that are no pod's.
#[must_use]
pub fn search(pod: &Path, nodes: &[NamespaceFile]) -> Search {
    let mut pids = Vec::new();
    collect(pod, 0, &mut pids);
    if pids.contains(&0) {
        return Search::Hidden;
    }
    let seen: Vec<(u64, PathBuf, NamespaceFile)> = pids.iter().filter_map(|pid| look(*pid)).collect();
    let is_nodes = |file: &NamespaceFile| nodes.contains(file);
    match seen.iter().filter(|(_, _, file)| !is_nodes(file)).min_by_key(|(started, ..)| *started) {
        Some((started, path, _)) => Search::Found(path.clone(), *started),
        None if seen.is_empty() => Search::Empty,
        None => Search::OnlyNodes,
    }
}

/// The path of some process of the pod whose network namespace is this one.
#[must_use]
pub fn in_namespace(pod: &Path, namespace: NamespaceFile) -> Option<PathBuf> {
    let mut pids = Vec::new();
    collect(pod, 0, &mut pids);
    let mut found = pids.into_iter().filter_map(look).filter(|(_, _, file)| *file == namespace);
    found.next().map(|(_, path, _)| path)
}

/// Process ids of a folder and those below; 0 stands for one of another process namespace.
fn collect(folder: &Path, depth: usize, pids: &mut Vec<u32>) {
    let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    if depth == DEEPEST {
        return;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), depth + 1, pids);
        }
    }
}

/// When a process started, the path of its network namespace and which one that is. A zombie has none any more.
fn look(pid: u32) -> Option<(u64, PathBuf, NamespaceFile)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
    let file = NamespaceFile::of(&path)?;
    Some((started(&stat)?, path, file))
}

/// Field 22 of `/proc/PID/stat` in nanoseconds; the name in field 2 may hold anything, also brackets.
fn started(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let ticks: u64 = rest.split(' ').nth(19)?.parse().ok()?;
    Some(ticks.saturating_mul(1_000_000_000 / TICKS))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn reads_when_a_process_started() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4321 1000 2 18446744073709551615";
        assert_eq!(started(stat), Some(43_210_000_000));
        assert_eq!(started("garbage"), None);
    }

    /// A folder like a cgroup's, with this very process in it.
    #[test]
    fn only_a_namespace_that_is_not_the_nodes_counts() {
        let pod = tempfile::tempdir().unwrap();
        let container = pod.path().join("cri-containerd-1.scope");
        fs::create_dir(&container).unwrap();
        assert_eq!(search(pod.path(), &[]), Search::Empty);
        fs::write(container.join("cgroup.procs"), format!("{}\n", std::process::id())).unwrap();
        let own = NamespaceFile::of(Path::new("/proc/self/ns/net")).unwrap();
        assert_eq!(search(pod.path(), &[own]), Search::OnlyNodes);
        let Search::Found(path, started) = search(pod.path(), &[]) else { panic!("not found") };
        assert_eq!(path, Path::new(&format!("/proc/{}/ns/net", std::process::id())));
        assert!(started > 0);
        assert_eq!(in_namespace(pod.path(), own), Some(path));
        let other = NamespaceFile::of(Path::new("/proc/self/ns/uts")).unwrap();
        assert_eq!(in_namespace(pod.path(), other), None);
        fs::write(container.join("cgroup.procs"), "0\n").unwrap();
        assert_eq!(search(pod.path(), &[]), Search::Hidden);
    }
}
