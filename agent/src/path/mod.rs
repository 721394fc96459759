//! The data path: `accept -> identify -> route -> balance -> connect -> relay -> record`, one file per stage.
//!
//! [`carry`] is the whole of it. Identify and route are pure functions of one snapshot; accept, connect and relay do
//! I/O; record is the one place that counts and logs.

pub mod accept;
pub mod arrival;
pub mod connect;
pub mod detect;
mod flow;
pub mod http;
pub mod identify;
pub mod record;
pub mod relay;
pub mod route;

use arrival::Arrival;

use std::{rc::Rc, sync::Arc};

use crate::{
    observe::CloseReason,
    tunnel::Incoming,
    worker::{PodHere, Worker},
};

/// Carries one connection, from its arrival to its record.
pub async fn carry<I: Incoming>(worker: &Rc<Worker>, pod: &PodHere, arrival: Arrival<I>) {
    let snapshot = worker.snapshot();
    let Some(here) = identify::local_pod(&snapshot, pod) else {
        return arrival.refuse(CloseReason::UnknownPod);
    };
    let here = Arc::clone(here);
    let record = record::open(worker, &here, &arrival, &snapshot);
    // Boxed, and the snapshot let go: a connection that only waits keeps neither the state of its dial nor a world of the past.
    let reaching = Box::pin(async {
        let destination = accept::destination(worker, &arrival)?;
        record.destination(destination);
        let target = route::choose(&snapshot, &here, &arrival, destination)?;
        record::note(&record, &target);
        arrival.note_retry(pod);
        connect::reach(worker, pod, &here, &target, &arrival, &record).await
    });
    let reached = reaching.await;
    drop(snapshot);
    match reached {
        Ok(far) => {
            record.connected();
            let reason = relay::relay(arrival, far, &pod.baggage(&here), &record).await;
            record.close(reason);
        }
        Err(reason) => {
            arrival.refuse(reason);
            record.close(reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::reference::ReferenceIncoming;

    /// The size of the future that `make` makes.
    fn size<A, B, C, R>(_make: impl Fn(A, B, C) -> R) -> usize {
        size_of::<R>()
    }

    /// An idle connection may cost 4 KiB with everything: sockets' registrations, record, stream, task.
    #[test]
    fn a_connection_that_waits_is_small() {
        let bytes = size(accept::work::<ReferenceIncoming>);
        println!("the future of a connection has {bytes} bytes");
        assert!(bytes <= 1344, "{bytes} bytes");
    }
}
