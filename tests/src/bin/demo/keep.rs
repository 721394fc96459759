//! `--keep`: the mesh stays until Ctrl-C, with a little life in it, and short commands to look at it and to do harm.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use posthaste_tests::peer::load::{self, Spec};
use posthaste_tests::{Doing, Fault, Pod, agent};

use crate::requests;
use crate::scene::Scene;
use crate::screen::Screen;

/// Seconds that the client goes on.
const LONG: f64 = 24.0 * 3600.0;

/// Does not return; the janitor cleans up after it.
///
/// # Errors
/// The hints cannot be written, or a client not be started.
pub(crate) fn stay(screen: &mut Screen, scene: &mut Scene) -> Result<(), Fault> {
    requests::leave_objects(scene)?;
    scene.start_steady_client(100_000, 0.5)?;
    let spec = Spec { seconds: LONG, rate: 50.0, ..Spec::requests(0, 4) };
    let _client = load::start(&scene.client, scene.catalog.address()?, &spec)?;
    let folder = scene.mesh.world.folder().join("bin");
    write_commands(scene, &folder)?;
    screen.step("It goes on until Ctrl-C. Try, in another terminal as root:");
    screen.say(&format!(". {}", folder.join("env").display()));
    screen.say("posthaste top");
    screen
        .aside("what requests do, live; also: tap, connections --watch, status, services, workloads, certs");
    screen.say("posthaste endpoints catalog; posthaste routes");
    screen.aside("edit catalog-route.yaml or catalog-policy.yaml in $MANIFESTS and look again");
    screen.say("plan catalog-2 '{\"trouble\": \"status\", \"share\": 0.5}'");
    screen.aside("half its answers are 503; also: slow-head, reset-mid-head, refuse, silence; '{}' ends it");
    for address in scene.addresses() {
        screen.say(&format!("client curl --globoff {address}/order/hello"));
    }
    loop {
        std::thread::park();
    }
}

/// `posthaste`, `client COMMAND ..`, `plan POD PLAN`, and `env` that makes them found.
fn write_commands(scene: &Scene, folder: &Path) -> Result<(), Fault> {
    std::fs::create_dir_all(folder).doing(format!("make {}", folder.display()))?;
    symlink(agent::binary()?, folder.join("posthaste")).doing("link posthaste")?;
    let env = format!(
        "export PATH={}:$PATH POSTHASTE_ADMIN_SOCKET={} MANIFESTS={}\n",
        folder.display(),
        scene.mesh.a.socket().display(),
        scene.mesh.manifests.folder().display()
    );
    let script = folder.join("plan.py");
    std::fs::write(&script, include_str!("plan.py")).doing("write plan.py")?;
    let namespaces = scene.catalog.pods().map(|pod| {
        let name = pod.namespace().name();
        format!("{}) exec ip netns exec {name} python3 {} \"$2\" ;;\n", pod.name, script.display())
    });
    let plan = format!(
        "#!/bin/sh\ncase \"$1\" in\n{}*) echo 'plan catalog-1|catalog-2|catalog-3 PLAN' ;;\nesac\n",
        namespaces.collect::<String>()
    );
    for (name, text) in [("env", env), ("client", door(&scene.client)), ("plan", plan)] {
        let path = folder.join(name);
        let written = std::fs::write(&path, text);
        let written = written.and_then(|()| std::fs::set_permissions(&path, Permissions::from_mode(0o755)));
        written.doing(format!("write {}", path.display()))?;
    }
    Ok(())
}

/// A script that runs a command as a pod would: in its cgroup and network namespace.
fn door(pod: &Pod) -> String {
    let members = pod.cgroup().path().join("cgroup.procs");
    let name = pod.namespace().name();
    format!("#!/bin/sh\necho $$ > {} && exec ip netns exec {name} \"$@\"\n", members.display())
}
