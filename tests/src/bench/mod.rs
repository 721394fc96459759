//! The benchmark: direct, Posthaste, and pairs of HAProxy and Envoy with mutual TLS, in one run, alternating, medians.
//!
//! All subjects stand in the same place: the client's proxy reads the client over the loopback device of the client's
//! namespace, both proxies talk over the bridge, the server's proxy reaches the server over the loopback device of its
//! namespace. Every proxy has one thread. Each run builds its subject anew, warms it up, and then measures. In the cases
//! of HTTP everybody has the same congestion control, reno, and our agents do all that they do by default and write their
//! access log, which the others do not.

pub mod case;
pub mod envoy;
pub mod haproxy;
pub mod load;
pub mod neighbour;
mod pair;
pub mod report;
pub mod scale;
pub mod subject;
pub mod usage;

use crate::Fault;
use case::Case;
use report::Row;
use subject::{Kind, Subject};

/// What to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Cases, in this order.
    pub cases: Vec<Case>,
    /// Subjects, alternating within a case.
    pub subjects: Vec<Kind>,
    /// Runs of each.
    pub runs: u32,
    /// Length of one run.
    pub seconds: u32,
    /// Connections of the case `idle`.
    pub idle_connections: u32,
}

/// Measures everything in the plan; says each result as it comes.
///
/// # Errors
/// A subject that does not work, or a run whose answers are not all right.
pub fn run(plan: &Plan) -> Result<Vec<Row>, Fault> {
    let mut rows = Vec::new();
    for case in &plan.cases {
        let subjects: Vec<Kind> =
            plan.subjects.iter().copied().filter(|kind| case.applies_to(*kind)).collect();
        let mut samples = vec![Vec::new(); subjects.len()];
        for round in 1..=plan.runs {
            for (kind, samples) in subjects.iter().zip(&mut samples) {
                let sample = one(*case, *kind, plan)?;
                eprintln!("{case} {kind} run {round}/{}: {sample}", plan.runs);
                samples.push(sample);
            }
        }
        rows.extend(subjects.iter().zip(&samples).map(|(kind, samples)| Row::of(*case, *kind, samples)));
    }
    Ok(rows)
}

fn one(case: Case, kind: Kind, plan: &Plan) -> Result<report::Sample, Fault> {
    if case == Case::Scale100k {
        return scale::measure(plan.seconds);
    }
    let subject = Subject::build(kind, case)?;
    case.measure(&subject, plan).map_err(|fault| Fault::new(format!("{case} with {kind}: {fault}")))
}
