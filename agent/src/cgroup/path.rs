//! From the path of a control group to the pod and the container. Pure.
//!
//! What is read: kubelet's two drivers (`systemd`: `kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid>.slice`,
//! with `_` for `-` in the uid; `cgroupfs`: `kubepods/burstable/pod<uid>`), below whatever root kubelet was given (kind:
//! `kubelet.slice/kubelet-kubepods.slice/…`), and the container folders of containerd, CRI-O and cri-dockerd below them.
//! Nothing else is taken for a pod.

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPath {
    /// As kubelet knows the pod: `metadata.uid`, or the hash of a static pod's manifest (32 hexadecimal digits).
    pub uid: String,
    /// The container's id; none for the pod's own folder, and for folders that are no container's.
    pub container: Option<String>,
}

/// The pods that a path names, outermost first: more than one where a cluster runs inside a pod of another.
#[must_use]
pub fn parse(path: &str) -> Vec<PodPath> {
    let mut found = Vec::new();
    let mut in_kubepods = false;
    let mut parts = path.split('/').filter(|part| !part.is_empty()).peekable();
    while let Some(part) = parts.next() {
        match pod_uid(part) {
            Some(uid) if in_kubepods => {
                let container = parts.peek().and_then(|next| container_id(next));
                found.push(PodPath { uid, container });
                in_kubepods = false;
            }
            _ => in_kubepods |= is_kubepods(part),
        }
    }
    found
}

/// Whether a folder is the one that all pods are below.
#[must_use]
pub fn is_kubepods(name: &str) -> bool {
    let name = name.strip_suffix(".slice").unwrap_or(name);
    name == "kubepods" || name.ends_with("-kubepods")
}

/// Whether a folder inside `kubepods` holds the pods of a quality of service.
#[must_use]
pub fn is_quality_of_service(name: &str) -> bool {
    match name.strip_suffix(".slice") {
        Some(slice) => slice.ends_with("kubepods-burstable") || slice.ends_with("kubepods-besteffort"),
        None => matches!(name, "burstable" | "besteffort"),
    }
}

/// The pod whose folder this is, by its name inside `kubepods` or a folder of a quality of service.
#[must_use]
pub fn pod_uid(name: &str) -> Option<String> {
    if let Some(slice) = name.strip_suffix(".slice") {
        let (before, uid) = slice.rsplit_once("-pod")?;
        let uid = uid.replace('_', "-");
        return (before.contains("kubepods") && is_uid(&uid)).then_some(uid);
    }
    name.strip_prefix("pod").filter(|uid| is_uid(uid)).map(str::to_owned)
}

/// Whether a folder among those of pods is plainly none of kubelet's: both drivers write `pod` before the uid.
#[must_use]
pub fn is_no_pod(name: &str) -> bool {
    !is_quality_of_service(name) && !name.starts_with("pod") && !name.contains("-pod")
}

/// `8-4-4-4-12` hexadecimal digits (RFC 9562), or 32 of them: what else the API would take as a uid is never a folder's name.
fn is_uid(text: &str) -> bool {
    let is_hex = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let groups: Vec<usize> = text.split('-').map(str::len).collect();
    text.split('-').all(is_hex) && matches!(groups[..], [8, 4, 4, 4, 12] | [32])
}

