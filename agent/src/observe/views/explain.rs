//! The shape of the answer to `posthaste explain`. Pure.

use serde::{Deserialize, Serialize};

use super::EndpointsView;
use crate::observe::{CloseReason, Security, requests::RequestFlag};

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
    /// It is for another agent to say, which was not asked or could not be; `says` tells why.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
    /// What to ask that agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<AskView>,
}

/// A question that the agent of another node answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskView {
    /// The called pod, `namespace/name`.
    pub pod: String,
    /// Its node, where that is known.
    pub node: Option<String>,
    /// Path and query of its admin socket, which answers with an [`ArrivalView`].
    pub target: String,
}

/// What becomes of a connection, or of a request, where it arrives: `/explain/arrival`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ArrivalView {
    /// Node of the agent that says it.
    pub node: String,
    /// Stages `arrival` and `policy`.
    pub steps: Vec<StepView>,
    /// Why it is refused.
    pub refused: Option<CloseReason>,
    /// HTTP status of that, where the request and not the connection is refused.
    pub status: Option<u16>,
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
    /// It is of a request, not of a connection.
    #[serde(default)]
    pub request: bool,
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
    /// 0 to 1, of this outcome; 0 where another one is better at the moment.
    pub probability: f64,
    /// What protects the bytes.
    pub security: Security,
    /// Who the peer must prove to be; absent in plain text.
    pub expected_identity: Option<String>,
    /// Why it is refused there; absent where it is taken, or nobody here knows.
    pub refused: Option<CloseReason>,
    /// HTTP status of that, where the request and not the connection is refused.
    #[serde(default)]
    pub status: Option<u16>,
    /// Whom to ask whether it is refused there; absent where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<AskView>,
}

impl OutcomeView {
    /// Where every endpoint refuses, that is what comes of it.
    pub fn settle(&mut self) {
        let Some(first) = self.endpoints.first() else { return };
        let all = |test: &dyn Fn(&ChanceView) -> bool| self.endpoints.iter().all(test);
        if self.kind != OutcomeKind::Forwarded || !all(&|one| one.refused.is_some()) {
            return;
        }
        let (reason, status) = (first.refused, first.status);
        if let Some(status) = status.filter(|_| all(&|one| one.status == status)) {
            let flag = if status == 403 { RequestFlag::Denied } else { RequestFlag::Malformed };
            let says = format!("the called pod's agent answers {status}");
            self.answered(status, flag, says);
        } else if !self.request {
            (self.kind, self.reason) = (OutcomeKind::Refused, reason);
        } else if all(&|one| one.status.is_none()) {
            self.answered(503, RequestFlag::UpstreamFailure, "no endpoint takes the connection".to_owned());
        }
    }

    fn answered(&mut self, status: u16, flag: RequestFlag, says: String) {
        (self.kind, self.status, self.says) = (OutcomeKind::Answered, Some(status), says);
        self.flag = Some(flag.as_str().to_owned());
    }
}
