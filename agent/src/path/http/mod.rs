//! HTTP on the calling pod's node: `detect -> (route -> balance -> connect -> relay) for each request -> record`.
//!
//! ```text
//! body        bodies of requests and answers, frame by frame
//! io, stream  byte streams under HTTP: sockets and streams of tunnels
//! downstream  the application's side: requests come in, answers go out
//! upstream    the endpoint's side: pooled connections, one attempt of a request
//! upgrade     both ways after 101, or 2xx to CONNECT
//! ```
//!
//! Between both sides a request has one form, whatever protocol it came in: the target in origin form (CONNECT: in authority
//! form), one `host` header, no hop-by-hop headers but those of an upgrade.

pub mod body;
pub mod downstream;
pub mod filters;
pub mod io;
pub mod stream;
pub mod upgrade;
pub mod upstream;