/// `cri-containerd-<id>.scope`, `crio-<id>.scope`, `docker-<id>.scope`, `<id>`, `crio-<id>`; CRI-O's `conmon` is no container.
fn container_id(name: &str) -> Option<String> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let (runtime, id) = name.rsplit_once('-').unwrap_or(("", name));
    let is_id = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_id && !runtime.contains("conmon")).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    const UID: &str = "4f0e0b9c-1d2e-4a5b-8c7d-0123456789ab";
    const UID_: &str = "4f0e0b9c_1d2e_4a5b_8c7d_0123456789ab";
    const STATIC: &str = "0123456789abcdef0123456789abcdef";
    const ID: &str = "64aa3f0c5f7e4b2c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a3b2c1d0e9f8a7b6c";

    fn one(path: &str) -> Option<(String, Option<String>)> {
        let mut found = parse(path);
        assert!(found.len() < 2, "{found:?}");
        found.pop().map(|pod| (pod.uid, pod.container))
    }

    /// Paths as they were seen on nodes of each kind, with the uid and id replaced.
    #[test]
    fn layouts_of_nodes() {
        let systemd = format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID_}.slice");
        let guaranteed = format!("/kubepods.slice/kubepods-pod{UID_}.slice");
        let kind = format!(
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod{UID_}.slice"
        );
        let with_container = [
            format!("{systemd}/cri-containerd-{ID}.scope"),
            format!("{systemd}/crio-{ID}.scope"),
            format!("{systemd}/crio-{ID}.scope/container"),
            format!("{systemd}/docker-{ID}.scope"),
            format!("{systemd}/cri-containerd-{ID}.scope/init.scope"),
            format!("{guaranteed}/cri-containerd-{ID}.scope"),
            format!("{kind}/cri-containerd-{ID}.scope"),
            format!("/system.slice/docker-{ID}.scope{kind}/cri-containerd-{ID}.scope"),
            format!("/../../..{systemd}/cri-containerd-{ID}.scope"),
            format!("/kubepods/besteffort/pod{UID}/{ID}"),
            format!("/kubepods/burstable/pod{UID}/crio-{ID}"),
            format!("/kubepods/pod{UID}/{ID}"),
            format!("/docker/{ID}/kubelet/kubepods/burstable/pod{UID}/{ID}"),
            format!("kubepods/pod{UID}/{ID}"),
        ];
        for path in with_container {
            assert_eq!(one(&path), Some((UID.to_owned(), Some(ID.to_owned()))), "{path}");
        }
        let without = [
            systemd.clone(),
            guaranteed,
            format!("/kubepods/burstable/pod{UID}"),
            format!("{systemd}/crio-conmon-{ID}.scope"),
            format!("{systemd}/something.service"),
        ];
        for path in without {
            assert_eq!(one(&path), Some((UID.to_owned(), None)), "{path}");
        }
        let static_pod = format!("/kubepods/burstable/pod{STATIC}/{ID}");
        assert_eq!(one(&static_pod).unwrap().0, STATIC);
    }

    #[test]
    fn what_is_no_pod() {
        let none = [
            "/".to_owned(),
            String::new(),
            "/system.slice/containerd.service".to_owned(),
            "/kubepods.slice/kubepods-burstable.slice".to_owned(),
            "/kubepods/besteffort".to_owned(),
            format!("/user.slice/pod{UID}/{ID}"),
            format!("/machine.slice/libpod-{ID}.scope"),
            format!("/kubepods/pod{UID}x/{ID}"),
            format!("/kubepods/pod{}/{ID}", UID.replace('-', "")[1..].to_owned()),
            format!("/kubepods/pod{}", UID.replace('a', "g")),
            "/kubepods/pod..".to_owned(),
            format!("/kubepods.slice/other-pod{UID_}.slice"),
        ];
        for path in none {
            assert_eq!(parse(&path), [], "{path}");
        }
    }

    #[test]
    fn a_cluster_inside_a_pod_names_both() {
        let inner = "00000000-1111-2222-3333-444444444444";
        let path = format!("/kubepods/burstable/pod{UID}/{ID}/kubelet/kubepods/pod{inner}/{ID}");
        let uids: Vec<String> = parse(&path).into_iter().map(|pod| pod.uid).collect();
        assert_eq!(uids, [UID, inner]);
    }

    #[test]
    fn folders_that_hold_pods() {
        for name in ["kubepods", "kubepods.slice", "kubelet-kubepods.slice"] {
            assert!(is_kubepods(name) && !is_quality_of_service(name), "{name}");
        }
        for name in
            ["burstable", "besteffort", "kubepods-besteffort.slice", "kubelet-kubepods-burstable.slice"]
        {
            assert!(is_quality_of_service(name) && !is_kubepods(name), "{name}");
        }
        for name in ["system.slice", "kubepods-pod1.slice", "kubepods2", "guaranteed"] {
            assert!(!is_quality_of_service(name) && !is_kubepods(name), "{name}");
        }
        for (name, expected) in [
            ("something.service", true),
            ("burstable", false),
            ("kubepods-burstable.slice", false),
            ("podmy-own-uid", false),
            ("kubepods-podmy_own_uid.slice", false),
            (&format!("pod{UID}"), false),
        ] {
            assert_eq!(is_no_pod(name), expected, "{name}");
        }
    }
}
