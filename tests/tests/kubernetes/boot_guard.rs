//! A node that boots goes by what its agent has kept of the API server, and the component that brings the boot guard to nodes.

use crate::{
    deployed::{overlay_with, serve},
    source::Scene,
};
use posthaste_tests::{
    Finished, agent, boot_guard,
    mesh::NAMESPACE,
    objects,
    wait::{eventually_within, holds},
};
use serde_json::{Value, json};
use std::{fs, process::Command, time::Duration};

fn said(finished: &Finished) -> String {
    assert!(finished.status.success(), "{finished:?}");
    finished.stdout.trim().to_owned()
}

#[test]
fn a_node_that_boots_holds_as_long_as_something_was_strict() {
    let mut scene = Scene::start(&[("mtls", "strict")]);
    let file = scene.mesh.a.state().join("inputs.json");
    let on_disk = |what: &str, is_enrolled: bool| {
        eventually_within(Duration::from_secs(60), what, || {
            let text = fs::read_to_string(&file).map_err(|error| error.to_string())?;
            let is_shop = |line: &&str| line.contains("\"Namespace\"") && line.contains("\"shop\"");
            let shop: String = text.lines().filter(is_shop).collect();
            holds(!shop.is_empty() && shop.contains("enabled") == is_enrolled, shop)
        })
        .unwrap();
    };
    on_disk("the namespace to be on disk", true);
    let reboot = |scene: &mut Scene| {
        scene.mesh.a.kill();
        fs::remove_dir_all(scene.mesh.a.bpffs()).unwrap();
    };
    reboot(&mut scene);
    let line = said(&boot_guard::run(&scene.mesh.a, &[]).unwrap());
    assert!(line.starts_with("pods are held") && line.contains("something was strict"), "{line}");
    // The agent takes it over; then the label goes, and it keeps that.
    scene.mesh.a.restart().unwrap();
    assert_eq!(scene.mesh.a.metrics().unwrap().sum("posthaste_took_over", &[]), 1.0);
    scene.mesh.manifests.put(objects::namespace(NAMESPACE, false, &[("mtls", "strict")]));
    scene.mesh.manifests.apply().unwrap();
    on_disk("the label to be gone on disk", false);
    reboot(&mut scene);
    let line = said(&boot_guard::run(&scene.mesh.a, &[]).unwrap());
    assert!(line.starts_with("nothing is held: nothing was strict"), "{line}");
    assert!(!scene.mesh.a.bpffs().exists());
}

fn agent_of(objects: &str) -> Value {
    let documents = serde_yaml_ng::Deserializer::from_str(objects);
    let mut documents = documents.map(|document| serde::Deserialize::deserialize(document).unwrap());
    let is_it = |object: &Value| object["kind"] == "DaemonSet";
    documents.find(is_it).unwrap()
}

/// As an administrator applies them, with an image of a name of its own.
#[test]
fn the_components_put_the_guard_on_nodes_and_take_it_away() {
    let served = serve();
    let cluster = &served.cluster;
    let image = json!([{"name": "posthaste", "newName": "registry.example/mesh", "newTag": "9"}]);
    for (component, action) in [("boot-guard", "install"), ("boot-guard-removal", "uninstall")] {
        let parts = [format!("components/{component}")];
        let folder = overlay_with(&served, "overlays/strict", &parts, &image);
        let apply = ["apply", "--server-side", "--force-conflicts", "--validate=strict", "-k", &folder];
        let applied = cluster.kubectl(&apply).unwrap();
        assert!(applied.contains("daemonset.apps/posthaste-agent"), "{applied}");
        let pod =
            agent_of(&cluster.kubectl(&["kustomize", &folder]).unwrap())["spec"]["template"]["spec"].clone();
        let (agent, guard) = (&pod["containers"][0], &pod["initContainers"][0]);
        assert_eq!(guard["args"], json!(["guard", action, "--root", "/host"]));
        assert_eq!((&guard["image"], &guard["envFrom"]), (&agent["image"], &agent["envFrom"]), "{pod:#}");
        assert_eq!(guard["image"], "registry.example/mesh:9");
        let rights = &guard["securityContext"];
        assert_eq!(rights["capabilities"], json!({"drop": ["ALL"]}));
        assert_eq!(rights["readOnlyRootFilesystem"], true);
        // What the guard mounts is not the agent's.
        let mounts = guard["volumeMounts"].as_array().unwrap();
        let of_agent = agent["volumeMounts"].to_string();
        assert!(mounts.iter().all(|mount| !of_agent.contains(mount["name"].as_str().unwrap())), "{pod:#}");
        // The very words do it, on a node that is a folder, as root without any capability.
        let node = served.folder().join("node");
        let root = node.display().to_string();
        for folder in ["opt/posthaste", "etc/systemd/system"] {
            fs::create_dir_all(node.join(folder)).unwrap();
        }
        let words = guard["args"]
            .as_array()
            .unwrap()
            .iter()
            .map(|word| word.as_str().unwrap().replace("/host", &root));
        let mut command = Command::new("setpriv");
        command
            .args(["--bounding-set=-all", "--inh-caps=-all", "--nnp"])
            .arg(agent::binary().unwrap())
            .args(words);
        let done = command.env("POSTHASTE_MTLS", "strict").output().unwrap();
        assert!(done.status.success(), "{done:?}");
        let is_there = action == "install";
        let unit = node.join("etc/systemd/system/posthaste-guard.service");
        assert_eq!(unit.exists(), is_there);
        assert_eq!(
            node.join("etc/systemd/system/multi-user.target.wants/posthaste-guard.service").exists(),
            is_there
        );
        let settings = fs::read_to_string(node.join("opt/posthaste/guard.env")).unwrap_or_default();
        assert_eq!(settings.contains("POSTHASTE_MTLS=\"strict\"\n"), is_there, "{settings}");
    }
}
