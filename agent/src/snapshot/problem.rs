//! What is wrong with an object, said so that its owner can mend it. Pure.

use super::input::Metadata;
use std::fmt;

/// One thing that does not fit, in one object; the rest of the snapshot is built without it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct Problem {
    /// File (and document number, from 1) or `api-server` where the object was read.
    pub origin: String,
    /// `Kind/namespace/name`, as far as it is known.
    pub object: String,
    /// Path of the field, as `spec.ports[0].port`; empty where the whole object is meant.
    pub field: String,
    /// What is wrong and what to do.
    pub reason: String,
}

impl Problem {
    /// A problem of a field of a known object.
    #[must_use]
    pub fn of(metadata: &Metadata, kind: &str, field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            origin: metadata.origin.to_string(),
            object: metadata.object(kind),
            field: field.into(),
            reason: reason.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.object)?;
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.reason)
    }
}
