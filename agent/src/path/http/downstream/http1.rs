//! Serves the requests of one HTTP/1 connection, one after the other. A connection that waits holds no buffer, and nothing of
//! the last request's work.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Method, Request, Response, StatusCode, Version};
use tokio::time::{Sleep, sleep, timeout};

use super::{
    Handler, Incoming, Reply,
    late::HeadTime,
    near::{Near, RequestBody, Stage},
    room::Room,
};
use crate::{
    http1::{
        BodyLength, HeadError, HeadFault, Limits, Reader, RequestHead, Sink, Source, Writer,
        hop::strip_hop_by_hop,
    },
    path::http::io::Wire,
};

/// How long, and for how many bytes, a client that still sends is listened to after its last answer, so that the answer is
/// not lost in a reset.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;

/// How long a client that sends nothing keeps its connection when we leave. A request that comes in this time is answered, with
/// `connection: close`; one that is on its way while a connection is closed would be lost.
const LEAVE: Duration = Duration::from_secs(1);

/// Serves a connection until the client closes it or may not use it further, or `leaving`
/// resolves: then the running request is finished, or one more awaited for [`LEAVE`], and the connection closed.
pub async fn serve_http1<H: Handler>(wire: Wire, handler: Rc<H>, leaving: impl Future<Output = ()>) {
    let reader = Reader::new(wire.source, Limits::default());
    let near = Near::new(reader, Writer::new(wire.sink));
    let mut leaving = pin!(leaving);
    let mut patience = Patience::default();
    loop {
        let next = poll_fn(|context| poll_head(&near, &*handler, leaving.as_mut(), &mut patience, context));
        let head = match next.await {
            Ok(Some(head)) => head,
            Ok(None) => return linger(&near).await,
            Err(NoHead::Late) => {
                handler.late(Some(StatusCode::REQUEST_TIMEOUT));
                return refuse(&near, StatusCode::REQUEST_TIMEOUT).await;
            }
            Err(NoHead::Broken(error)) if error.fault == HeadFault::Malformed => {
                handler.malformed(&error);
                let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::BAD_REQUEST);
                return refuse(&near, status).await;
            }
            Err(NoHead::Broken(_)) => return,
        };
        patience.head = HeadTime::default();
        let (incoming, reply) = begun(&near, head).await;
        let mut work = Room::of(Rc::clone(&handler).handle(incoming, reply));
        poll_fn(|context| poll_work(&near, &mut work, leaving.as_mut(), context)).await;
        drop(work);
        if let Some(what) = near.malformed.take() {
            handler.malformed(&HeadError::malformed(400, what));
        }
        match near.stage.get() {
            Stage::Answered { keep: true } if near.has_request() && !near.leaving.get() => {}
            Stage::Answered { .. } => return linger(&near).await,
            Stage::Waiting | Stage::Answering => return abort(&near),
            Stage::Upgraded => return,
        }
    }
}

/// Why a request that has begun is none.
enum NoHead {
    Broken(HeadError),
    /// Its head did not come in time.
    Late,
}

/// How long a client is waited for.
#[derive(Default)]
struct Patience {
    /// Since we leave.
    leave: Option<Pin<Box<Sleep>>>,
    head: HeadTime,
}

/// The next request; none when there will be none.
fn poll_head(
    near: &Near,
    handler: &impl Handler,
    leaving: Pin<&mut impl Future<Output = ()>>,
    patience: &mut Patience,
    context: &mut Context<'_>,
) -> Poll<Result<Option<RequestHead>, NoHead>> {
    if let Some(Poll::Ready(head)) = near.read(|reader| reader.poll_request(context)) {
        return Poll::Ready(head.map_err(NoHead::Broken));
    }
    // A client that has not begun may take its time.
    let begun = near.read(|reader| reader.has_buffered()).unwrap_or(false);
    if patience.head.is_over(begun, handler, context) {
        return Poll::Ready(Err(NoHead::Late));
    }
    note_leaving(near, leaving, context);
    if !near.leaving.get() {
        return Poll::Pending;
    }
    let leave = patience.leave.get_or_insert_with(|| Box::pin(sleep(LEAVE)));
    leave.as_mut().poll(context).map(|()| Ok(None))
}

/// A future that has resolved is not asked again.
fn note_leaving(near: &Near, leaving: Pin<&mut impl Future<Output = ()>>, context: &mut Context<'_>) {
    if !near.leaving.get() && leaving.poll(context).is_ready() {
        near.leaving.set(true);
    }
}

async fn begun(near: &Rc<Near>, head: RequestHead) -> (Incoming, Reply) {
    let mut head = Some(head);
    poll_fn(|context| match head.take() {
        Some(head) => Poll::Ready(begin(near, head, context)),
        None => Poll::Pending,
    })
    .await
}

fn begin(near: &Rc<Near>, head: RequestHead, context: &mut Context<'_>) -> (Incoming, Reply) {
    let RequestHead { mut parts, keep_alive, expects_continue, upgrade, .. } = head;
    near.keeps_alive.set(keep_alive);
    near.holds_body.set(expects_continue);
    near.received.set(0);
    near.stage.set(Stage::Waiting);
    strip_hop_by_hop(&mut parts.headers, upgrade);
    let version = parts.version;
    let reply = Reply::over_http1(Rc::clone(near), parts.method.clone(), version);
    let upgrade = upgrade || parts.method == Method::CONNECT;
    let body = RequestBody::begin(near, context);
    let request = Request::from_parts(parts, body);
    (Incoming { request, version, upgrade, expects_continue }, reply)
}

/// The handler's work, until it is done or nobody waits for it.
fn poll_work(
    near: &Near,
    work: &mut Room<impl Future<Output = ()> + 'static>,
    leaving: Pin<&mut impl Future<Output = ()>>,
    context: &mut Context<'_>,
) -> Poll<()> {
    note_leaving(near, leaving, context);
    if work.poll(context).is_ready() {
        return Poll::Ready(());
    }
    near.poll_gone(context)
}

/// Answers what is no request, and closes.
async fn refuse(near: &Near, status: StatusCode) {
    let (mut head, ()) = Response::new(()).into_parts();
    head.status = status;
    near.write(|writer| writer.response(&head, BodyLength::Exact(0), false, Version::HTTP_11));
    near.write(|writer| writer.end(None));
    linger(near).await;
}

/// Closes so that the last answer arrives.
async fn linger(near: &Near) {
    let Some((reader, mut writer)) = near.reader.take().zip(near.writer.take()) else { return };
    let rest = async {
        if poll_fn(|context| writer.poll_flush(context)).await.is_err() {
            return;
        }
        let mut sink = writer.into_sink();
        let unread = sink.is_cut_by_drop() || reader.has_buffered() || !reader.body_ended();
        // What is closed with nothing unread ends in order by itself, unless its last bytes still wait: what comes from the client
        // at this moment would turn the end into a reset, and they would be lost.
        let ends = unread || sink.holds_back();
        if (ends && sink.finish().is_err()) || !unread {
            return;
        }
        let (mut source, _) = reader.into_parts();
        let mut heard = 0;
        while heard < LINGER_BYTES {
            match poll_fn(|context| source.poll_read(context)).await {
                Ok(data) if !data.is_empty() => heard += data.len(),
                _ => return,
            }
        }
    };
    let _ = timeout(LINGER, rest).await;
}

/// There is no whole answer, and the client must not take what it has for one.
fn abort(near: &Near) {
    if let Some(writer) = near.writer.take() {
        writer.into_sink().abort();
    }
}
