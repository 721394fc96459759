//! One policy to the shapes of the data path, and several of them to one. Pure.
//!
//! What is out of its bounds is a problem, and the default of that field is in force.

mod check;

use std::{ops::RangeInclusive, sync::Arc};

use crate::snapshot::{
    Problem, TrafficPolicy,
    input::{duration::shown, policy as given},
    policy::{
        Balancer, BulkheadLimits, HashKey, HedgeDelay, Hedging, KeepAlive, Limits, Outliers, RetryBudget,
        RetryPolicy,
    },
};

use check::Check;

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// One policy; fields that it does not give are absent.
#[derive(Debug)]
pub(super) struct Compiled {
    /// `TrafficPolicy/ns/name`.
    pub(super) origin: Arc<str>,
    pub(super) kind: &'static str,
    /// And the slow start in nanoseconds.
    balancer: Option<(Balancer, u64)>,
    hedging: Option<Option<Hedging>>,
    outliers: Option<Outliers>,
    limits: Option<Limits>,
    pub(super) bulkhead: Option<BulkheadLimits>,
    keep_alive: Option<KeepAlive>,
    retry: Option<RetryPolicy>,
    pub(super) budget: Option<RetryBudget>,
}

/// The first that gives a field gives it whole.
pub(super) fn merge(chain: &[&Compiled]) -> TrafficPolicy {
    let (balancer, slow_start_ns) = first(chain, |policy| policy.balancer.clone());
    TrafficPolicy {
        origins: chain.iter().map(|policy| policy.origin.clone()).collect(),
        balancer,
        slow_start_ns,
        hedging: first(chain, |policy| policy.hedging),
        outliers: first(chain, |policy| policy.outliers),
        limits: first(chain, |policy| policy.limits),
        budget: first(chain, |policy| policy.budget),
        retry: first(chain, |policy| policy.retry.clone()),
        keep_alive: first(chain, |policy| policy.keep_alive),
    }
}

fn first<T: Default>(chain: &[&Compiled], field: impl Fn(&Compiled) -> Option<T>) -> T {
    chain.iter().find_map(|policy| field(policy)).unwrap_or_default()
}

pub(super) fn compile(policy: &given::TrafficPolicy, problems: &mut Vec<Problem>) -> Compiled {
    let spec = &policy.spec;
    let mut check = Check { policy, problems };
    Compiled {
        origin: policy.metadata.object(policy.kind).into(),
        kind: policy.kind,
        balancer: spec.load_balancer.as_ref().map(|given| check.balancer(given)),
        hedging: spec.hedging.as_ref().map(|given| check.hedging(given)),
        outliers: spec.outlier_detection.as_ref().map(|given| check.outliers(given)),
        limits: spec.limits.as_ref().map(|given| check.limits(given)),
        bulkhead: spec.bulkhead.as_ref().map(|given| check.bulkhead(given)),
        keep_alive: spec.keep_alive.as_ref().map(|given| check.keep_alive(given)),
        retry: spec.retry.as_ref().map(|given| check.retry(given)),
        budget: spec.retry_constraint.as_ref().map(|given| check.budget(given)),
    }
}

