//! The data path: `accept -> identify -> route -> authorize -> (detect) -> balance -> connect -> relay -> record`, one file per stage.
//!
//! [`carry`] is the whole of it. Identify and route are pure functions of one snapshot; accept, detect, connect and relay do
//! I/O; record is the one place that counts and logs. A connection that speaks HTTP goes on in [`http`], which balances,
//! connects and relays for each request.

pub mod accept;
pub mod arrival;
pub mod authorize;
pub mod connect;
pub mod detect;
mod flow;
pub mod http;
pub mod identify;
pub mod record;
pub mod relay;
pub mod route;
pub mod socket;

use std::{net::SocketAddr, pin::pin, rc::Rc, sync::Arc};

use arrival::{Arrival, OverReference};
use connect::Reached;
use detect::{Approach, Heard, Spoken};
use http::io::Wire;
use route::Target;

use crate::{
    observe::{CloseReason, Connection, Stage},
    snapshot::{LocalPod, Protocol, Snapshot, protocol::Why},
    tunnel::Incoming,
    worker::{Admission, PodHere, Worker},
};

/// How a connection goes on once it is known where to.
enum Onward {
    /// Byte by byte, for as long as the caller may.
    Relay(Reached, Option<Admission>),
    /// Request by request, as the client speaks it.
    Http(SocketAddr, Heard),
    /// Request by request, as policies of the called pod ask.
    Called(Reached, SocketAddr, Admission),
}

/// Carries one connection, from its arrival to its record.
pub async fn carry<I: OverReference>(
    worker: &Rc<Worker>,
    pod: &Rc<PodHere>,
    arrival: Arrival<I>,
    arrived_ns: u64,
) {
    let snapshot = worker.snapshot();
    let Some(here) = identify::local_pod(&snapshot, pod) else {
        return arrival.refuse(CloseReason::UnknownPod);
    };
    let here = Arc::clone(here);
    let record = record::open(worker, &here, &arrival, &snapshot, arrived_ns);
    record.stage(Stage::Taken);
    let _held = match arrival.hold(&here) {
        Ok(held) => held,
        Err(limit) => {
            worker.shared.requests.overflow(limit.as_str());
            arrival.refuse(CloseReason::Overflow);
            return record.close(CloseReason::Overflow);
        }
    };
    let going = match begin(worker, pod, &here, &snapshot, &arrival, &record) {
        // The usual case of HTTP needs nothing of a dial, and no snapshot while its client is silent.
        Ok(Begun { destination, declared: Some(declared), .. }) => {
            drop(snapshot);
            Box::pin(requests_of(declared, destination, &arrival, &record)).await
        }
        // Boxed, and the snapshot let go: a connection that only waits keeps neither the state of its dial nor a world of the past.
        Ok(begun) => {
            let going = Box::pin(onward(worker, pod, &here, begun, &arrival, &record)).await;
            drop(snapshot);
            going
        }
        Err(reason) => Err(reason),
    };
    match going {
        Ok(Onward::Relay(far, admission)) => {
            record.connected();
            let baggage = pod.baggage(&here);
            // In its place from here on: a future that is handed on is there twice.
            let relaying = pin!(relay::relay(arrival, far, &baggage, &record));
            let reason = authorize::guard(admission.as_ref(), &record, relaying).await;
            record.close(reason);
        }
        Ok(Onward::Http(destination, heard)) => {
            Box::pin(requests(worker, pod, arrival, (destination, heard), record)).await;
        }
        Ok(Onward::Called(reached, address, admission)) => {
            Box::pin(http::called::carry(worker, pod, arrival, (reached.far, address), admission, record))
                .await;
        }
        Err(reason) => {
            arrival.refuse(reason);
            record.close(reason);
        }
    }
}

/// What is known of a connection before anything is read.
struct Begun<'snapshot> {
    destination: SocketAddr,
    target: Target<'snapshot>,
    /// Of a pod whose callers are judged.
    admission: Option<Admission>,
    /// What a captured connection to a port that is declared as HTTP is said to speak, and who says so.
    declared: Option<(Protocol, Why)>,
}

