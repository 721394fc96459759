//! The faulty server over HTTP/1.1, on a blocking socket, written by hand so that every byte can go wrong.

use super::{
    answer::{self, Answer, Asked},
    plan::Trouble,
    read1::Reader,
    seen::{Ledger, Running},
};
use std::{
    fmt::Write as _,
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    thread::sleep,
    time::{Duration, Instant},
};

/// Long enough for bytes to arrive before the reset that would overtake them.
const BEFORE_RESET: Duration = Duration::from_millis(30);

/// How a connection goes on after an answer.
enum Next {
    Request,
    End,
}

/// Serves one connection to its end.
pub(super) fn serve(stream: &TcpStream, ledger: &Ledger, name: &str) -> io::Result<()> {
    let mut reader = Reader::new(stream);
    let mut served = 0;
    loop {
        let Some(mut head) = reader.head(ledger)? else { return Ok(()) };
        served += 1;
        let asked = &head.asked;
        let running = ledger.admit(&asked.method, &asked.target, asked.header("x-id"), false);
        if running.trouble == Trouble::ResetMidRequest {
            return reset(stream);
        }
        if let Some(switch) = switched(&head.asked) {
            (&*stream).write_all(switch.as_bytes())?;
            return relay_back(&reader.into_rest(), stream);
        }
        if head.asked.path() == "/early" {
            return early(stream);
        }
        if head.expects_continue {
            (&*stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        reader.body(&mut head)?;
        let limit = running.plan.keep_alive_requests;
        let close = !head.keep_alive || (limit > 0 && served >= limit) || running.trouble == Trouble::GoAway;
        let answer = answer::to(&head.asked, name, running.plan.body, &ledger.seen());
        match respond(stream, &running, &head.asked, answer, close)? {
            Next::Request => {}
            Next::End => return Ok(()),
        }
    }
}

/// CONNECT and the upgrade to `echo`: after the head everything comes back.
fn switched(asked: &Asked) -> Option<&'static str> {
    if asked.method == "CONNECT" {
        return Some("HTTP/1.1 200 OK\r\n\r\n");
    }
    let echo = asked.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("echo"));
    echo.then_some("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
}

fn relay_back(first: &[u8], stream: &TcpStream) -> io::Result<()> {
    let (mut input, mut output) = (stream, stream);
    output.write_all(first)?;
    let mut buffer = [0_u8; 16 << 10];
    loop {
        let length = input.read(&mut buffer)?;
        if length == 0 {
            return stream.shutdown(Shutdown::Write);
        }
        output.write_all(buffer.get(..length).unwrap_or_default())?;
    }
}

/// The final answer before the body is read, which is then thrown away until the client stops.
fn early(stream: &TcpStream) -> io::Result<()> {
    let (mut input, mut output) = (stream, stream);
    output.write_all(
        b"HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 5\r\n\r\nearly",
    )?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.shutdown(Shutdown::Write)?;
    let mut buffer = [0_u8; 16 << 10];
    while input.read(&mut buffer).is_ok_and(|length| length > 0) {}
    Ok(())
}

fn respond(
    stream: &TcpStream,
    running: &Running,
    asked: &Asked,
    answer: Answer,
    close: bool,
) -> io::Result<Next> {
    let plan = &running.plan;
    let delay = Duration::from_millis(plan.delay_ms);
    match running.trouble {
        Trouble::ResetBeforeHead => return reset(stream).map(|()| Next::End),
        Trouble::CloseBeforeHead => return Ok(Next::End),
        Trouble::Silence => {
            // Until the client gives up.
            let _ = (&*stream).read(&mut [0_u8; 1]);
            return Ok(Next::End);
        }
        Trouble::Garbage => {
            (&*stream).write_all(b"\x00\x01this is not HTTP\r\n\r\n")?;
            return Ok(Next::End);
        }
        Trouble::ResetMidHead => {
            (&*stream).write_all(b"HTTP/1.1 200 OK\r\nx-ser")?;
            return reset(stream).map(|()| Next::End);
        }
        Trouble::SlowHead => {
            if left_within(stream, delay)? {
                running.abandoned();
                return Ok(Next::End);
            }
        }
        _ => sleep(Duration::from_millis(plan.work_ms)),
    }
    let answer = match running.trouble {
        Trouble::Status | Trouble::RefusedStream => refusal(plan.status, plan.retry_after.as_deref(), answer),
        _ => answer,
    };
    send(stream, running, asked, &answer, close, delay)
}

/// Waits; whether the client went away meanwhile. One that has sent its next request already is not asked.
fn left_within(stream: &TcpStream, delay: Duration) -> io::Result<bool> {
    let begun = Instant::now();
    stream.set_read_timeout(Some(delay.max(Duration::from_millis(1))))?;
    let left = match stream.peek(&mut [0_u8; 1]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
    };
    stream.set_read_timeout(None)?;
    if !left {
        sleep(delay.saturating_sub(begun.elapsed()));
    }
    Ok(left)
}

fn refusal(status: u16, retry_after: Option<&str>, mut answer: Answer) -> Answer {
    answer.headers.extend(retry_after.map(|value| ("retry-after".to_owned(), value.to_owned())));
    Answer { status, body: b"as planned".to_vec(), trailers: Vec::new(), ..answer }
}

fn send(
    mut stream: &TcpStream,
    running: &Running,
    asked: &Asked,
    answer: &Answer,
    close: bool,
    delay: Duration,
) -> io::Result<Next> {
    let empty = asked.method == "HEAD" || matches!(answer.status, 204 | 304);
    let head = head(answer, close, empty && asked.method != "HEAD");
    if empty {
        stream.write_all(head.as_bytes())?;
    } else if answer.trailers.is_empty() {
        let half = answer.body.len() / 2;
        match running.trouble {
            Trouble::ResetMidBody | Trouble::CloseMidBody => {
                stream.write_all(head.as_bytes())?;
                stream.write_all(answer.body.get(..half).unwrap_or_default())?;
                let reset_now = running.trouble == Trouble::ResetMidBody;
                return if reset_now { reset(stream).map(|()| Next::End) } else { Ok(Next::End) };
            }
            Trouble::SlowBody => {
                stream.write_all(head.as_bytes())?;
                for piece in answer.body.chunks(answer.body.len().div_ceil(10).max(1)) {
                    sleep(delay / 10);
                    stream.write_all(piece)?;
                }
            }
            _ => stream.write_all(&[head.as_bytes(), &answer.body].concat())?,
        }
    } else {
        stream.write_all(&[head.as_bytes(), &chunked(answer)].concat())?;
    }
    Ok(if close || running.trouble == Trouble::CloseAfterAnswer { Next::End } else { Next::Request })
}

fn head(answer: &Answer, close: bool, without_length: bool) -> String {
    let mut text = format!("HTTP/1.1 {} Planned\r\n", answer.status);
    for (name, value) in &answer.headers {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    if close {
        text.push_str("connection: close\r\n");
    }
    if !answer.trailers.is_empty() {
        text.push_str("transfer-encoding: chunked\r\ntrailer: x-trailer\r\n");
    } else if !without_length {
        let _ = write!(text, "content-length: {}\r\n", answer.body.len());
    }
    text + "\r\n"
}

fn chunked(answer: &Answer) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in answer.body.chunks(1000) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n");
    for (name, value) in &answer.trailers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// The connection ends with RST when its descriptor is closed, which the caller does by returning.
fn reset(stream: &TcpStream) -> io::Result<()> {
    sleep(BEFORE_RESET);
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))
}
