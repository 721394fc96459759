//! Whether a node that has booted holds its pods until an agent has read the cluster. Pure.

use std::sync::Arc;

use crate::{
    config::{GuardArguments, WithoutInputs},
    snapshot::{
        MtlsMode,
        build::{Context, PodScope, build},
        input::{Inputs, Pod},
    },
};

/// What the last agent kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// No agent has been here.
    Nothing,
    /// It cannot be said, with the reason.
    Unreadable(String),
    /// All that it knew.
    Inputs {
        /// Some namespace or pod is strict.
        has_strict: bool,
        /// When it was written.
        at: String,
    },
}

/// Whether to hold, and why in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) holds: bool,
    pub(super) why: String,
}

pub(super) fn decide(kept: &Kept, arguments: &GuardArguments) -> Decision {
    if arguments.always {
        return Decision { holds: true, why: "--always says so".to_owned() };
    }
    let without = |what: String| {
        let (holds, word) = match arguments.without_inputs {
            WithoutInputs::Hold => (true, "hold"),
            WithoutInputs::Pass => (false, "pass"),
        };
        Decision { holds, why: format!("{what}, and --without-inputs is `{word}`") }
    };
    match kept {
        Kept::Nothing => {
            without(format!("no agent has kept its inputs in {} yet", arguments.state.display()))
        }
        Kept::Unreadable(reason) => without(reason.clone()),
        Kept::Inputs { has_strict: true, at } => Decision {
            holds: true,
            why: format!("something was strict in what the agent knew last, of {at}"),
        },
        Kept::Inputs { has_strict: false, at } => {
            Decision { holds: false, why: format!("nothing was strict in what the agent knew last, of {at}") }
        }
    }
}

/// Whether something is strict, as an agent would say. Every pod counts as if it were of this node: it may be by now.
pub(super) fn has_strict(inputs: &Inputs, mtls: MtlsMode) -> bool {
    const HERE: &str = "here";
    let here = |pod: &Arc<Pod>| Arc::new(Pod { node: HERE.into(), ..(**pod).clone() });
    // Nothing else says how strict a pod is.
    let inputs = Inputs {
        namespaces: inputs.namespaces.clone(),
        pods: inputs.pods.iter().map(here).collect(),
        ..Inputs::default()
    };
    let context = Context {
        node: HERE.into(),
        zone: None,
        trust_domain: "cluster.local".into(),
        cluster: "Kubernetes".into(),
        mtls,
        generation: 0,
        pods: PodScope::OfThisNode,
    };
    build(&inputs, &context, None).0.has_strict
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::{config::guard, snapshot::build::tests};

    #[test]
    fn a_node_holds_unless_it_is_known_that_nothing_is_strict() {
        let inputs = |has_strict| Kept::Inputs { has_strict, at: "2026-11-26T12:00:00Z".to_owned() };
        let unreadable = || Kept::Unreadable("/s/inputs.json cannot be read: why".to_owned());
        let table = [
            ("", inputs(true), true, "2026-11-26T12:00:00Z"),
            ("", inputs(false), false, "nothing was strict"),
            ("--always", inputs(false), true, "--always"),
            ("", Kept::Nothing, true, "no agent has kept its inputs in /s yet"),
            ("--without-inputs=pass", Kept::Nothing, false, "`pass`"),
            ("--without-inputs=pass", inputs(true), true, "something was strict"),
            ("--without-inputs=pass --always", Kept::Nothing, true, "--always"),
            ("", unreadable(), true, "/s/inputs.json cannot be read: why"),
            ("--without-inputs=pass", unreadable(), false, "/s/inputs.json cannot be read: why"),
        ];
        for (flags, kept, holds, words) in table {
            let line = ["--state=/s"].into_iter().chain(flags.split_whitespace()).map(str::to_owned);
            let decision = decide(&kept, &guard::tests::parse(&line.collect::<Vec<_>>()));
            assert_eq!(decision.holds, holds, "{flags} {kept:?}");
            assert!(decision.why.contains(words), "{flags} {kept:?}: {}", decision.why);
        }
    }

    #[test]
    fn a_namespace_or_a_pod_of_any_node_may_be_strict() {
        const ENROLLED: &str =
            "{apiVersion: v1, kind: Namespace, metadata: {name: s, labels: {posthaste.dev/mesh: enabled}}}";
        const STRICT: &str = "{apiVersion: v1, kind: Namespace, metadata: {name: s, labels: {posthaste.dev/mesh: enabled}, annotations: {posthaste.dev/mtls: strict}}}";
        let pod = |annotations: &str| {
            format!(
                "{ENROLLED}\n---\n{{apiVersion: v1, kind: Pod, metadata: {{name: a, namespace: s, uid: u, annotations: {{{annotations}}}}}, spec: {{nodeName: elsewhere}}}}"
            )
        };
        let table = [
            (String::new(), MtlsMode::Strict, false),
            (ENROLLED.to_owned(), MtlsMode::Permissive, false),
            (ENROLLED.to_owned(), MtlsMode::Strict, true),
            (STRICT.to_owned(), MtlsMode::Permissive, true),
            (STRICT.replace("enabled", "disabled"), MtlsMode::Strict, false),
            (pod(""), MtlsMode::Permissive, false),
            (pod("posthaste.dev/mtls: strict"), MtlsMode::Permissive, true),
        ];
        for (objects, mtls, expected) in table {
            assert_eq!(has_strict(&tests::inputs(&objects), mtls), expected, "{mtls:?} {objects}");
        }
    }
}