impl Check<'_> {
    fn balancer(&mut self, given: &given::LoadBalancer) -> (Balancer, u64) {
        const FIELD: &str = "loadBalancer";
        let slow_start = (FIELD, "slowStart");
        let slow_start_ns = self.duration(slow_start, given.slow_start.as_ref(), 0..=HOUR, 0);
        let hashed = given.r#type == Some(given::LoadBalancerType::ConsistentHash);
        let balancer = match (&given.consistent_hash, hashed) {
            (Some(key), true) => self.hash_key(key).map(Balancer::ConsistentHash),
            (None, true) => {
                self.problem(
                    (FIELD, "consistentHash"),
                    "is missing; say what makes the key. Power of two is in force",
                );
                None
            }
            (Some(_), false) => {
                self.problem(
                    (FIELD, "type"),
                    "is not ConsistentHash, but consistentHash is given; say which. Power of two is in force",
                );
                None
            }
            (None, false) => None,
        };
        (balancer.unwrap_or_default(), slow_start_ns)
    }

    fn hash_key(&mut self, given: &given::ConsistentHash) -> Option<HashKey> {
        let field = ("loadBalancer.consistentHash", "name");
        let read = match (given.r#type, given.name.as_deref()) {
            (given::HashType::Source, None) => Ok(HashKey::Source),
            (given::HashType::Source, Some(_)) => Err("is for a header or cookie; leave it out"),
            (_, None) => Err("is missing; name the header or cookie"),
            (given::HashType::Header, Some(name)) => http::HeaderName::from_bytes(name.as_bytes())
                .map(HashKey::Header)
                .map_err(|_| "is not a header name; use letters, digits and `-`"),
            // RFC 6265: a token, as a header's name is.
            (given::HashType::Cookie, Some(name))
                if http::HeaderName::from_bytes(name.as_bytes()).is_ok() =>
            {
                Ok(HashKey::Cookie(name.into()))
            }
            (given::HashType::Cookie, Some(_)) => {
                Err("is not a cookie name; use letters, digits, `-` and `_`")
            }
        };
        read.map_err(|reason| self.problem(field, format!("{reason}. Power of two is in force"))).ok()
    }

    fn hedging(&mut self, given: &given::Hedging) -> Option<Hedging> {
        const FIELD: &str = "hedging";
        const BETWEEN: RangeInclusive<u64> = MILLISECOND..=MINUTE;
        let extra = self.number((FIELD, "extraAttempts"), given.extra_attempts, 0..=4, 1);
        let minimum = (FIELD, "minimumDelay");
        let at_least_ns = self.duration(minimum, given.minimum_delay.as_ref(), BETWEEN, 5 * MILLISECOND);
        let delay = match &given.delay {
            None => HedgeDelay::P95 { at_least_ns },
            Some(delay) => {
                if given.minimum_delay.is_some() {
                    self.problem(
                        minimum,
                        "is for the observed delay, but `delay` is given and in force; leave one of them out",
                    );
                }
                match self.read((FIELD, "delay"), Some(delay), BETWEEN, "the observed delay") {
                    Some(ns) => HedgeDelay::After(ns),
                    None => HedgeDelay::P95 { at_least_ns },
                }
            }
        };
        (extra > 0).then_some(Hedging { delay, extra })
    }

    fn outliers(&mut self, given: &given::OutlierDetection) -> Outliers {
        let default = Outliers::default();
        let at = |field| ("outlierDetection", field);
        let base = given.base_ejection_time.as_ref();
        let base_ns = self.duration(at("baseEjectionTime"), base, MILLISECOND..=HOUR, default.base_ns);
        let longest = given.max_ejection_time.as_ref();
        let mut longest_ns =
            self.duration(at("maxEjectionTime"), longest, MILLISECOND..=24 * HOUR, default.longest_ns);
        if longest_ns < base_ns {
            let reason = format!(
                "{} is less than baseEjectionTime {}, which is in force for both; give it more",
                shown(longest_ns),
                shown(base_ns)
            );
            self.problem(at("maxEjectionTime"), reason);
            longest_ns = base_ns;
        }
        let consecutive = given.consecutive_gateway_failures;
        let stdev = given.success_rate_stdev_tenths;
        Outliers {
            consecutive: self.number(
                at("consecutiveGatewayFailures"),
                consecutive,
                0..=1000,
                default.consecutive,
            ),
            interval_ns: self.duration(
                at("interval"),
                given.interval.as_ref(),
                SECOND..=HOUR,
                default.interval_ns,
            ),
            success_rate_stdev_tenths: self.number(
                at("successRateStdevTenths"),
                stdev,
                0..=100,
                default.success_rate_stdev_tenths,
            ),
            request_volume: self.number(
                at("requestVolume"),
                given.request_volume,
                1..=1_000_000,
                default.request_volume,
            ),
            latency_factor: self.number(
                at("latencyFactor"),
                given.latency_factor,
                0..=1000,
                default.latency_factor,
            ),
            base_ns,
            longest_ns,
            max_ejected_percent: self.number(
                at("maxEjectionPercent"),
                given.max_ejection_percent,
                0..=100,
                default.max_ejected_percent,
            ),
            panic_percent: self.number(
                at("panicThresholdPercent"),
                given.panic_threshold_percent,
                0..=100,
                default.panic_percent,
            ),
        }
    }

    fn limits(&mut self, given: &given::Limits) -> Limits {
        let default = Limits::default();
        let at = |field| ("limits", field);
        Limits {
            connections: self.number(
                at("connections"),
                given.connections,
                1..=1_000_000,
                default.connections,
            ),
            pending: self.number(
                at("pendingRequests"),
                given.pending_requests,
                0..=1_000_000,
                default.pending,
            ),
            requests: self.number(at("requests"), given.requests, 1..=1_000_000, default.requests),
            retries: self.number(at("retries"), given.retries, 0..=1_000_000, default.retries),
            request_body_bytes: self.number(
                at("requestBodyBytes"),
                given.request_body_bytes,
                0..=1 << 40,
                default.request_body_bytes,
            ),
            request_headers_ns: self.duration(
                at("requestHeadersTimeout"),
                given.request_headers_timeout.as_ref(),
                0..=HOUR,
                default.request_headers_ns,
            ),
        }
    }

    fn bulkhead(&mut self, given: &given::Bulkhead) -> BulkheadLimits {
        let default = BulkheadLimits::default();
        let at = |field| ("bulkhead", field);
        BulkheadLimits {
            connections: self.number(
                at("connections"),
                given.connections,
                1..=1_000_000,
                default.connections,
            ),
            requests: self.number(at("requests"), given.requests, 1..=1_000_000, default.requests),
            buffered_bytes: self.number(
                at("bufferedBytes"),
                given.buffered_bytes,
                65_536..=1 << 40,
                default.buffered_bytes,
            ),
        }
    }

    fn keep_alive(&mut self, given: &given::KeepAlive) -> KeepAlive {
        let default = KeepAlive::default();
        let at = |field| ("keepAlive", field);
        let (idle, requests) = (given.idle_connections, given.requests_per_connection);
        KeepAlive {
            idle_connections: self.number(at("idleConnections"), idle, 0..=10_000, default.idle_connections),
            idle_ns: self.duration(
                at("idleTimeout"),
                given.idle_timeout.as_ref(),
                MILLISECOND..=HOUR,
                default.idle_ns,
            ),
            requests: self.number(at("requestsPerConnection"), requests, 0..=1_000_000_000, default.requests),
        }
    }

    fn retry(&mut self, given: &given::Retry) -> RetryPolicy {
        let default = RetryPolicy::default();
        let at = |field| ("retry", field);
        let backoff = given.backoff.as_ref();
        let backoff_ns = self.duration(at("backoff"), backoff, MILLISECOND..=MINUTE, default.backoff_ns);
        let backoff_max_ns = match &given.max_backoff {
            // A longer base lifts a default that nobody wrote.
            None => default.backoff_max_ns.max(backoff_ns),
            longest => self.duration(
                at("maxBackoff"),
                longest.as_ref(),
                MILLISECOND..=10 * MINUTE,
                default.backoff_max_ns,
            ),
        };
        if backoff_max_ns < backoff_ns {
            let reason = format!(
                "{} is less than backoff {}, which is in force for both; give it more",
                shown(backoff_max_ns),
                shown(backoff_ns)
            );
            self.problem(at("maxBackoff"), reason);
        }
        let codes = given.codes.as_deref().map(|codes| self.list("codes", codes, 400..=599));
        let grpc_codes = given.grpc_codes.as_deref().map(|codes| self.list("grpcCodes", codes, 1..=16));
        let per_try = given.per_try_timeout.as_ref();
        RetryPolicy {
            attempts: self.number(at("attempts"), given.attempts, 0..=10, default.attempts),
            codes: codes.unwrap_or(default.codes),
            grpc_codes: grpc_codes.unwrap_or(default.grpc_codes),
            per_try_ns: self.read(at("perTryTimeout"), per_try, MILLISECOND..=HOUR, "the request's"),
            backoff_ns,
            backoff_max_ns: backoff_max_ns.max(backoff_ns),
            any_method: false,
        }
    }

    fn budget(&mut self, given: &given::RetryConstraint) -> RetryBudget {
        const BETWEEN: RangeInclusive<u64> = SECOND..=HOUR;
        let default = RetryBudget::default();
        let share = given.budget.clone().unwrap_or_default();
        let least = given.min_retry_rate.clone().unwrap_or_default();
        let (of_share, of_least) = ("retryConstraint.budget", "retryConstraint.minRetryRate");
        let interval = (share.interval.as_ref(), least.interval.as_ref());
        RetryBudget {
            percent: self.number((of_share, "percent"), share.percent, 0..=100, default.percent),
            interval_ns: self.duration((of_share, "interval"), interval.0, BETWEEN, default.interval_ns),
            min_retries: self.number((of_least, "count"), least.count, 1..=1_000_000, default.min_retries),
            min_interval_ns: self.duration(
                (of_least, "interval"),
                interval.1,
                BETWEEN,
                default.min_interval_ns,
            ),
        }
    }
}
