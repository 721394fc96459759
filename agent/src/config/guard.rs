//! Flags of `posthaste guard`. Each has an environment form, in which `guard install` gives them to the unit that starts it.

use std::path::PathBuf;

use super::{KernelArguments, MTLS_VARIABLE, Mtls, STATE, STATE_VARIABLE};

/// Flags of `posthaste guard`: give it those of the node's agent.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct GuardArguments {
    /// State folder of the agent, whose last inputs tell whether some namespace is strict.
    #[arg(long, value_name = "DIR", default_value = STATE, env = STATE_VARIABLE)]
    pub state: PathBuf,
    /// What holds for enrolled namespaces without the annotation `posthaste.dev/mtls`.
    #[arg(long, value_name = "permissive|strict", default_value = "permissive", env = MTLS_VARIABLE)]
    pub mtls: Mtls,
    /// What to do where no agent has kept its inputs in --state yet (a new node), or they cannot be read.
    #[arg(long, value_name = "hold|pass", default_value = "hold", env = "POSTHASTE_GUARD_WITHOUT_INPUTS")]
    pub without_inputs: WithoutInputs,
    /// Hold also where nothing was strict as far as the agent knew: a namespace may have become strict while the node was down.
    #[arg(long, env = "POSTHASTE_GUARD_ALWAYS")]
    pub always: bool,
    /// What the programs in the kernel are loaded with.
    #[command(flatten)]
    pub kernel: KernelArguments,
    /// To put it on a node, or to take it away, instead of holding now.
    #[command(subcommand)]
    pub action: Option<GuardAction>,
}

/// What there is to do beside holding.
#[derive(Debug, Clone, PartialEq, Eq, clap::Subcommand)]
pub enum GuardAction {
    /// Copy this program to the node and have systemd start it before kubelet at each boot, with the flags given before `install`.
    /// What is as it should be is not written again
    Install(Place),
    /// Remove what `install` wrote. What holds now stays until an agent has come, or the folder --bpffs is removed
    Uninstall(Place),
}

/// Where a node's files are.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Place {
    /// Where the root of the node's file system is mounted.
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// Folder of the node for the program and its settings; it must allow programs to be run.
    #[arg(long, value_name = "DIR", default_value = "/opt/posthaste")]
    pub folder: PathBuf,
}

/// Values of `--without-inputs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum WithoutInputs {
    /// Some namespace may be strict.
    Hold,
    /// Whatever starts before the agent is let go.
    Pass,
}

impl GuardArguments {
    /// The same in its environment form, without the action.
    #[must_use]
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = vec![
            (STATE_VARIABLE, self.state.display().to_string()),
            (MTLS_VARIABLE, word(&self.mtls)),
            ("POSTHASTE_GUARD_WITHOUT_INPUTS", word(&self.without_inputs)),
            ("POSTHASTE_GUARD_ALWAYS", self.always.to_string()),
        ];
        settings.extend(self.kernel.settings());
        settings
    }
}

fn word(value: &impl clap::ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use clap::{Args as _, Command, FromArgMatches as _};

    use super::*;

    fn command() -> Command {
        GuardArguments::augment_args(Command::new("guard"))
    }

    /// What these flags say.
    pub(crate) fn parse(line: &[String]) -> GuardArguments {
        let words = std::iter::once("guard".to_owned()).chain(line.iter().cloned());
        GuardArguments::from_arg_matches(&command().get_matches_from(words)).unwrap()
    }

    #[test]
    fn the_environment_form_says_the_same() {
        let all = "--state=/s --mtls=strict --without-inputs=pass --always --bpffs=/b --cgroup-root=/c --mark=7 --max-pods=1 \
                   --max-flows=2 --max-excluded-ports=3 --max-node-addresses=4 --heartbeat-limit=1.5 --unknown-pod-limit=9";
        for line in ["", all] {
            let line: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            let arguments = parse(&line);
            let command = command();
            let flag = |(name, value): (&str, String)| {
                let named = |one: &&clap::Arg| one.get_env().is_some_and(|env| env == name);
                let flag = command.get_arguments().find(named).unwrap().get_long().unwrap();
                match (flag, value.as_str()) {
                    ("always", "false") => None,
                    ("always", _) => Some("--always".to_owned()),
                    _ => Some(format!("--{flag}={value}")),
                }
            };
            let settings = arguments.settings();
            let variables = command.get_arguments().filter(|one| one.get_env().is_some()).count();
            assert!(settings.len() == variables || line.is_empty(), "one is missing: {settings:?}");
            let again: Vec<String> = settings.into_iter().filter_map(flag).collect();
            assert_eq!(parse(&again), arguments);
        }
    }
}
