//! What a Namespace asks of the mesh. Pure.
//!
//! A value that is not known never opens anything: `mtls` is then strict, `fail-mode` closed and
//! `default-access` deny. Enrolment needs
//! the exact label, as selectors do.

use std::{collections::HashMap, sync::Arc};

use super::{DEFAULT_ACCESS_ANNOTATION, FAIL_MODE_ANNOTATION, MESH_LABEL, mtls::Modes};
use crate::snapshot::{FailMode, MtlsMode, Problem, input};

/// The settings of one namespace; those of one that nobody described are the default.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Enrolment {
    pub(super) enabled: bool,
    pub(super) mtls: Modes,
    /// Where it says one.
    fail_mode: Option<FailMode>,
    /// Callers that no policy allows are kept out.
    pub(super) default_deny: bool,
}

impl Enrolment {
    /// What holds for a pod of this mode.
    pub(super) fn fail_mode(&self, mtls: MtlsMode) -> FailMode {
        self.fail_mode.unwrap_or(match mtls {
            MtlsMode::Permissive => FailMode::Open,
            MtlsMode::Strict => FailMode::Closed,
        })
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
    let enabled = match metadata.labels.get(MESH_LABEL) {
        Some("enabled") => true,
        None | Some("disabled") => false,
        Some(other) => {
            let reason =
                format!("`{other}` is neither `enabled` nor `disabled`; the namespace is not enrolled");
            problem(format!("metadata.labels[{MESH_LABEL}]"), reason);
            false
        }
    };
    let fail_mode = match metadata.annotations.get(FAIL_MODE_ANNOTATION) {
        None => None,
        Some("open") => Some(FailMode::Open),
        Some("closed") => Some(FailMode::Closed),
        Some(other) => {
            let reason = format!("`{other}` is neither `open` nor `closed`; closed is in force until mended");
            problem(format!("metadata.annotations[{FAIL_MODE_ANNOTATION}]"), reason);
            Some(FailMode::Closed)
        }
    };
    let default_deny = match metadata.annotations.get(DEFAULT_ACCESS_ANNOTATION) {
        None | Some("allow") => false,
        Some("deny") => true,
        Some(other) => {
            let reason = format!("`{other}` is neither `allow` nor `deny`; deny is in force until mended");
            problem(format!("metadata.annotations[{DEFAULT_ACCESS_ANNOTATION}]"), reason);
            true
        }
    };
    let unsaid = Modes { mode: unsaid, ..Modes::default() };
    let mtls = unsaid.overridden(metadata, "Namespace", problems);
    Enrolment { enabled, mtls, fail_mode, default_deny }
}

/// Whether a pod opts out; a value that is not known does not.
pub(super) fn opts_out(pod: &input::Pod, problems: &mut Vec<Problem>) -> bool {
    match pod.metadata.labels.get(MESH_LABEL) {
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
