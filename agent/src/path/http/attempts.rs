//! The attempts of one request: choose an endpoint, send, judge, and again where policy, budget and deadline allow.

mod judge;

use std::{cell::RefCell, net::SocketAddr, pin::pin, rc::Rc, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Response, StatusCode, request::Parts};
use tokio::time::{sleep, timeout};

use super::{
    allowance::PodAllowance,
    answer::Local,
    body::Body,
    exchange::Session,
    head, hedge,
    plan::Plan,
    replay::Replay,
    upgrade::Upgraded,
    upstream::{self, Answer, Asked, Caller, SendError, SendOptions, Sending},
};
use crate::{
    observe::{
        monotonic_ns,
        requests::{RequestFlag, RequestRecord},
    },
    resilience::{
        balance::{self, Outstanding},
        budget::Budget,
        deadline::Deadline,
        limits,
        retry::{self, Decision, Failed},
    },
    snapshot::{Endpoint, LocalPod, ServicePort},
    tunnel::RetryMark,
};

/// One request and all that its attempts share.
pub struct Call<'a> {
    pub(super) session: &'a Session,
    pub(super) here: &'a Arc<LocalPod>,
    pub(super) plan: &'a Plan,
    pub(super) record: &'a Rc<RequestRecord>,
    pub(super) parts: Parts,
    pub(super) replay: Replay<PodAllowance>,
    /// The client speaks HTTP/2.
    pub(super) http2: bool,
    pub(super) grpc: bool,
    pub(super) upgrade: bool,
    pub(super) idempotent: bool,
    pub(super) deadline: Deadline,
    /// The part of it that the caller brought.
    pub(super) brought: Deadline,
    /// Attempts that hops before have made of the request that this one belongs to.
    pub(super) inherited: u32,
    pub(super) origin: Option<HeaderValue>,
    /// Endpoints that were tried.
    pub(super) tried: RefCell<Vec<SocketAddr>>,
}

/// An endpoint's answer, chosen to be the caller's.
pub struct Answered {
    pub(super) response: Response<Body>,
    pub(super) sending: Option<Sending>,
    pub(super) upgraded: Option<Upgraded>,
    pub(super) outstanding: Outstanding,
}

/// How one attempt ended.
pub(super) enum Tried {
    /// An answer that may go to the caller.
    Good(Box<Answered>),
    /// An answer that may be worth another attempt; it goes to the caller where there is none.
    Poor(Box<Answered>, Failed, Option<u64>),
    /// No answer.
    Failed(Miss),
    /// Nothing that another attempt would mend: the client broke off, no endpoint is left, time is up.
    Over(Local),
}

/// An attempt without an answer.
pub(super) struct Miss {
    failed: Failed,
    /// The endpoint was not even connected to, which is no load on anybody.
    connecting: bool,
    local: Local,
}

/// Told of answers before the final one.
pub(super) type Informed<'a> = dyn FnMut(StatusCode, HeaderMap) + 'a;

/// What was tried so far.
#[derive(Default)]
struct Count {
    attempts: u32,
    not_sent: u32,
}

/// Attempts until one is good or no more is allowed.
///
/// # Errors
/// What the caller is told where no endpoint answered.
pub async fn run(call: &Call<'_>, informed: &mut Informed<'_>) -> Result<Answered, Local> {
    call.budget().request(monotonic_ns());
    let mut count = Count::default();
    let mut _running_retry = None;
    loop {
        count.attempts += 1;
        let tried = hedge::attempt(call, count.attempts, informed).await;
        let Some((failed, free, retry_after_ns)) = tried.failure() else { return tried.settle() };
        count.not_sent += u32::from(failed == Failed::NotSent);
        let Decision::Retry { wait_ns } = call.decide(&count, failed, retry_after_ns) else {
            if count.attempts > 1 {
                call.record.flag(RequestFlag::RetriesExhausted);
            }
            return tried.settle();
        };
        let Some(permit) = call.admit_retry(free) else {
            call.record.flag(RequestFlag::RetriesExhausted);
            return tried.settle();
        };
        _running_retry = Some(permit);
        drop(tried);
        if wait_ns > 0 {
            sleep(Duration::from_nanos(wait_ns)).await;
        }
    }
}

impl Tried {
    fn settle(self) -> Result<Answered, Local> {
        match self {
            Self::Good(answered) | Self::Poor(answered, ..) => Ok(*answered),
            Self::Failed(miss) => Err(miss.local),
            Self::Over(local) => Err(local),
        }
    }

    /// What may be mended by another attempt: how it failed, whether that was no load on anybody, when to come back.
    fn failure(&self) -> Option<(Failed, bool, Option<u64>)> {
        match self {
            Self::Good(_) | Self::Over(_) => None,
            Self::Poor(_, failed, retry_after_ns) => Some((*failed, false, *retry_after_ns)),
            Self::Failed(miss) => Some((miss.failed, miss.connecting, None)),
        }
    }

    /// Whether nothing else need be waited for.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self, Self::Good(_) | Self::Over(_))
    }
}

