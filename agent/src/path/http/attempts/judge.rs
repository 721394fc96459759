//! What an attempt says about its endpoint, and whether another one is worth it.

use http::{HeaderMap, StatusCode, header};

use super::{Answered, Call, Miss, Tried};
use crate::{
    observe::{
        clock::wall_ns,
        monotonic_ns,
        requests::{AttemptNote, AttemptOutcome, RequestFlag},
    },
    path::http::{
        answer::{self, Local},
        body::BodyError,
        exchange::body_is_too_long,
        upstream::{Answer, Failure, Progress, SendError},
    },
    resilience::{
        balance::Outstanding,
        limits,
        load::{self, Penalty},
        outlier::{self, Outcome},
        retry::{Failed, Pushback, parse_pushback, parse_retry_after},
    },
    snapshot::{Endpoint, EndpointLoad},
};

/// One attempt under way. Dropped before it is over, it was cancelled.
pub(super) struct Underway<'a> {
    trial: Trial<'a>,
    over: bool,
}

impl<'a> Underway<'a> {
    pub(super) fn new(trial: Trial<'a>) -> Self {
        Self { trial, over: false }
    }

    /// It has ended by itself.
    pub(super) fn over(mut self) -> Trial<'a> {
        self.over = true;
        self.trial
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.trial.cancelled();
        }
    }
}

/// One attempt that is over.
#[derive(Clone, Copy)]
pub(super) struct Trial<'a> {
    pub(super) call: &'a Call<'a>,
    pub(super) endpoint: &'a Endpoint,
    pub(super) started_ns: u64,
    pub(super) hedge: bool,
}

impl Trial<'_> {
    /// The endpoint answered.
    pub(super) fn answered(&self, answer: Answer, outstanding: Outstanding) -> Tried {
        let call = self.call;
        let now_ns = monotonic_ns();
        let took_ns = now_ns.saturating_sub(self.started_ns);
        let status = answer.response.status();
        let headers = answer.response.headers();
        let grpc = if call.grpc { answer::grpc_status(headers) } else { None };
        let outcome = match (grpc, Outcome::of_status(status.as_u16())) {
            (Some(code), _) => Outcome::of_grpc(code),
            // Its trailers will tell.
            (None, Outcome::Success) if call.grpc && !answer.response.body().is_end() => Outcome::Begun,
            (None, outcome) => outcome,
        };
        let hints = Hints::read(headers);
        if matches!(outcome, Outcome::GatewayFailure | Outcome::ServerError) {
            load::observe_failure(&self.endpoint.load, took_ns, now_ns);
        } else {
            load::observe_response(&self.endpoint.load, took_ns, now_ns);
        }
        call.plan.port.state.percentiles.observe(took_ns);
        load::penalise(&self.endpoint.load, now_ns, hints.penalty(status));
        self.learn(outcome, Some(took_ns), now_ns);
        call.record.endpoint(self.endpoint.address, self.endpoint.workload.as_ref(), answer.security);
        // The connection is recorded by where its first request went; what follows may go elsewhere, on links that stand already.
        let connection = &call.session.connection;
        connection.security(answer.security);
        connection.peer(self.endpoint.workload.clone(), answer.peer.clone());
        connection.endpoint(self.endpoint.address);
        connection.connected();
        self.note(AttemptOutcome::Status(status.as_u16()), took_ns);
        let failed = self.failure(status, grpc);
        let answered = Box::new(Answered {
            response: answer.response,
            sending: answer.sending,
            upgraded: answer.upgraded,
            outstanding,
        });
        match failed {
            None => Tried::Good(answered),
            Some(failed) => Tried::Poor(answered, failed, hints.wait_ns()),
        }
    }

    /// A status that the policy would try again.
    fn failure(&self, status: StatusCode, grpc: Option<u8>) -> Option<Failed> {
        let policy = self.call.plan.retry();
        match grpc {
            Some(code) => policy.grpc_codes.contains(&code).then_some(Failed::Grpc(code)),
            None => policy.codes.contains(&status.as_u16()).then_some(Failed::Status(status.as_u16())),
        }
    }

    /// There is no answer.
    pub(super) fn failed(&self, error: &SendError) -> Tried {
        let now_ns = monotonic_ns();
        self.note(AttemptOutcome::Failed(word(&error.reason)), now_ns.saturating_sub(self.started_ns));
        if let Some(local) = self.clients_fault(error) {
            return Tried::Over(local);
        }
        if let Failure::Overflow(limit) = error.reason {
            self.call.record.overflow(limit.as_str());
        }
        if error.endpoints_fault {
            self.learn(Outcome::GatewayFailure, None, now_ns);
        }
        let service = &self.call.plan.port.hostname;
        let local = Local::new(
            StatusCode::SERVICE_UNAVAILABLE,
            flag(&error.reason),
            format!("{service}: {}: {error}", self.endpoint.address),
        );
        if !error.elsewhere {
            return Tried::Over(local);
        }
        let failed = match error.progress {
            Progress::NotSent => Failed::NotSent,
            Progress::Sent => Failed::Sent,
        };
        Tried::Failed(Miss { failed, connecting: matches!(error.reason, Failure::Connect(_)), local })
    }

    /// Nobody waits for it any more: another attempt was better, or the client went away. That it took so long is known all the
    /// same, else an endpoint whose attempts always lose would look quick.
    fn cancelled(&self) {
        let now_ns = monotonic_ns();
        let took_ns = now_ns.saturating_sub(self.started_ns);
        self.note(AttemptOutcome::Failed("cancelled"), took_ns);
        if took_ns > load::response_ns(&self.endpoint.load, now_ns) {
            load::observe_response(&self.endpoint.load, took_ns, now_ns);
        }
    }

    /// The client's own body broke off or was malformed.
    fn clients_fault(&self, error: &SendError) -> Option<Local> {
        let of_attempt = match &error.reason {
            Failure::Body(body) => Some(body.clone()),
            _ => None,
        };
        let broken = self.call.replay.failure().or(of_attempt)?;
        let flag = match broken {
            BodyError::TooLong(most) => {
                self.call.record.overflow(limits::REQUEST_BODY);
                return Some(body_is_too_long(&self.call.plan.port, most));
            }
            BodyError::Malformed(_) => RequestFlag::Malformed,
            BodyError::Cut(_) => RequestFlag::ClientGone,
        };
        let text = format!("the request's body: {broken}");
        Some(Local::new(StatusCode::BAD_REQUEST, flag, text))
    }

    /// It took longer than an attempt may.
    pub(super) fn timed_out(&self) -> Tried {
        let now_ns = monotonic_ns();
        let took_ns = now_ns.saturating_sub(self.started_ns);
        self.note(AttemptOutcome::Failed("timeout"), took_ns);
        load::observe_response(&self.endpoint.load, took_ns, now_ns);
        // How little time a caller gives says nothing of the endpoint, and must not take it from other callers of this node.
        if !self.call.brought.is_gone(now_ns) {
            self.learn(Outcome::GatewayFailure, Some(took_ns), now_ns);
        }
        let local = self.call.too_late();
        if self.call.deadline.is_gone(now_ns) {
            return Tried::Over(local);
        }
        Tried::Failed(Miss { failed: Failed::Sent, connecting: false, local })
    }

    fn note(&self, outcome: AttemptOutcome, took_ns: u64) {
        self.call.record.attempt(AttemptNote {
            address: self.endpoint.address,
            outcome,
            started_ns: self.started_ns,
            took_ns,
            hedge: self.hedge,
        });
    }

    /// Tells the endpoint's load and health what happened.
    fn learn(&self, outcome: Outcome, took_ns: Option<u64>, now_ns: u64) {
        self.call.learn(&self.endpoint.load, outcome, took_ns, now_ns);
    }
}

