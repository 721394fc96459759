//! `posthaste explain`: what would become of a connection, or of a request on it. Runs the functions that decide on the data path, on
//! the snapshot and the kernel's maps of the moment; nothing is decided here a second time, and nothing is sent or counted.
//!
//! ```text
//! question   the query, and which pod and address it means; pure
//! connection capture, route, protocol, and where it goes as bytes
//! request    rules, backends, balance, limits, times of a request
//! reach      how an endpoint would be reached, and what its pod would say
//! ```

mod connection;
pub mod question;
mod reach;
mod request;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

use crate::{
    bpf::{Inbound, Judged, Outbound},
    observe::views::{ArrivalView, AskView, ExplainView, OutcomeKind, OutcomeView, StepView},
    snapshot::{Snapshot, SpiffeId},
    worker::ConnectLimits,
};
pub use question::{Comer, Question, Unanswered};

/// What the kernel would do with a connection that a pod makes.
pub type JudgeOutbound<'a> = &'a dyn Fn(&str, SocketAddr) -> Option<Judged<Outbound>>;
/// What the kernel would do with a connection to a pod: its uid, the client, the address.
pub type JudgeInbound<'a> = &'a dyn Fn(&str, IpAddr, SocketAddr) -> Option<Judged<Inbound>>;

/// The agent's world at one moment.
pub struct World<'a> {
    /// Name of the node.
    pub node: &'a str,
    /// The published snapshot.
    pub snapshot: &'a Snapshot,
    /// The kernel, for what leaves a pod.
    pub outbound: JudgeOutbound<'a>,
    /// The kernel, for what comes to a pod.
    pub inbound: JudgeInbound<'a>,
    /// Whether there is a certificate of this identity; why not.
    pub certificate: &'a dyn Fn(&SpiffeId) -> Result<(), String>,
    /// Times and counts of dials.
    pub connect: ConnectLimits,
    /// The agent's clock, nanoseconds.
    pub now_ns: u64,
}

/// Explains.
///
/// # Errors
/// The question means nothing here; the text says what to do.
pub fn explain(world: &World<'_>, question: &Question) -> Result<ExplainView, Unanswered> {
    let source = question.source(world.snapshot, world.node)?;
    let destination = question.destination(world.snapshot, &source.workload)?;
    let mut told = Told::default();
    connection::explain(world, question, &source, destination, &mut told);
    Ok(ExplainView {
        node: world.node.to_owned(),
        snapshot_generation: world.snapshot.generation,
        source: format!("{}/{}", source.workload.namespace, source.workload.name),
        destination: destination.to_string(),
        ..told.0
    })
}

/// Explains what becomes of a connection that comes to a pod of this node, as the agent of the caller asks it (see [`reach::arrival`]).
///
/// # Errors
/// The question means nothing here.
pub fn arrival(world: &World<'_>, comer: &Comer) -> Result<ArrivalView, Unanswered> {
    let here = comer.called(world.snapshot, world.node)?;
    let mut told = Told::default();
    let arrived = reach::arrival(world, &here.workload, comer, &mut told);
    let (refused, status) = (arrived.refused, arrived.status);
    Ok(ArrivalView { node: world.node.to_owned(), steps: told.0.steps, refused, status })
}

/// What has been said so far.
#[derive(Default)]
struct Told(ExplainView);

impl Told {
    /// A stage that is passed.
    fn step(&mut self, stage: &str, says: impl Into<String>) {
        self.push(stage, true, says.into(), None);
    }

    /// A stage of which only the agent of another node knows.
    fn unknown(&mut self, stage: &str, says: String, elsewhere: &AskView) {
        self.push(stage, true, says, Some(elsewhere.clone()));
    }

    /// A stage at which it ends.
    fn stop(&mut self, stage: &str, says: impl Into<String>) {
        self.push(stage, false, says.into(), None);
    }

    fn push(&mut self, stage: &str, passes: bool, says: String, elsewhere: Option<AskView>) {
        let unknown = elsewhere.is_some();
        self.0.steps.push(StepView { stage: stage.to_owned(), passes, says, unknown, elsewhere });
    }

    /// The only thing that may come of it.
    fn certain(&mut self, kind: OutcomeKind, says: impl Into<String>) -> &mut OutcomeView {
        self.outcome(OutcomeView { probability: 1.0, kind, says: says.into(), ..OutcomeView::default() })
    }

    fn outcome(&mut self, outcome: OutcomeView) -> &mut OutcomeView {
        self.0.outcomes.push_mut(outcome)
    }
}