impl Call<'_> {
    /// The budget of this workload and service; looked up once for all requests of a connection to the same service.
    fn budget(&self) -> Arc<Budget> {
        let state = &self.plan.port.state;
        let place = Arc::as_ptr(state).addr();
        let mut kept = self.session.budget.borrow_mut();
        if let Some((of, budget)) = &*kept
            && *of == place
        {
            return Arc::clone(budget);
        }
        let workload = &self.here.workload;
        let budget = state.budget(&workload.namespace, &workload.labels.workload, monotonic_ns());
        *kept = Some((place, Arc::clone(&budget)));
        budget
    }

    /// Whether budget and limits have room for one more attempt. What is `free` costs nothing of the budget.
    pub(super) fn admit_retry(&self, free: bool) -> Option<limits::Permit> {
        let policy = &self.plan.port.policy;
        if !free && !self.budget().try_retry(&policy.budget, monotonic_ns()) {
            self.record.budget_refused();
            return None;
        }
        let permit = limits::try_retry(&self.plan.port.state, &policy.limits);
        permit.map_err(|limit| self.record.overflow(limit.as_str())).ok()
    }

    fn decide(&self, count: &Count, failed: Failed, retry_after_ns: Option<u64>) -> Decision {
        let attempt = retry::Attempt {
            number: count.attempts,
            not_sent: count.not_sent,
            idempotent: self.idempotent,
            replayable: self.replay.is_whole(),
            inherited_attempts: self.inherited,
            answer_started: false,
        };
        let left = self.deadline.remaining(monotonic_ns());
        retry::decide(self.plan.retry(), &attempt, failed, retry_after_ns, left, &mut || fastrand::u64(..))
    }

    /// One attempt on one endpoint.
    pub(super) async fn attempt(&self, number: u32, hedge: bool, informed: &mut Informed<'_>) -> Tried {
        let now = monotonic_ns();
        if self.deadline.is_gone(now) {
            return Tried::Over(self.too_late());
        }
        let Some(endpoint) = self.pick(now) else { return Tried::Over(nobody(&self.plan.port)) };
        self.tried.borrow_mut().push(endpoint.address);
        let outstanding = Outstanding::request(&endpoint.load);
        let limit =
            [self.deadline.remaining(now), self.plan.attempt_timeout_ns()].into_iter().flatten().min();
        let underway = judge::Underway::new(judge::Trial { call: self, endpoint, started_ns: now, hedge });
        // Pinned, because a future that is moved has its room twice, and this is the largest one.
        let mut sending = pin!(self.send(endpoint, number, informed));
        let sent = match limit {
            None => Ok(sending.as_mut().await),
            Some(ns) => timeout(Duration::from_nanos(ns), sending.as_mut()).await,
        };
        let trial = underway.over();
        match sent {
            Ok(Ok(answer)) => trial.answered(answer, outstanding),
            Ok(Err(error)) => trial.failed(&error),
            Err(_) => trial.timed_out(),
        }
    }

    fn pick(&self, now_ns: u64) -> Option<&Endpoint> {
        let port = &self.plan.port;
        let source = self.here.workload.addresses.first().copied();
        let source = source.unwrap_or(self.session.client.ip());
        let key = balance::key_of(&port.policy.balancer, &self.parts.headers, source);
        let mut random = || fastrand::u64(..);
        let tried = self.tried.borrow();
        let other = balance::pick_request(port, key, &tried, now_ns, &mut random);
        // Where every endpoint was tried, one of them is better than none.
        let index = other.or_else(|| balance::pick_request(port, key, &[], now_ns, &mut random))?;
        port.endpoints.get(index)
    }

    async fn send(
        &self,
        endpoint: &Endpoint,
        number: u32,
        informed: &mut Informed<'_>,
    ) -> Result<Answer, SendError> {
        let session = self.session;
        let caller = Caller {
            worker: &session.worker,
            pod: &session.pod,
            here: self.here,
            client: session.client,
            record: &session.connection,
        };
        let mut parts = self.parts.clone();
        head::pass_deadline(&mut parts.headers, self.deadline, self.grpc, monotonic_ns());
        let options = SendOptions {
            fresh: false,
            mark: if number > 1 { self.mark(number) } else { None },
            upgrade: self.upgrade,
            asked: Asked { http2: self.http2, grpc: self.grpc, direct: self.plan.direct },
        };
        let request = http::Request::from_parts(parts, self.replay.body());
        upstream::send(&caller, &self.plan.port, endpoint, request, &options, informed).await
    }

    /// What tells the called pod's agent that this is not the first attempt.
    fn mark(&self, number: u32) -> Option<RetryMark> {
        let attempt = self.inherited.saturating_add(number - 1);
        let keys: Vec<&str> = head::correlations(&self.parts.headers).into_iter().flatten().collect();
        (!keys.is_empty()).then(|| RetryMark { attempt, key: keys.join(";").into() })
    }

    fn too_late(&self) -> Local {
        let text = format!("{} did not answer in time", self.plan.port.hostname);
        Local::new(StatusCode::GATEWAY_TIMEOUT, self.flag_of_time(), text)
    }

    /// What it means that time is up: of the deadline that the caller brought, or of one that was set here.
    pub(super) fn flag_of_time(&self) -> RequestFlag {
        let gone = self.brought.is_gone(monotonic_ns());
        if gone { RequestFlag::DeadlineExceeded } else { RequestFlag::UpstreamTimeout }
    }
}

/// What a request is told for whose service there is no endpoint.
pub fn nobody(port: &ServicePort) -> Local {
    let text = format!("{} has no endpoint", port.hostname);
    Local::new(StatusCode::SERVICE_UNAVAILABLE, RequestFlag::NoHealthyUpstream, text)
}
