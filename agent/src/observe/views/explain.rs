//! The shape of the answer to `posthaste explain`. Pure.

use serde::{Deserialize, Serialize};

use super::EndpointsView;
use crate::observe::{CloseReason, Security};

/// What would become of a connection, or of a request on it: `/explain`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExplainView {
    /// Node of the agent that says it.
    pub node: String,
    /// Generation of its snapshot.
    pub snapshot_generation: u64,
    /// The calling pod, `namespace/name`.
    pub source: String,
    /// What was asked for, as it was understood: an address and a port.
    pub destination: String,
    /// Stage by stage, in the order in which they happen.
    pub steps: Vec<StepView>,
    /// Matches of the routes of the service in order of precedence.
    pub rules: Vec<RuleView>,
    /// The service ports that it may go to, with load and health of their endpoints.
    pub services: Vec<EndpointsView>,
    /// What may come of it; the probabilities add up to 1.
    pub outcomes: Vec<OutcomeView>,
}

/// One stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepView {
    /// `capture`, `admission`, `route`, `protocol`, `rule`, `balance`, `limits`, `times`, `retries`, `identity`, `arrival`, `policy`.
    pub stage: String,
    /// False where it ends here.
    pub passes: bool,
    /// What happens and why, in one line.
    pub says: String,
}

/// A match of a rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RuleView {
    /// `Kind/namespace/name[rule]`.
    pub route: String,
    /// Path, method, headers, query.
    pub matches: String,
    /// The request follows it.
    pub chosen: bool,
    /// Why it was passed over; absent where it is chosen.
    pub why: Option<String>,
}

/// How it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeKind {
    /// It reaches one of the endpoints.
    Forwarded,
    /// The agent answers the request itself.
    Answered,
    /// It leaves the mesh in plain TCP, through the agent.
    Outside,
    /// It is not captured, and goes straight.
    Uncaptured,
    /// It is refused: a reset, or EPERM where the kernel does it.
    #[default]
    Refused,
}

/// One of the things that may come of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OutcomeView {
    /// 0 to 1.
    pub probability: f64,
    /// How it ends.
    pub kind: OutcomeKind,
    /// In words.
    pub says: String,
    /// HTTP status, where the agent answers.
    pub status: Option<u16>,
    /// Envoy's response flag of that answer.
    pub flag: Option<String>,
    /// Why the connection is refused.
    pub reason: Option<CloseReason>,
    /// The rule, where one matched.
    pub route: Option<String>,
    /// `name.namespace:port` of the service that is called in the end.
    pub service: Option<String>,
    /// Where it goes, each with its share of this outcome.
    pub endpoints: Vec<ChanceView>,
}

/// An endpoint and how likely it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChanceView {
    /// Address and port.
    pub address: String,
    /// `namespace/name` of the pod, where known.
    pub pod: Option<String>,
    /// 0 to 1, of this outcome.
    pub probability: f64,
    /// What protects the bytes.
    pub security: Security,
    /// Who the peer must prove to be; absent in plain text.
    pub expected_identity: Option<String>,
    /// Why it is refused there; absent where it is taken, or nobody here knows.
    pub refused: Option<CloseReason>,
}
