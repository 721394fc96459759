//! A node that boots: `posthaste guard` runs, kubelet starts pods, and the agent comes last.

use crate::{kubelet::mesh, scene::logs};
use posthaste_tests::{
    Driver, Family, Fault, Finished, KubeletPod, Mesh, Running, Site, Sniffer, boot_guard,
    mesh::NAMESPACE,
    objects::{self, PodSpec},
    peer,
    wait::{eventually_within, holds},
};
use serde_json::Value;
use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

const SECRET: &str = "never-in-plaintext";
const OPEN: &str = "anybody-may-read-this";

fn guard(mesh: &Mesh, flags: &[&str]) -> Finished {
    boot_guard::run(&mesh.a, flags).unwrap()
}

fn said(finished: &Finished) -> String {
    assert!(finished.status.success(), "{finished:?}");
    finished.stdout.trim().to_owned()
}

/// The agent of node `a` has known the mesh; then the node went down: no agent, no pods, nothing in the kernel.
fn reboot(mesh: &mut Mesh) {
    let known = mesh.a.cli(&["dump", "-o", "json"]).unwrap();
    fs::create_dir_all(mesh.a.state()).unwrap();
    fs::write(mesh.a.state().join("inputs.json"), known).unwrap();
    mesh.a.kill();
    fs::remove_dir_all(mesh.a.bpffs()).unwrap();
}

fn call(from: &Site, to: &Site, text: &str) -> Value {
    peer::call(from, "exchange", to.at(Family::V4, 8080), &[text]).unwrap()
}

fn is_held(answer: &Value) -> bool {
    answer["error"] == "PermissionDenied"
}

struct Stage {
    mesh: Mesh,
    server: KubeletPod,
    outsider: Site,
    _echoes: [Running; 2],
}

/// A mesh with a server on node `b`, somebody outside it, and a namespace that is not enrolled.
fn stage(annotations: &[(&str, &str)]) -> Stage {
    let mut mesh = mesh(annotations);
    mesh.manifests.put(objects::namespace("free", false, &[]));
    mesh.manifests.apply().unwrap();
    let server = mesh.running_pod("b", "server", Driver::Systemd).unwrap();
    let outsider = mesh.outsider("outsider").unwrap();
    let _echoes = [&*server, &outsider].map(|site| peer::serve(site, "echo", 8080).unwrap());
    Stage { mesh, server, outsider, _echoes }
}

/// Kubelet starts a pod that no agent knows yet.
fn start(mesh: &mut Mesh, name: &str) -> Result<KubeletPod, Fault> {
    let mut pod = mesh.kubelet_pod("a", name, Driver::Systemd)?;
    pod.start_pause()?;
    Ok(pod)
}

#[test]
fn nothing_leaves_a_strict_pod_from_boot_to_its_capture() {
    let Stage { mut mesh, server, outsider, _echoes } = stage(&[("mtls", "strict")]);
    reboot(&mut mesh);
    let line = said(&guard(&mesh, &[]));
    assert!(line.starts_with("pods are held until an agent has judged them: something was strict"), "{line}");
    let (strict, free) = (start(&mut mesh, "strict").unwrap(), start(&mut mesh, "free").unwrap());
    let sniffer = Sniffer::start(mesh.world.bridge(), &[SECRET, OPEN]).unwrap();
    for _ in 0..3 {
        let answers = [call(&strict, &server, SECRET), call(&free, &outsider, OPEN)];
        assert!(answers.iter().all(is_held), "{answers:?}");
    }
    assert_eq!(sniffer.hits(), 0, "{:?}", sniffer.seen());
    assert_eq!(call(&mesh.a.site, &outsider, OPEN)["answer"], OPEN, "the node itself is not held");
    assert!(said(&guard(&mesh, &[])).starts_with("nothing was changed"), "systemd starts the unit again");
    // The agent comes, while the strict pod tries again and again.
    let stop = AtomicBool::new(false);
    let answers: Vec<Value> = thread::scope(|scope| {
        let calling = scope.spawn(|| {
            let mut answers = Vec::new();
            while !stop.load(Ordering::Relaxed) && answers.len() < 10_000 {
                answers.push(call(&strict, &server, SECRET));
            }
            answers
        });
        mesh.announce(&strict).unwrap();
        mesh.manifests.put(PodSpec { namespace: "free".to_owned(), ..free.spec.clone() }.object());
        mesh.manifests.apply().unwrap();
        let ready = mesh.a.restart();
        let both = ready.and_then(|()| {
            eventually_within(Duration::from_secs(60), "both pods to reach what they call", || {
                let answers = [call(&strict, &server, SECRET), call(&free, &outsider, OPEN)];
                let reached = answers[0]["answer"] == SECRET && answers[1]["answer"] == OPEN;
                holds(reached, format!("{answers:?}\n{}", logs(&mesh)))
            })
        });
        stop.store(true, Ordering::Relaxed);
        let answers = calling.join().unwrap();
        both.unwrap();
        answers
    });
    let held = answers.iter().filter(|answer| is_held(answer)).count();
    assert!(held > 0, "{answers:?}");
    let seen = sniffer.seen();
    assert_eq!((seen.hits[0], seen.lost), (0, 0), "{seen:?}");
    assert!(seen.hits[1] >= 2, "the free pod's and the node's are seen: {seen:?}");
    // What was refused before there was an agent is told by it.
    eventually_within(Duration::from_secs(20), "what was held to be told", || {
        let metrics = mesh.a.metrics().map_err(|fault| fault.to_string())?;
        let told = metrics.sum("posthaste_uncaptured_connections_total", &[("verdict", "refused")]);
        holds(told >= 6.0, told.to_string())
    })
    .unwrap();
    // Beside an agent that runs.
    let hooks = || mesh.a.json(&["status"]).unwrap()["capture"]["programs"].clone();
    let before = hooks();
    assert!(said(&guard(&mesh, &["--always"])).starts_with("nothing was changed"));
    assert_eq!(hooks(), before);
    assert_eq!(call(&strict, &server, SECRET)["answer"], SECRET);
    assert_eq!(call(&free, &outsider, OPEN)["answer"], OPEN);
}

