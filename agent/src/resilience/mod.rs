//! What the agent learns from connections and decides from it: load, ejection, session affinity, the choice of an
//! endpoint. Pure: time and randomness are arguments; the state lives in [`crate::snapshot::load`].

pub mod affinity;
pub mod balance;
pub mod ejection;
pub mod ewma;
