//! Which mTLS mode holds at a pod, and at single ports of it: Istio's PeerAuthentication with `portLevelMtls`, as annotations. Pure.
//!
//! The closest word counts: the pod's for a port, the pod's, the namespace's for a port, the namespace's, `--mtls`. A mode that is not
//! known is strict.

use std::collections::BTreeMap;

use super::{MTLS_ANNOTATION, MTLS_PORTS_ANNOTATION};
use crate::snapshot::{MtlsMode, Problem, input::Metadata};

/// What an object says, or what holds after all were asked.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Modes {
    pub(super) mode: MtlsMode,
    /// Ports where another word counts.
    pub(super) ports: BTreeMap<u16, MtlsMode>,
}

impl Modes {
    /// What holds for `metadata`, whose words come before these. `kind` names its object in problems.
    pub(super) fn overridden(&self, metadata: &Metadata, kind: &str, problems: &mut Vec<Problem>) -> Self {
        let own = metadata.annotations.get(MTLS_ANNOTATION).map(|text| {
            mode(text).unwrap_or_else(|| {
                let reason =
                    format!("`{text}` is neither `permissive` nor `strict`; strict is in force until mended");
                problems.push(Problem::of(
                    metadata,
                    kind,
                    format!("metadata.annotations[{MTLS_ANNOTATION}]"),
                    reason,
                ));
                MtlsMode::Strict
            })
        });
        let mut modes = own.map_or_else(|| self.clone(), |mode| Self { mode, ports: BTreeMap::new() });
        modes.ports.extend(ports(metadata, kind, problems));
        modes
    }
}

fn mode(text: &str) -> Option<MtlsMode> {
    match text {
        "permissive" => Some(MtlsMode::Permissive),
        "strict" => Some(MtlsMode::Strict),
        _ => None,
    }
}

/// `8080=permissive,9090=strict`.
fn ports(metadata: &Metadata, kind: &str, problems: &mut Vec<Problem>) -> Vec<(u16, MtlsMode)> {
    let text = metadata.annotations.get(MTLS_PORTS_ANNOTATION).unwrap_or("");
    let mut found = Vec::new();
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let (port, word) = item.split_once('=').unwrap_or((item, ""));
        let port = port.trim().parse::<u16>().ok().filter(|port| *port > 0);
        let known = mode(word.trim());
        if port.is_none() || known.is_none() {
            let in_force = if port.is_some() { "strict is in force for the port" } else { "it says nothing" };
            let reason = format!(
                "`{item}` is not a port and a mode; list them as `8080=permissive,9090=strict`; {in_force} until mended"
            );
            let field = format!("metadata.annotations[{MTLS_PORTS_ANNOTATION}]");
            problems.push(Problem::of(metadata, kind, field, reason));
        }
        found.extend(port.map(|port| (port, known.unwrap_or(MtlsMode::Strict))));
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::snapshot::{
        FailMode,
        build::{Context, PodScope, build, tests},
    };

    #[test]
    fn the_closest_word_counts_and_a_mistyped_one_never_opens() {
        use FailMode::{Closed, Open};
        use MtlsMode::{Permissive, Strict};
        const STRICT: &str = "posthaste.dev/mtls: strict";
        const PERMISSIVE: &str = "posthaste.dev/mtls: permissive";
        const PORTS: &str = "posthaste.dev/mtls-ports: ";
        let both = |mode: &str, ports: &str| format!("{mode}, {PORTS}'{ports}'");
        let only = |ports: &str| format!("{PORTS}'{ports}'");
        // (namespace, pod, mode, mode at 80, fail mode, problems)
        let table = [
            (String::new(), String::new(), Permissive, Permissive, Open, 0),
            (STRICT.to_owned(), String::new(), Strict, Strict, Closed, 0),
            (String::new(), STRICT.to_owned(), Strict, Strict, Closed, 0),
            (STRICT.to_owned(), PERMISSIVE.to_owned(), Permissive, Permissive, Open, 0),
            (both(STRICT, "80=permissive, 81=strict"), String::new(), Strict, Permissive, Closed, 0),
            (both(STRICT, "80=permissive"), STRICT.to_owned(), Strict, Strict, Closed, 0),
            (both(STRICT, "80=permissive"), only("80=strict"), Strict, Strict, Closed, 0),
            (only("80=strict"), String::new(), Permissive, Strict, Open, 0),
            (String::new(), both(STRICT, "80=permissive"), Strict, Permissive, Closed, 0),
            (String::new(), only("80=off"), Permissive, Strict, Open, 1),
            (String::new(), only("80"), Permissive, Strict, Open, 1),
            (STRICT.to_owned(), only("http=permissive"), Strict, Strict, Closed, 1),
            (String::new(), "posthaste.dev/mtls: STRICT".to_owned(), Strict, Strict, Closed, 1),
        ];
        for (namespace, pod, wanted, at_80, fail_mode, count) in table {
            let yaml = format!(
                "{{apiVersion: v1, kind: Namespace, metadata: {{name: shop, labels: {{posthaste.dev/mesh: enabled}}, annotations: {{{namespace}}}}}}}\n---\n\
                 {{apiVersion: v1, kind: Pod, metadata: {{name: x, namespace: shop, uid: u, annotations: {{{pod}}}}}, spec: {{nodeName: one}}}}\n"
            );
            let (snapshot, problems) = tests::snapshot(&yaml);
            let local = &snapshot.local_pods["u"];
            let found = (local.workload.mtls, local.workload.mtls_at(80), local.fail_mode);
            assert_eq!(found, (wanted, at_80, fail_mode), "{namespace} / {pod}");
            // A caller tries plain text only where both the pod and the port take it.
            let plain = (wanted, at_80) == (Permissive, Permissive);
            let far = yaml.replace("nodeName: one}", "nodeName: two}, status: {podIPs: [{ip: 10.0.0.9}]}");
            let context = Context { pods: PodScope::OfThisNode, ..tests::context() };
            let elsewhere = build(&tests::inputs(&far), &context, None).0;
            let far = &elsewhere.workloads[&std::net::Ipv4Addr::new(10, 0, 0, 9).into()];
            assert_eq!(far.may_be_uncaptured(80), plain, "{namespace} / {pod}");
            assert_eq!(problems.len(), count, "{problems:?}");
            assert_eq!(
                snapshot.has_strict,
                [&namespace, &pod].iter().any(|text| text.to_lowercase().contains(STRICT)),
                "{namespace} / {pod}"
            );
        }
    }
}
