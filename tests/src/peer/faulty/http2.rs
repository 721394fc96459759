//! The faulty server over HTTP/2 with prior knowledge: what HTTP/1.1 does to a connection is done to a stream where that
//! is possible.

use super::{
    answer::{self, Answer, Asked},
    plan::Trouble,
    seen::{Ledger, Running},
};
use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use std::{future, io, net::TcpStream, rc::Rc, time::Duration};
use tokio::{sync::Notify, task::LocalSet, time::sleep};

/// Serves one connection to its end, on this thread.
pub(super) fn serve(stream: TcpStream, ledger: &Ledger, name: &str) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, connection(stream, ledger.clone(), Rc::from(name)))
}

async fn connection(stream: TcpStream, ledger: Ledger, name: Rc<str>) -> io::Result<()> {
    let stream = tokio::net::TcpStream::from_std(stream)?;
    let mut builder = h2::server::Builder::new();
    builder.initial_window_size(1 << 20).initial_connection_window_size(1 << 22);
    let mut connection = builder.handshake::<_, Bytes>(stream).await.map_err(io::Error::other)?;
    let broken = Rc::new(Notify::new());
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            () = broken.notified() => return Ok(()),
        };
        let Some(accepted) = accepted else { return Ok(()) };
        let (request, respond) = accepted.map_err(io::Error::other)?;
        let running = admit(&ledger, &request);
        if running.trouble == Trouble::GoAway {
            connection.graceful_shutdown();
        }
        let (broken, ledger, name) = (Rc::clone(&broken), ledger.clone(), Rc::clone(&name));
        tokio::task::spawn_local(async move {
            let _ = exchange(request, respond, &running, &ledger, &name, &broken).await;
        });
    }
}

fn admit(ledger: &Ledger, request: &Request<RecvStream>) -> Running {
    let target = request.uri().path_and_query().map_or("*", |path| path.as_str());
    let id = request.headers().get("x-id").and_then(|value| value.to_str().ok());
    ledger.admit(request.method().as_str(), target, id, true)
}

async fn exchange(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    running: &Running,
    ledger: &Ledger,
    name: &str,
    broken: &Notify,
) -> Result<(), h2::Error> {
    match running.trouble {
        Trouble::RefusedStream => {
            respond.send_reset(Reason::REFUSED_STREAM);
            return Ok(());
        }
        Trouble::ResetMidRequest => {
            respond.send_reset(Reason::INTERNAL_ERROR);
            return Ok(());
        }
        _ => {}
    }
    let (asked, grpc) = read(request).await?;
    match running.trouble {
        Trouble::ResetBeforeHead | Trouble::ResetMidHead | Trouble::Garbage => {
            respond.send_reset(Reason::INTERNAL_ERROR);
            return Ok(());
        }
        Trouble::CloseBeforeHead => {
            broken.notify_one();
            return Ok(());
        }
        Trouble::Silence => {
            future::poll_fn(|context| respond.poll_reset(context)).await?;
            return Ok(());
        }
        Trouble::SlowHead => sleep(Duration::from_millis(running.plan.delay_ms)).await,
        _ => sleep(Duration::from_millis(running.plan.work_ms)).await,
    }
    let mut answer = answer::to(&asked, name, running.plan.body, &ledger.seen());
    if running.trouble == Trouble::Status {
        answer.status = running.plan.status;
        answer
            .headers
            .extend(running.plan.retry_after.iter().map(|value| ("retry-after".to_owned(), value.clone())));
    }
    if running.trouble == Trouble::GrpcStatus {
        return grpc_refusal(&mut respond, running);
    }
    if grpc {
        answer.headers.push(("content-type".to_owned(), "application/grpc".to_owned()));
        answer.body = asked.body.clone();
        answer.trailers = vec![("grpc-status".to_owned(), "0".to_owned())];
    }
    send(respond, &answer, running, asked.method == "HEAD", broken).await
}

async fn read(request: Request<RecvStream>) -> Result<(Asked, bool), h2::Error> {
    let (parts, mut body) = request.into_parts();
    let mut asked = Asked {
        method: parts.method.to_string(),
        target: parts.uri.path_and_query().map_or_else(|| "*".to_owned(), ToString::to_string),
        version: "2",
        headers: pairs(&parts.headers),
        ..Asked::default()
    };
    if let Some(authority) = parts.uri.authority() {
        asked.headers.insert(0, (":authority".to_owned(), authority.to_string()));
    }
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        asked.body.extend_from_slice(&data);
    }
    asked.trailers = body.trailers().await?.map(|trailers| pairs(&trailers)).unwrap_or_default();
    let grpc = asked.header("content-type").is_some_and(|kind| kind.starts_with("application/grpc"));
    Ok((asked, grpc))
}

fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

fn map(fields: &[(String, String)]) -> HeaderMap {
    let read = |(name, value): &(String, String)| {
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?))
    };
    fields.iter().filter_map(read).collect()
}

/// Trailers alone (gRPC over HTTP/2, "Responses").
fn grpc_refusal(respond: &mut SendResponse<Bytes>, running: &Running) -> Result<(), h2::Error> {
    let mut fields = vec![
        ("content-type".to_owned(), "application/grpc".to_owned()),
        ("grpc-status".to_owned(), running.plan.status.to_string()),
    ];
    fields
        .extend(running.plan.retry_after.iter().map(|ms| ("grpc-retry-pushback-ms".to_owned(), ms.clone())));
    let mut response = Response::new(());
    *response.headers_mut() = map(&fields);
    respond.send_response(response, true).map(drop)
}

async fn send(
    mut respond: SendResponse<Bytes>,
    answer: &Answer,
    running: &Running,
    head_only: bool,
    broken: &Notify,
) -> Result<(), h2::Error> {
    let mut response = Response::new(());
    *response.status_mut() = http::StatusCode::from_u16(answer.status).unwrap_or_default();
    *response.headers_mut() = map(&answer.headers);
    let empty = head_only || answer.body.is_empty() && answer.trailers.is_empty();
    let mut body = respond.send_response(response, empty)?;
    if empty {
        return Ok(());
    }
    let half = answer.body.len() / 2;
    match running.trouble {
        Trouble::ResetMidBody => {
            body.send_data(Bytes::copy_from_slice(answer.body.get(..half).unwrap_or_default()), false)?;
            sleep(Duration::from_millis(30)).await;
            body.send_reset(Reason::INTERNAL_ERROR);
            return Ok(());
        }
        Trouble::CloseMidBody => {
            body.send_data(Bytes::copy_from_slice(answer.body.get(..half).unwrap_or_default()), false)?;
            sleep(Duration::from_millis(30)).await;
            broken.notify_one();
            return Ok(());
        }
        Trouble::SlowBody => {
            for piece in answer.body.chunks(answer.body.len().div_ceil(10).max(1)) {
                sleep(Duration::from_millis(running.plan.delay_ms / 10)).await;
                body.send_data(Bytes::copy_from_slice(piece), false)?;
            }
        }
        _ => body.send_data(Bytes::copy_from_slice(&answer.body), false)?,
    }
    if answer.trailers.is_empty() {
        return body.send_data(Bytes::new(), true);
    }
    body.send_trailers(map(&answer.trailers))
}
