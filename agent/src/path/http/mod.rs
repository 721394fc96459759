//! HTTP on the calling pod's node: `detect -> (route -> balance -> connect -> relay) for each request -> record`.

pub mod body;
pub mod filters;
