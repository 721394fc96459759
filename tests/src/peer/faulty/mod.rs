//! An HTTP server (`posthaste-peer serve http PORT NAME`) that does wrong what its [`Plan`] says, and counts every request
//! it receives by its id: HTTP/1.1, and HTTP/2 with prior knowledge, on one port. The plan and the counts are asked on a
//! port of their own, on the loopback address, where no mesh comes between.

mod answer;
mod http1;
mod http2;
pub mod plan;
mod read1;
pub mod seen;

#[cfg(test)]
mod tests;

use super::server::listen;
use crate::{Doing, Fault, Running, Site};
pub use plan::{Plan, Trouble};
use seen::Ledger;
pub use seen::Seen;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

/// A running server at a site.
#[derive(Debug)]
pub struct Faulty {
    /// The program; killed on drop.
    pub running: Running,
    control: SocketAddr,
}

impl Faulty {
    /// Starts a good server that calls itself `name` (`x-server` in its answers) on `port`; the next port is its control.
    ///
    /// # Errors
    /// The program is missing or a port is taken.
    pub fn start(site: &Site, port: u16, name: &str) -> Result<Self, Fault> {
        let running = super::serve_with(site, "http", port, &[name])?;
        Ok(Self { running, control: control_address(port) })
    }

    /// From now on it does wrong what the plan says.
    ///
    /// # Errors
    /// It does not answer.
    pub fn plan(&self, site: &Site, plan: &Plan) -> Result<(), Fault> {
        self.ask(site, &json!({"plan": plan})).map(drop)
    }

    /// What it has received.
    ///
    /// # Errors
    /// It does not answer.
    pub fn seen(&self, site: &Site) -> Result<Seen, Fault> {
        let answer = self.ask(site, &json!({"seen": true}))?;
        serde_json::from_value(answer).map_err(|error| Fault::new(error.to_string()))
    }

    /// Counts begin at zero again.
    ///
    /// # Errors
    /// It does not answer.
    pub fn forget(&self, site: &Site) -> Result<(), Fault> {
        self.ask(site, &json!({"forget": true})).map(drop)
    }

    fn ask(&self, site: &Site, question: &Value) -> Result<Value, Fault> {
        let answer =
            site.namespace().inside(|| ask(self.control, question))?.doing("ask the faulty server")?;
        match answer.get("error") {
            Some(error) => Err(Fault::new(error.to_string())),
            None => Ok(answer),
        }
    }
}

/// The pod is there no more and says nothing: what is sent to it is lost, as when a node loses its power.
///
/// # Errors
/// The kernel refuses.
pub fn vanish(site: &Site) -> Result<(), Fault> {
    site.namespace().ip("link set eth0 down\n")
}

fn control_address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port + 1).into()
}

fn ask(control: SocketAddr, question: &Value) -> io::Result<Value> {
    let mut stream = TcpStream::connect_timeout(&control, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    writeln!(stream, "{question}")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    serde_json::from_str(&line).map_err(io::Error::other)
}

/// Open connections, so that they can be ended when nobody shall listen any more.
type Open = Arc<Mutex<HashMap<u64, TcpStream>>>;

/// Listens and serves until it is killed.
///
/// # Errors
/// A port is taken.
pub fn run(port: u16, name: &str) -> io::Result<()> {
    let (ledger, open, name) = (Ledger::default(), Open::default(), Arc::<str>::from(name));
    let control = TcpListener::bind(control_address(port))?;
    let (for_control, to_end) = (ledger.clone(), Arc::clone(&open));
    thread::spawn(move || {
        for stream in control.incoming().flatten() {
            let _ = answer_control(&stream, &for_control, &to_end, port);
        }
    });
    let mut number = 0;
    loop {
        while ledger.plan().trouble == Trouble::Refuse {
            thread::sleep(Duration::from_millis(5));
        }
        let listener = listen(port)?;
        while ledger.plan().trouble != Trouble::Refuse {
            let (stream, _) = listener.accept()?;
            number += 1;
            start(stream, number, &ledger, &open, &name)?;
        }
    }
}

/// A thread for the connection. One that came in while nobody shall listen is reset, as the kernel resets what waits in the
/// backlog of a listener that goes.
fn start(stream: TcpStream, number: u64, ledger: &Ledger, open: &Open, name: &Arc<str>) -> io::Result<()> {
    let trouble = ledger.plan().trouble;
    if matches!(trouble, Trouble::Refuse | Trouble::ResetOnAccept) {
        return socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    }
    ledger.connected();
    stream.set_nodelay(true)?;
    open.lock().unwrap_or_else(PoisonError::into_inner).insert(number, stream.try_clone()?);
    let (ledger, open, name) = (ledger.clone(), Arc::clone(open), Arc::clone(name));
    let work = move || {
        let _ = serve(stream, &ledger, &name, || {
            open.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        });
    };
    thread::Builder::new().stack_size(512 << 10).spawn(work).map(drop)
}

/// By its first bytes HTTP/2 or HTTP/1.1. The other descriptor of the socket goes first, so that the last one decides how
/// the connection ends.
fn serve(stream: TcpStream, ledger: &Ledger, name: &str, forget: impl FnOnce()) -> io::Result<()> {
    let mut first = [0_u8; 3];
    let known = loop {
        match stream.peek(&mut first) {
            Ok(length) if length == first.len() || length == 0 => break length,
            Ok(_) => thread::sleep(Duration::from_millis(1)),
            Err(error) => {
                forget();
                return Err(error);
            }
        }
    };
    if known == first.len() && &first == b"PRI" {
        let result = http2::serve(stream, ledger, name);
        forget();
        return result;
    }
    let result = http1::serve(&stream, ledger, name);
    forget();
    result
}

fn answer_control(mut stream: &TcpStream, ledger: &Ledger, open: &Open, port: u16) -> io::Result<()> {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let question: Value = serde_json::from_str(&line).unwrap_or_default();
    let answer = match question.get("plan") {
        Some(plan) => match serde_json::from_value::<Plan>(plan.clone()) {
            Ok(plan) => set_plan(plan, ledger, open, port),
            Err(error) => json!({"error": error.to_string()}),
        },
        None if question.get("forget").is_some() => {
            ledger.forget();
            json!({})
        }
        None => json!(ledger.seen()),
    };
    writeln!(stream, "{answer}")
}

fn set_plan(plan: Plan, ledger: &Ledger, open: &Open, port: u16) -> Value {
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let (before, after) = (ledger.plan().trouble, plan.trouble);
    ledger.set_plan(plan);
    if after == Trouble::Refuse {
        for (_, stream) in open.lock().unwrap_or_else(PoisonError::into_inner).drain() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
    // The listener waits in accept, or comes back after a moment: a connection of ours tells that it has seen the plan.
    if (before == Trouble::Refuse) != (after == Trouble::Refuse) {
        for _ in 0..200 {
            let refused = TcpStream::connect_timeout(&to, Duration::from_secs(1)).is_err();
            if refused == (after == Trouble::Refuse) {
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
    json!({})
}
