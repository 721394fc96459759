//! Both ways after an upgrade: bytes between two wires until both directions have ended. When one breaks, or this is dropped,
//! both are reset: an end of file would tell the applications that they have all of it.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    task::{Context, Poll, ready},
};

use bytes::Bytes;

use super::io::{Wire, WireSink, WireSource};
use crate::http1::{Sink, Source};

/// What an upgraded connection is from now on.
pub struct Upgraded {
    /// To and from the endpoint; what came behind its answer comes first.
    pub wire: Wire,
}

/// How many bytes went each way, and whether both directions ended in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// From the client to the endpoint.
    pub up: u64,
    /// From the endpoint to the client.
    pub down: u64,
    /// No side broke.
    pub in_order: bool,
}

/// Carries until both directions have ended or one has broken.
pub async fn relay(near: Wire, far: Wire) -> Carried {
    let mut pair = Pair {
        up: Flow::new(near.source, far.sink),
        down: Flow::new(far.source, near.sink),
        in_order: false,
    };
    let ended = poll_fn(|context| {
        let up = pair.up.poll(context)?;
        let down = pair.down.poll(context)?;
        if up.is_ready() && down.is_ready() { Poll::Ready(Ok::<_, io::Error>(())) } else { Poll::Pending }
    })
    .await;
    pair.in_order = ended.is_ok();
    Carried { up: pair.up.bytes, down: pair.down.bytes, in_order: pair.in_order }
}

struct Pair {
    up: Flow,
    down: Flow,
    in_order: bool,
}

impl Drop for Pair {
    fn drop(&mut self) {
        if !self.in_order {
            self.up.sink.abort();
            self.down.sink.abort();
        }
    }
}

struct Flow {
    source: WireSource,
    sink: WireSink,
    queue: VecDeque<Bytes>,
    /// Bytes in the queue when it was filled: passed on once it is empty.
    waiting: usize,
    bytes: u64,
    ended: bool,
}

impl Flow {
    fn new(source: WireSource, sink: WireSink) -> Self {
        Self { source, sink, queue: VecDeque::new(), waiting: 0, bytes: 0, ended: false }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.ended {
            ready!(self.sink.poll_write(context, &mut self.queue))?;
            let passed = std::mem::take(&mut self.waiting);
            self.source.taken(passed);
            self.bytes += passed as u64;
            let data = ready!(self.source.poll_read(context))?;
            if data.is_empty() {
                self.ended = true;
                // A peer that has gone cannot be told; the other direction will say so.
                let _ = self.sink.finish();
            } else {
                self.waiting = data.len();
                self.queue.push_back(data);
            }
        }
        Poll::Ready(Ok(()))
    }
}
