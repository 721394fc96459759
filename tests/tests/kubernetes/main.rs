//! The Kubernetes ring: a real API server (`tests/apiserver`) in each test's own world. It needs root, iproute2, and what
//! `cargo xtask setup` brings: the server, kubectl and the Gateway API's CRDs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod authority;
mod boot_guard;
mod captured;
mod deployed;
mod outside;
mod refusals;
mod requester;
mod rotation;
mod server;
mod source;
mod whole_path;
