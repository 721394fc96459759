//! The pods below a root of control groups. The folders of all pods (`kubepods…`; two on a node whose kubelet has changed its driver)
//! are searched once and kept in mind; a scan then reads those and the ones of the qualities of service, and nothing of the rest of
//! the machine.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    os::unix::fs::DirEntryExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{mounts, path};

/// How deep below the root the folder of all pods may be: a node inside a container of a node.
const DEEPEST: usize = 8;
/// Folders that one search looks at, at most.
const MOST_FOLDERS: usize = 10_000;
/// Between two searches on a machine that has no pods.
const SEARCH_EVERY: Duration = Duration::from_secs(5);

/// Where pods are looked for.
#[derive(Debug)]
pub struct Tree {
    /// Of version 2 first.
    roots: Vec<PathBuf>,
    /// The folders of all pods that were found, and whether they are of version 2.
    kubepods: Vec<PathBuf>,
    unified: bool,
    /// When they were last searched.
    searched: Option<Instant>,
}

/// The folder of one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodCgroup {
    /// The folder.
    pub path: PathBuf,
    /// Its id in the kernel: the inode number (cgroup v2, `cgroup_id`).
    pub id: u64,
}

/// What a scan found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Pods by the uid that kubelet knows them by.
    pub pods: BTreeMap<String, PodCgroup>,
    /// Ids of the folders that hold pods; empty where the ids mean nothing to the connect hooks (version 1).
    pub groups: Vec<u64>,
    /// Ids of the folders beside those of pods that are none; empty as above.
    pub others: Vec<u64>,
}

impl Tree {
    /// Below this folder only, or wherever pods are in the hierarchies of this machine.
    #[must_use]
    pub fn new(root: &Path, is_chosen: bool) -> Self {
        let mut roots = vec![root.to_path_buf()];
        if !is_chosen {
            roots.extend(mounts::legacy_roots());
        }
        Self { roots, kubepods: Vec::new(), unified: true, searched: None }
    }

    /// A pod has appeared that no scan has found: the next one searches at once.
    pub fn expect_pods(&mut self) {
        self.searched = None;
    }

    /// Reads which pods there are now.
    pub fn scan(&mut self) -> Scan {
        let is_known = !self.kubepods.is_empty() && self.kubepods.iter().all(|folder| folder.exists());
        let is_time = self.searched.is_none_or(|at| !is_known && at.elapsed() >= SEARCH_EVERY);
        if is_time {
            self.search();
        }
        let mut scan = Scan::default();
        let mut groups = self.kubepods.clone();
        scan.groups.extend(groups.iter().filter_map(|folder| id_of(folder)));
        while let Some(group) = groups.pop() {
            for (name, folder) in folders(&group) {
                if let Some(uid) = path::pod_uid(&name) {
                    scan.pods.insert(uid, folder);
                } else if path::is_quality_of_service(&name) {
                    scan.groups.push(folder.id);
                    groups.push(folder.path);
                } else if path::is_no_pod(&name) {
                    scan.others.push(folder.id);
                } else {
                    // Of a uid that kubelet does not give by itself: nobody will know it, and it is to be named.
                    scan.pods.insert(name, folder);
                }
            }
        }
        if !self.unified {
            scan.groups.clear();
            scan.others.clear();
        }
        scan
    }

    fn search(&mut self) {
        let found = self.roots.iter().map(|root| search(root)).enumerate();
        let (at, found) = found.into_iter().find(|(_, found)| !found.is_empty()).unwrap_or_default();
        (self.unified, self.kubepods, self.searched) = (at == 0, found, Some(Instant::now()));
    }
}

/// Whether pods are somewhere below.
pub(super) fn has_pods(root: &Path) -> bool {
    !search(root).is_empty()
}

/// The folders of all pods; not looked into, since containers may hold nodes of their own.
fn search(root: &Path) -> Vec<PathBuf> {
    let mut waiting = VecDeque::from([(root.to_path_buf(), 0)]);
    let mut kubepods = Vec::new();
    for _ in 0..MOST_FOLDERS {
        let Some((folder, depth)) = waiting.pop_front() else { break };
        for (name, found) in folders(&folder) {
            if path::is_kubepods(&name) {
                kubepods.push(found.path);
            } else if depth < DEEPEST {
                waiting.push_back((found.path, depth + 1));
            }
        }
    }
    kubepods
}