impl Call<'_> {
    /// How the answer ended after its head had gone to the client: too late for another attempt, not for a lesson.
    pub(in crate::path::http) fn ended(&self, endpoint: &EndpointLoad, outcome: Outcome) {
        self.learn(endpoint, outcome, None, monotonic_ns());
    }

    fn learn(&self, endpoint: &EndpointLoad, outcome: Outcome, took_ns: Option<u64>, now_ns: u64) {
        load::observe_outcome(endpoint, outcome, now_ns);
        for ejection in outlier::record(&self.plan.port, endpoint, outcome, took_ns, now_ns) {
            self.record.ejected(ejection.address, ejection.why.as_str(), ejection.until_ns);
        }
    }
}

/// What an answer says about when to come back.
struct Hints {
    retry_after_ns: Option<u64>,
    pushback: Option<Pushback>,
}

impl Hints {
    fn read(headers: &HeaderMap) -> Self {
        let wall_seconds = || wall_ns() / 1_000_000_000;
        let retry_after = headers.get(header::RETRY_AFTER);
        let pushback = headers.get("grpc-retry-pushback-ms");
        Self {
            retry_after_ns: retry_after.and_then(|value| parse_retry_after(value.as_bytes(), wall_seconds())),
            pushback: pushback.map(|value| parse_pushback(value.as_bytes())),
        }
    }

    fn penalty(&self, status: StatusCode) -> Penalty {
        let grpc_pushback_ns = match self.pushback {
            Some(Pushback::After(ns)) => Some(ns),
            Some(Pushback::Never) | None => None,
        };
        Penalty { status: status.as_u16(), retry_after_ns: self.retry_after_ns, grpc_pushback_ns }
    }

    /// `u64::MAX` forbids.
    fn wait_ns(&self) -> Option<u64> {
        match self.pushback {
            Some(Pushback::Never) => Some(u64::MAX),
            Some(Pushback::After(ns)) => Some(ns),
            None => self.retry_after_ns,
        }
    }
}

/// For the record of an attempt.
fn word(failure: &Failure) -> &'static str {
    match failure {
        Failure::Connect(_) => "connect_failed",
        Failure::Handshake => "handshake",
        Failure::NotHttp2 => "not_http2",
        Failure::RefusedStream => "refused_stream",
        Failure::GoAway => "goaway",
        Failure::ClosedBeforeAnswer => "closed",
        Failure::Reset => "reset",
        Failure::MalformedAnswer(_) => "malformed_answer",
        Failure::Body(_) => "request_body",
        Failure::Overflow(_) => "overflow",
    }
}

fn flag(failure: &Failure) -> RequestFlag {
    match failure {
        Failure::Connect(_) | Failure::Handshake | Failure::NotHttp2 => RequestFlag::UpstreamFailure,
        Failure::RefusedStream | Failure::GoAway | Failure::Reset => RequestFlag::UpstreamReset,
        Failure::ClosedBeforeAnswer => RequestFlag::UpstreamClosed,
        Failure::MalformedAnswer(_) => RequestFlag::UpstreamProtocolError,
        Failure::Body(_) => RequestFlag::ClientGone,
        Failure::Overflow(_) => RequestFlag::Overflow,
    }
}
