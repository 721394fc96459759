//! What a Namespace asks of the mesh. Pure.
//!
//! A value that is not known never opens anything: `mtls` is then strict, `fail-mode` closed and
//! `default-access` deny. Enrolment needs
//! the exact label, as selectors do.

use std::{collections::HashMap, sync::Arc};

use super::{DEFAULT_ACCESS_ANNOTATION, FAIL_MODE_ANNOTATION, MESH_LABEL, MTLS_ANNOTATION};
use crate::snapshot::{FailMode, MtlsMode, Problem, input};

/// The settings of one namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Enrolment {
    pub(super) enabled: bool,
    pub(super) mtls: MtlsMode,
    pub(super) fail_mode: FailMode,
    /// Callers that no policy allows are kept out.
    pub(super) default_deny: bool,
}

impl Default for Enrolment {
    /// A namespace that nobody described.
    fn default() -> Self {
        Self { enabled: false, mtls: MtlsMode::Permissive, fail_mode: FailMode::Open, default_deny: false }
    }
}

/// Settings by namespace.
pub(super) type Enrolments = HashMap<Arc<str>, Enrolment>;

/// Reads all of them; `unsaid` is in force where a namespace does not say how strict it is.
pub(super) fn read(
    namespaces: &[Arc<input::Namespace>],
    unsaid: MtlsMode,
    problems: &mut Vec<Problem>,
) -> Enrolments {
    namespaces
        .iter()
        .map(|namespace| (namespace.metadata.name.clone(), settings(&namespace.metadata, unsaid, problems)))
        .collect()
}

fn settings(metadata: &input::Metadata, unsaid: MtlsMode, problems: &mut Vec<Problem>) -> Enrolment {
    let mut problem = |field: String, reason: String| {
        problems.push(Problem::of(metadata, "Namespace", field, reason));
    };
    let enabled = match metadata.labels.get(MESH_LABEL).map(String::as_str) {
        Some("enabled") => true,
        None | Some("disabled") => false,
        Some(other) => {
            let reason =
                format!("`{other}` is neither `enabled` nor `disabled`; the namespace is not enrolled");
            problem(format!("metadata.labels[{MESH_LABEL}]"), reason);
            false
        }
    };
    let mtls = match metadata.annotations.get(MTLS_ANNOTATION).map(String::as_str) {
        None => unsaid,
        Some("permissive") => MtlsMode::Permissive,
        Some("strict") => MtlsMode::Strict,
        Some(other) => {
            let reason =
                format!("`{other}` is neither `permissive` nor `strict`; strict is in force until mended");
            problem(format!("metadata.annotations[{MTLS_ANNOTATION}]"), reason);
            MtlsMode::Strict
        }
    };
    let fail_mode = match (metadata.annotations.get(FAIL_MODE_ANNOTATION).map(String::as_str), mtls) {
        (Some("open"), _) | (None, MtlsMode::Permissive) => FailMode::Open,
        (Some("closed"), _) | (None, MtlsMode::Strict) => FailMode::Closed,
        (Some(other), _) => {
            let reason = format!("`{other}` is neither `open` nor `closed`; closed is in force until mended");
            problem(format!("metadata.annotations[{FAIL_MODE_ANNOTATION}]"), reason);
            FailMode::Closed
        }
    };
    let default_deny = match metadata.annotations.get(DEFAULT_ACCESS_ANNOTATION).map(String::as_str) {
        None | Some("allow") => false,
        Some("deny") => true,
        Some(other) => {
            let reason = format!("`{other}` is neither `allow` nor `deny`; deny is in force until mended");
            problem(format!("metadata.annotations[{DEFAULT_ACCESS_ANNOTATION}]"), reason);
            true
        }
    };
    Enrolment { enabled, mtls, fail_mode, default_deny }
}

/// Whether a pod opts out; a value that is not known does not.
pub(super) fn opts_out(pod: &input::Pod, problems: &mut Vec<Problem>) -> bool {
    match pod.metadata.labels.get(MESH_LABEL).map(String::as_str) {
        Some("disabled") => true,
        None | Some("enabled") => false,
        Some(other) => {
            let reason = format!(
                "`{other}` is neither `enabled` nor `disabled`; the pod follows its namespace until mended"
            );
            let field = format!("metadata.labels[{MESH_LABEL}]");
            problems.push(Problem::of(&pod.metadata, "Pod", field, reason));
            false
        }
    }
}