/// Names and ids of the folders in a folder; one that has just gone has none.
fn folders(folder: &Path) -> impl Iterator<Item = (String, PodCgroup)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        Some((name, PodCgroup { path: entry.path(), id: entry.ino() }))
    })
}

fn id_of(folder: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(folder).ok().map(|found| found.ino())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    const ONE: &str = "4f0e0b9c-1d2e-4a5b-8c7d-0123456789ab";
    const TWO: &str = "00000000-1111-2222-3333-444444444444";

    fn laid_out(folders: &[String]) -> (tempfile::TempDir, Scan) {
        let root = tempfile::tempdir().unwrap();
        for folder in folders {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        let scan = Tree::new(root.path(), true).scan();
        (root, scan)
    }

    #[test]
    fn finds_pods_of_both_drivers_wherever_the_root_is() {
        let systemd = |prefix: &str, dash: &str| {
            let (one, two) = (ONE.replace('-', "_"), TWO.replace('-', "_"));
            vec![
                format!("system.slice/ssh.service"),
                format!(
                    "{prefix}{dash}kubepods.slice/{dash}kubepods-burstable.slice/{dash}kubepods-burstable-pod{one}.slice/cri-containerd-x.scope"
                ),
                format!("{prefix}{dash}kubepods.slice/{dash}kubepods-pod{two}.slice"),
            ]
        };
        let cgroupfs = |prefix: &str| {
            vec![
                format!("{prefix}kubepods/besteffort/pod{ONE}/x"),
                format!("{prefix}kubepods/pod{TWO}"),
                format!("{prefix}kubepods/burstable"),
            ]
        };
        for folders in [
            systemd("", ""),
            systemd("kubelet.slice/", "kubelet-"),
            systemd("system.slice/docker-0.scope/kubelet.slice/", "kubelet-"),
            cgroupfs(""),
            cgroupfs("docker/0/kubelet/"),
        ] {
            let (root, scan) = laid_out(&folders);
            let uids: Vec<&str> = scan.pods.keys().map(String::as_str).collect();
            assert_eq!(uids, [TWO, ONE], "{folders:?}");
            assert!(scan.groups.len() >= 2, "{folders:?}");
            for pod in scan.pods.values() {
                assert!(pod.path.starts_with(root.path()) && id_of(&pod.path) == Some(pod.id));
            }
        }
    }

    #[test]
    fn folders_among_pods_that_are_none_are_told_apart() {
        let (_root, scan) = laid_out(&[
            format!("kubepods/pod{ONE}"),
            "kubepods/something.service".to_owned(),
            "kubepods/burstable/podwith-a-uid-of-its-own".to_owned(),
        ]);
        let uids: Vec<&str> = scan.pods.keys().map(String::as_str).collect();
        assert_eq!(
            (uids, scan.groups.len(), scan.others.len()),
            (vec![ONE, "podwith-a-uid-of-its-own"], 2, 1)
        );
    }

    #[test]
    fn a_node_whose_driver_has_changed_has_two() {
        let (_root, scan) = laid_out(&[
            format!("kubepods/pod{ONE}"),
            format!("kubepods.slice/kubepods-pod{}.slice", TWO.replace('-', "_")),
        ]);
        assert_eq!((scan.pods.len(), scan.groups.len()), (2, 2));
    }

    #[test]
    fn pods_that_come_later_and_a_folder_that_goes() {
        let (root, scan) = laid_out(&["system.slice".to_owned()]);
        assert_eq!(scan, Scan::default());
        let mut tree = Tree::new(root.path(), true);
        assert!(tree.scan().pods.is_empty());
        fs::create_dir_all(root.path().join(format!("kubepods/pod{ONE}"))).unwrap();
        assert!(tree.scan().pods.is_empty(), "it searches now and then");
        tree.expect_pods();
        assert_eq!(tree.scan().pods.len(), 1);
        fs::remove_dir_all(root.path().join("kubepods")).unwrap();
        fs::create_dir_all(root.path().join(format!("kubelet/kubepods/pod{ONE}"))).unwrap();
        tree.expect_pods();
        assert_eq!(tree.scan().pods.len(), 1);
    }
}
