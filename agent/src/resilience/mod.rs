//! What the agent learns from connections and requests and decides from it: load, ejection, affinity, the choice of an
//! endpoint, retries and their budget, hedges, deadlines, limits, bulkheads. Pure: time and randomness are arguments;
//! the state lives in [`crate::snapshot::load`].

pub mod affinity;
pub mod balance;
pub mod budget;
pub mod bulkhead;
pub mod deadline;
pub mod ejection;
pub mod ewma;
pub mod hedge;
pub mod limits;
pub mod load;
pub mod outlier;
pub mod retry;
pub mod ring;
pub mod weights;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod stage;