/// Routes.
fn begin<'snapshot, I: Incoming>(
    worker: &Worker,
    pod: &Rc<PodHere>,
    here: &Arc<LocalPod>,
    snapshot: &'snapshot Snapshot,
    arrival: &Arrival<I>,
    record: &Connection,
) -> Result<Begun<'snapshot>, CloseReason> {
    let destination = accept::destination(worker, arrival)?;
    record.destination(destination);
    let target = route::choose(snapshot, here, arrival, destination)?;
    record::note(record, &target);
    let admission = authorize::admit(snapshot, pod, here, arrival, &target, record)?;
    let declared = match (arrival, &target) {
        (Arrival::Captured { .. }, Target::Service(port)) => match detect::approach(port) {
            Approach::Request(declared, why) => Some((declared, why)),
            _ => None,
        },
        _ => None,
    };
    Ok(Begun { destination, target, admission, declared })
}

/// Waits for the request of a connection that is declared as HTTP.
async fn requests_of<I: Incoming>(
    (declared, why): (Protocol, Why),
    destination: SocketAddr,
    arrival: &Arrival<I>,
    record: &Connection,
) -> Result<Onward, CloseReason> {
    let Arrival::Captured { near, .. } = arrival else { return Err(CloseReason::NotCaptured) };
    let (heard, protocol, why) = detect::declared(declared, why, near).await;
    record.protocol(protocol, why, None);
    Ok(Onward::Http(destination, heard))
}

/// Looks what the connection speaks where that may matter, and reaches the other side where it is not HTTP.
async fn onward<I: Incoming>(
    worker: &Rc<Worker>,
    pod: &Rc<PodHere>,
    here: &Arc<LocalPod>,
    Begun { destination, target, admission, .. }: Begun<'_>,
    arrival: &Arrival<I>,
    record: &Connection,
) -> Result<Onward, CloseReason> {
    arrival.note_retry(pod);
    let reaching = connect::reach(worker, pod, here, &target, arrival, record);
    let (Arrival::Captured { near, .. }, Target::Service(port)) = (arrival, &target) else {
        let reached = reaching.await?;
        return Ok(match (admission, &target) {
            (Some(admission), Target::Application { address, .. }) if admission.reads_requests() => {
                Onward::Called(reached, *address, admission)
            }
            (admission, _) => Onward::Relay(reached, admission),
        });
    };
    let (spoken, protocol, why) = detect::decide(port, near, reaching).await?;
    match spoken {
        Spoken::Http(heard) => {
            record.protocol(protocol, why, None);
            Ok(Onward::Http(destination, heard))
        }
        Spoken::Opaque { far, sni } => {
            record.protocol(protocol, why, sni);
            // What is carried byte by byte was reached.
            far.map(|far| Onward::Relay(far, admission)).ok_or(CloseReason::ConnectFailed)
        }
    }
}

/// Serves the requests of a captured connection.
async fn requests<I: Incoming>(
    worker: &Rc<Worker>,
    pod: &Rc<PodHere>,
    arrival: Arrival<I>,
    (destination, (version, ahead)): (SocketAddr, Heard),
    record: Connection,
) {
    // Only captured connections are asked what they speak.
    let Arrival::Captured { near, client } = arrival else { return };
    let connection = Rc::new(record);
    let session = http::Session::new(worker, pod, Rc::clone(&connection), client, destination);
    let reason = http::serve(Wire::of_socket(near, ahead), version, session).await;
    connection.close(reason);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::reference::ReferenceIncoming;

    /// The size of the future that `make` makes.
    fn size<A, B, C, D, R>(_make: impl Fn(A, B, C, D) -> R) -> usize {
        size_of::<R>()
    }

    fn size_of_work<A, B, C, R>(_handle: impl Fn(A, B, C) -> R) -> usize {
        size_of::<R>()
    }

    /// An idle connection may cost 4 KiB with everything: sockets' registrations, record, stream, task.
    #[test]
    fn a_connection_that_waits_is_small() {
        let bytes = size(accept::work::<ReferenceIncoming>);
        println!("the future of a connection has {bytes} bytes");
        assert!(bytes <= 1536, "{bytes} bytes");
    }

    /// It is moved once for each request.
    #[test]
    fn the_work_on_a_request_is_small() {
        let bytes = size_of_work(<http::Session as http::downstream::Handler>::handle);
        println!("the future of a request has {bytes} bytes");
        assert!(bytes <= 7680, "{bytes} bytes");
    }
}
