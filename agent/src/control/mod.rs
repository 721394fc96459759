//! Where the agent learns of pods and services: a source yields [`crate::snapshot::input::Inputs`] and problems.
//! [`files`] reads a folder of manifests; [`document`] and [`translate`] (both pure) are what every source shares. [`captured`] is what is told back.

pub mod captured;
pub mod document;
pub mod files;
pub mod gateway;
pub mod policy;
pub mod translate;
