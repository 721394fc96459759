//! Where the agent learns of pods and services: a source yields [`crate::snapshot::input::Inputs`] and problems.
//! [`files`] reads a folder of manifests, [`kubernetes`] follows an API server; [`document`] and [`translate`] (both pure) are what
//! both share, and [`manifest`] is their reverse. [`captured`] is what is told back.

pub mod captured;
pub mod document;
pub mod files;
pub mod gateway;
pub mod kubernetes;
pub mod manifest;
pub mod policy;
pub mod reading;
pub mod spelling;
pub mod translate;
