//! The tunnel on the `h2` crate: what other implementations are tested against.
//!
//! `connect` and `establish` make a client's tunnel, `serve` runs a server's. Every connection has one task that drives it
//! (`drive`), says how much its peer may send (`credit`) and takes out what readers leave (`inbox`); streams only queue and wake that
//! task.

mod client;
mod credit;
mod drive;
mod halves;
mod inbox;
mod server;
#[cfg(test)]
mod tests;

pub use client::{Begun, Driving, ReferenceAnswer, ReferenceTunnel, connect, establish};
pub use drive::{Carrier, Entered};
pub use halves::{ReferenceReceive, ReferenceSend, both};
pub use inbox::{Inbox, Unread};
pub use server::{ReferenceIncoming, ServeError, serve};
