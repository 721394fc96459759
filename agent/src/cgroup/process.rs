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

/// One process of a pod.
#[derive(Clone, Copy, Debug)]
struct Seen {
    pid: u32,
    parent: u32,
    /// Nanoseconds since boot.
    started_ns: u64,
    /// Its network namespace, and that of its parent where that can be seen.
    file: NamespaceFile,
    of_parent: Option<NamespaceFile>,
}

/// Looks through the processes of a pod's cgroup; `nodes` are network namespaces that are no pod's.
#[must_use]
pub fn search(pod: &Path, nodes: &[NamespaceFile]) -> Search {
    let mut pids = Vec::new();
    collect(pod, 0, &mut pids);
    if pids.contains(&0) {
        return Search::Hidden;
    }
    choose(&pids.into_iter().filter_map(look).collect::<Vec<_>>(), nodes)
}

/// The oldest process that is in a namespace of its own. One that shares that of a parent outside of the pod was put into the cgroup by
/// the runtime and is on its way into the namespace (or the pod is of the host's network).
fn choose(seen: &[Seen], nodes: &[NamespaceFile]) -> Search {
    let from_outside = |one: &Seen| seen.iter().all(|other| other.pid != one.parent);
    let is_on_its_way = |one: &Seen| from_outside(one) && one.of_parent == Some(one.file);
    let inside = seen.iter().filter(|one| !nodes.contains(&one.file) && !is_on_its_way(one));
    match inside.min_by_key(|one| one.started_ns) {
        Some(one) => Search::Found(namespace_path(one.pid), one.started_ns),
        None if seen.is_empty() => Search::Empty,
        None => Search::OnlyNodes,
    }
}

/// The path of some process of the pod whose network namespace is this one.
#[must_use]
pub fn in_namespace(pod: &Path, namespace: NamespaceFile) -> Option<PathBuf> {
    let mut pids = Vec::new();
    collect(pod, 0, &mut pids);
    let mut found = pids.into_iter().filter_map(look).filter(|one| one.file == namespace);
    found.next().map(|one| namespace_path(one.pid))
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

/// What there is to know of a process. A zombie has no namespace any more.
fn look(pid: u32) -> Option<Seen> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (parent, started_ns) = parent_and_start(&stat)?;
    let of = |pid| NamespaceFile::of(&namespace_path(pid));
    Some(Seen { pid, parent, started_ns, file: of(pid)?, of_parent: of(parent) })
}

fn namespace_path(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/ns/net"))
}

/// Fields 4 and 22 of `/proc/PID/stat`, the latter in nanoseconds; the name in field 2 may hold anything, also brackets.
fn parent_and_start(stat: &str) -> Option<(u32, u64)> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let parent = rest.split(' ').nth(1)?.parse().ok()?;
    let ticks: u64 = rest.split(' ').nth(19)?.parse().ok()?;
    Some((parent, ticks.saturating_mul(1_000_000_000 / TICKS)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn reads_when_a_process_started_and_by_whom() {
        let stat = "7 (a) b) S 3 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4321 1000 2 18446744073709551615";
        assert_eq!(parent_and_start(stat), Some((3, 43_210_000_000)));
        assert_eq!(parent_and_start("garbage"), None);
    }

    #[test]
    fn the_oldest_process_with_a_namespace_of_its_own_counts() {
        let file = |name: &str| NamespaceFile::of(&Path::new("/proc/self/ns").join(name)).unwrap();
        let (node, pod, nested) = (file("net"), file("uts"), file("ipc"));
        let one =
            |pid, parent, started_ns, file, of_parent| Seen { pid, parent, started_ns, file, of_parent };
        let pause = one(10, 1, 50, pod, Some(node));
        let found = |pid, started_ns| Search::Found(namespace_path(pid), started_ns);
        let table: [(&str, &[Seen], &[NamespaceFile], Search); 8] = [
            ("nobody", &[], &[node], Search::Empty),
            ("pause", &[pause], &[node], found(10, 50)),
            ("host network", &[one(10, 1, 50, node, Some(node))], &[node], Search::OnlyNodes),
            ("on its way, node unknown", &[one(10, 1, 50, node, Some(node))], &[], Search::OnlyNodes),
            ("parent not to be seen", &[one(10, 1, 50, pod, None)], &[node], found(10, 50)),
            ("a child of the pod's", &[one(11, 10, 60, pod, Some(pod)), pause], &[], found(10, 50)),
            ("a node inside", &[one(12, 10, 70, nested, Some(pod)), pause], &[node], found(10, 50)),
            ("joining", &[one(13, 1, 40, node, Some(node)), pause], &[], found(10, 50)),
        ];
        for (what, seen, nodes, expected) in table {
            assert_eq!(choose(seen, nodes), expected, "{what}");
        }
    }

    /// A folder like a cgroup's, with this very process in it.
    #[test]
    fn processes_are_read_from_the_folders_of_a_pod() {
        let pod = tempfile::tempdir().unwrap();
        let container = pod.path().join("cri-containerd-1.scope");
        fs::create_dir(&container).unwrap();
        assert_eq!(search(pod.path(), &[]), Search::Empty);
        fs::write(container.join("cgroup.procs"), format!("{}\n", std::process::id())).unwrap();
        let own = NamespaceFile::of(Path::new("/proc/self/ns/net")).unwrap();
        assert_eq!(search(pod.path(), &[own]), Search::OnlyNodes);
        assert_eq!(in_namespace(pod.path(), own), Some(namespace_path(std::process::id())));
        let other = NamespaceFile::of(Path::new("/proc/self/ns/uts")).unwrap();
        assert_eq!(in_namespace(pod.path(), other), None);
        fs::write(container.join("cgroup.procs"), "0\n").unwrap();
        assert_eq!(search(pod.path(), &[]), Search::Hidden);
    }
}
