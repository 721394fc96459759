//! `posthaste guard` on the node of an agent, with the rights that its unit of systemd has and no others.

use crate::{Agent, Doing, Fault, Finished, Site, agent};
use std::{fs, path::Path, time::Duration};

/// The file systems as the unit shows them: what it pins is written, and nothing else.
const READ_ONLY: [&str; 6] =
    ["unshare", "--mount", "sh", "-c", "mount -o remount,bind,ro / && exec \"$@\"", "sh"];

/// Runs it as for the agent: with its state folder, its pins and its control groups, and with `flags`, which win.
///
/// # Errors
/// It cannot be started, or does not end.
pub fn run(agent: &Agent, flags: &[&str]) -> Result<Finished, Fault> {
    let settings = &agent.settings;
    let (state, bpffs) = (agent.state(), agent.bpffs());
    let places = [("--state", &*state), ("--bpffs", bpffs), ("--cgroup-root", &*settings.cgroup_root)];
    let mut line = Vec::new();
    for (flag, path) in places.into_iter().filter(|(flag, _)| !flags.contains(flag)) {
        line.extend([flag.to_owned(), path.display().to_string()]);
    }
    line.extend(flags.iter().map(|flag| (*flag).to_owned()));
    run_behind(&agent.site, &READ_ONLY, &line)
}

/// Runs it with these flags alone, behind a program that runs another.
///
/// # Errors
/// It cannot be started, or does not end.
pub fn run_behind(site: &Site, runner: &[&str], flags: &[String]) -> Result<Finished, Fault> {
    let rights = format!("--bounding-set={}", rights()?);
    let line = [runner, &["setpriv", &rights, "--inh-caps=-all", "--nnp"]].concat();
    let (program, arguments) = line.split_first().ok_or_else(|| Fault::new("an empty command line"))?;
    let mut command = site.command(program)?;
    command.args(arguments).arg(agent::binary()?).arg("guard").args(flags);
    site.launch(command)?.finish(Duration::from_secs(60))
}

/// The capabilities that the unit leaves, as setpriv(1) takes them.
fn rights() -> Result<String, Fault> {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/host/posthaste-guard.service");
    let text = fs::read_to_string(&unit).doing(format!("read {}", unit.display()))?;
    let names = text.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let names = names.ok_or_else(|| Fault::new("the unit limits no capabilities"))?;
    let names = names.split(' ').map(|name| name.trim_start_matches("CAP_").to_lowercase());
    Ok(names.fold("-all".to_owned(), |set, name| format!("{set},+{name}")))
}