/// Whoever starts a guard late, beside pods that run: nobody has judged them either.
#[test]
fn pods_that_run_are_held_until_an_agent_comes_and_let_go_by_who_wants_none_of_it() {
    let Stage { mut mesh, server, outsider, _echoes } = stage(&[("mtls", "strict")]);
    reboot(&mut mesh);
    let pod = start(&mut mesh, "client").unwrap();
    assert_eq!(call(&pod, &outsider, OPEN)["answer"], OPEN, "without a guard it is let go");
    said(&guard(&mesh, &[]));
    assert!(is_held(&call(&pod, &outsider, OPEN)) && is_held(&call(&pod, &server, SECRET)));
    fs::remove_dir_all(mesh.a.bpffs()).unwrap();
    eventually_within(Duration::from_secs(20), "the pod to be let go", || {
        let answer = call(&pod, &outsider, OPEN);
        holds(answer["answer"] == OPEN, answer.to_string())
    })
    .unwrap();
}

#[test]
fn a_guard_goes_by_what_the_agent_knew_last_and_holds_where_nobody_can_say() {
    let Stage { mut mesh, server: _server, outsider, _echoes } = stage(&[]);
    reboot(&mut mesh);
    let pod = start(&mut mesh, "client").unwrap();
    let file = mesh.a.state().join("inputs.json");
    let kept = fs::read_to_string(&file).unwrap();
    let broken = format!("{kept}{{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"meta");
    // (what is on disk, flags, whether it holds, what it says)
    let table: [(Option<&str>, &[&str], bool, &str); 7] = [
        (Some(&kept), &[], false, "nothing is held: nothing was strict"),
        (Some(&kept), &["--mtls=strict"], true, "something was strict"),
        (Some(&kept), &["--always"], true, "--always"),
        (None, &[], true, "no agent has kept its inputs in"),
        (None, &["--without-inputs=pass"], false, "no agent has kept its inputs in"),
        (Some(&broken), &[], true, "inputs.json is not as an agent writes it: inputs.json document"),
        (Some(""), &[], true, "inputs.json holds no Namespace"),
    ];
    for (text, flags, is_holding, words) in table {
        match text {
            Some(text) => fs::write(&file, text).unwrap(),
            None => drop(fs::remove_file(&file)),
        }
        let line = said(&guard(&mesh, flags));
        assert!(line.contains(words), "{flags:?}: {line}");
        assert_eq!(mesh.a.bpffs().exists(), is_holding, "{flags:?}: {line}");
        assert_eq!(is_held(&call(&pod, &outsider, OPEN)), is_holding, "{flags:?}: {line}");
        if is_holding {
            fs::remove_dir_all(mesh.a.bpffs()).unwrap();
            eventually_within(Duration::from_secs(20), "the pod to be let go", || {
                holds(!is_held(&call(&pod, &outsider, OPEN)), "held")
            })
            .unwrap();
        }
    }
    let refused = guard(&mesh, &["--always", "--cgroup-root", "/proc"]);
    assert!(
        !refused.status.success() && refused.stderr.contains("nothing is held: --cgroup-root /proc"),
        "{refused:?}"
    );
    let namespace = objects::namespace(NAMESPACE, true, &[("mtls", "strict")]);
    fs::write(&file, namespace.to_string()).unwrap();
    let no_bpffs = mesh.world.folder().display().to_string();
    let refused = guard(&mesh, &["--bpffs", &no_bpffs]);
    assert!(
        !refused.status.success() && refused.stderr.contains("is not on a BPF file system"),
        "{refused:?}"
    );
    // Where nobody says which part of the machine is meant, all of it is, and then it is to be the node's own namespace.
    let anywhere: Vec<String> = ["--always", "--bpffs", &no_bpffs].map(str::to_owned).into();
    let refused = boot_guard::run_behind(&mesh.a.site, &[], &anywhere).unwrap();
    assert!(!refused.status.success(), "{refused:?}");
    assert!(refused.stderr.contains("network namespace of the node is never held"), "{refused:?}");
}
