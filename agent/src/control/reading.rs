//! What a source hands over each time something changed: the same from files and from the API server. Pure.

use crate::snapshot::{Problem, input::Inputs};

/// One reading of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Every kind of object has been read at least once. Before that the inputs are a part of the truth, which nobody may follow:
    /// a pod that is not in them yet would be let go.
    pub complete: bool,
    /// All objects in force.
    pub inputs: Inputs,
    /// What did not fit.
    pub problems: Vec<Problem>,
    /// Documents of kinds that the mesh does not read.
    pub ignored: usize,
}
