//! The agent as a container runs it, and one agent after the other as a rolling update does.

use crate::scene::{Scene, logs};
use posthaste_tests::{Agent, Mesh, Sniffer, agent, eventually, peer, wait::holds};
use rustix::process::Signal;
use serde_json::Value;
use std::{path::Path, time::Duration};

const NEEDLE: &str = "never-in-plaintext";

/// What a container runtime does to a process of root that is not privileged: the root file system but for what is mounted into it
/// (the folder `$1`) and `/proc/sys` are read-only, and it has the capabilities `$0` and can never gain others.
const RUNTIME: &str = "mount --bind \"$1\" \"$1\" && shift && mount -o remount,bind,ro / && \
    mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && \
    exec setpriv --nnp --bounding-set \"$0\" --inh-caps=-all \"$@\"";

/// The capabilities that the manifest lists, as setpriv takes them.
fn shipped() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/base/agent.yaml");
    let manifest: Value = serde_yaml_ng::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let context = &manifest["spec"]["template"]["spec"]["containers"][0]["securityContext"];
    assert_eq!(context["readOnlyRootFilesystem"], true);
    let listed = &context["capabilities"];
    assert_eq!(listed["drop"][0], "ALL");
    let added = listed["add"].as_array().unwrap().iter();
    let named = added.map(|name| format!(",+{}", name.as_str().unwrap().to_lowercase()));
    "-all".to_owned() + &named.collect::<String>()
}

fn contain(agent: &mut Agent, capabilities: &str) {
    let folder = agent.state().parent().unwrap().display().to_string();
    // A slave of the host, as a DaemonSet mounts it: namespaces of pods that come later are seen.
    let line = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", RUNTIME, capabilities, &folder];
    agent.wrapper = line.map(str::to_owned).to_vec();
}

#[test]
fn the_capabilities_of_the_manifest_suffice_and_none_of_them_is_idle() {
    let mut mesh = Mesh::prepare(&[("mtls", "strict")]).unwrap();
    contain(&mut mesh.a, &shipped());
    contain(&mut mesh.b, &shipped());
    mesh.authority.start().unwrap();
    mesh.a.restart().unwrap();
    mesh.b.restart().unwrap();
    let client = mesh.pod("a", "client").unwrap();
    let server = mesh.pod("b", "server").unwrap();
    let service = mesh.service("server", 8080, &[&server]).unwrap();
    let scene = Scene { client, server, service, mesh };
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    scene.works();
    let Scene { mut mesh, .. } = scene;
    mesh.a.stop().unwrap();
    // Without one of the first three it says which at once; the fourth is for pods of other users, which this world has not.
    for missing in ["bpf", "net_admin", "sys_admin"] {
        contain(&mut mesh.a, &shipped().replace(&format!(",+{missing}"), ""));
        let refused = mesh.a.restart().unwrap_err().to_string();
        assert!(refused.contains(&format!("CAP_{}", missing.to_uppercase())), "{missing}: {refused}");
    }
}

#[test]
fn an_agent_that_stands_by_takes_over_when_the_other_ends() {
    let mut mesh = Mesh::prepare(&[("mtls", "strict")]).unwrap();
    let flags = ["--stand-by", "--on-stop", "keep"].map(str::to_owned);
    mesh.a.settings.extra.extend(flags);
    mesh.authority.start().unwrap();
    mesh.a.restart().unwrap();
    mesh.b.restart().unwrap();
    let client = mesh.pod("a", "client").unwrap();
    let server = mesh.pod("b", "server").unwrap();
    let service = mesh.service("server", 8080, &[&server]).unwrap();
    let mut scene = Scene { client, server, service, mesh };
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    let sniffer = Sniffer::start(scene.mesh.world.bridge(), &[NEEDLE]).unwrap();
    scene.works();
    let socket = scene.mesh.world.folder().join("next.sock");
    let mut next = scene.mesh.a.start_next(&socket).unwrap();
    eventually("the second agent to stand by", || {
        holds(next.stderr().contains("standing by"), next.stderr())
    })
    .unwrap();
    let probe = |what: &str| {
        let mut command = scene.mesh.a.site.command(agent::binary().unwrap()).unwrap();
        command.args(["probe", what, "--admin-socket"]).arg(&socket);
        scene.mesh.a.site.launch(command).unwrap().finish(Duration::from_secs(20)).unwrap().success()
    };
    assert_eq!(probe("live").unwrap().trim(), "standing by");
    assert_eq!(probe("ready").unwrap().trim(), "standing by");
    assert_eq!(scene.exchange(NEEDLE)["answer"], NEEDLE, "the first one serves on");
    scene.mesh.a.signal(Signal::TERM);
    eventually("the second agent to serve", || {
        let answer = scene.exchange(NEEDLE);
        holds(answer["answer"] == NEEDLE, format!("{answer}; {}", next.stderr()))
    })
    .unwrap();
    eventually("it to be ready", || probe("ready").map_err(|fault| fault.to_string()).map(drop)).unwrap();
    assert!(next.stderr().contains("taking over") && next.alive(), "{}", logs(&scene.mesh));
    scene.mesh.a.stop().unwrap();
    assert_eq!(scene.exchange(NEEDLE)["answer"], NEEDLE, "also when the first has ended");
    assert_eq!(sniffer.hits(), 0, "nothing in plaintext, at no time");
}
