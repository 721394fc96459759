//! The data path: `accept -> identify -> route -> balance -> connect -> relay -> record`, one file per stage.
//!
//! [`carry`] is the whole of it. Identify and route are pure functions of one snapshot; accept, connect and relay do
//! I/O; record is the one place that counts and logs.

pub mod accept;
pub mod arrival;
pub mod connect;
mod flow;
pub mod identify;
pub mod record;
pub mod relay;
pub mod route;

use arrival::Arrival;

use std::rc::Rc;

use crate::{
    observe::CloseReason,
    tunnel::Incoming,
    worker::{PodHere, Worker},
};

/// Carries one connection, from its arrival to its record.
pub async fn carry<I: Incoming>(worker: Rc<Worker>, pod: Rc<PodHere>, arrival: Arrival<I>) {
    let snapshot = worker.snapshot();
    let Some(here) = identify::local_pod(&snapshot, &pod).cloned() else {
        return arrival.refuse(CloseReason::UnknownPod);
    };
    let record = record::open(&worker, &here, &arrival, &snapshot);
    let reached = async {
        let destination = accept::destination(&worker, &arrival)?;
        record.destination(destination);
        let target = route::choose(&snapshot, &here, &arrival, destination)?;
        record::note(&record, &target);
        connect::reach(&worker, &pod, &here, &target, &arrival, &record).await
    };
    // Boxed, because its state is large and an idle connection must not hold it; nor the world that it was reached in.
    let reached = Box::pin(reached).await;
    drop(snapshot);
    match reached {
        Ok(far) => {
            record.connected();
            let reason = relay::relay(arrival, far, pod.baggage(&here), &record).await;
            record.close(reason);
        }
        Err(reason) => {
            arrival.refuse(reason);
            record.close(reason);
        }
    }
}
