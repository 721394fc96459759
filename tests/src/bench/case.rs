//! What is measured, one function for each kind of case.

use super::{
    Plan, load, neighbour,
    report::Sample,
    subject::{Kind, Subject},
};
use crate::{Fault, peer};
use std::{
    fmt,
    thread::sleep,
    time::{Duration, Instant},
};

/// A case's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Case {
    /// HTTP/1.1, 1 KB answers, 32 connections that stay.
    Keepalive,
    /// The same, a new connection for every request.
    Newconn,
    /// As `Keepalive`, request by request: the proxies read HTTP.
    HttpKeepalive,
    /// As `Newconn`, request by request.
    HttpNewconn,
    /// iperf3 with one stream.
    #[value(name = "bulk-1")]
    Bulk1,
    /// iperf3 with eight streams.
    #[value(name = "bulk-8")]
    Bulk8,
    /// Memory of idle connections.
    Idle,
    /// One agent in a cluster of 10,000 Services with 100,000 endpoints, of which 100 change in a second.
    #[value(name = "scale-100k")]
    Scale100k,
    /// A pod with a modest load beside one on the same node with a hundred times as much.
    Neighbour,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keepalive => "keepalive",
            Self::Newconn => "newconn",
            Self::HttpKeepalive => "http-keepalive",
            Self::HttpNewconn => "http-newconn",
            Self::Bulk1 => "bulk-1",
            Self::Bulk8 => "bulk-8",
            Self::Idle => "idle",
            Self::Scale100k => "scale-100k",
            Self::Neighbour => "neighbour",
        })
    }
}

impl Case {
    /// Each pair has the mode that it is made for. Without a proxy there is no memory of one, and two pods do not share a
    /// pair of other proxies. Only the TCP cases ask about congestion control: those of HTTP have one for all.
    #[must_use]
    pub fn applies_to(self, kind: Kind) -> bool {
        if self == Self::Scale100k {
            return kind == Kind::Posthaste;
        }
        match kind {
            Kind::Direct => self != Self::Idle,
            Kind::Posthaste => true,
            Kind::PosthasteKernelCc => !self.is_http() && self != Self::Idle,
            Kind::HaproxyTcp => !self.is_http(),
            Kind::HaproxyHttp | Kind::EnvoyHttp => self.is_http() && self != Self::Neighbour,
        }
    }

    /// Whether the proxies read HTTP.
    #[must_use]
    pub fn is_http(self) -> bool {
        matches!(self, Self::HttpKeepalive | Self::HttpNewconn | Self::Neighbour)
    }

    /// Whether every request has a connection of its own.
    #[must_use]
    pub fn is_new_each(self) -> bool {
        matches!(self, Self::Newconn | Self::HttpNewconn)
    }

    /// One run.
    ///
    /// # Errors
    /// The work was not done right.
    pub fn measure(self, subject: &Subject, plan: &Plan) -> Result<Sample, Fault> {
        match self {
            Self::Keepalive | Self::Newconn | Self::HttpKeepalive | Self::HttpNewconn => {
                requests(self, subject, plan.seconds)
            }
            Self::Bulk1 => bulk(subject, 1, plan.seconds),
            Self::Bulk8 => bulk(subject, 8, plan.seconds),
            Self::Idle => idle(subject, plan.idle_connections),
            Self::Scale100k => super::scale::measure(plan.seconds),
            Self::Neighbour => neighbour::measure(subject, plan.seconds),
        }
    }
}

fn requests(case: Case, subject: &Subject, seconds: u32) -> Result<Sample, Fault> {
    let before = subject.usage()?;
    let done = load::wrk(subject.client(), subject.target, case, seconds)?;
    let after = subject.usage()?;
    let cpu_ms = (after.cpu_seconds - before.cpu_seconds) * 1000.0;
    Ok(Sample {
        rate: Some(done.rate),
        p50_ms: Some(done.p50_ms),
        p99_ms: Some(done.p99_ms),
        cpu_ms_per_1000: proxied(subject, cpu_ms / done.count * 1000.0)?,
        rss_mib: proxied(subject, after.rss_kib / 1024.0)?,
        ..Sample::default()
    })
}

fn bulk(subject: &Subject, streams: u32, seconds: u32) -> Result<Sample, Fault> {
    let before = subject.usage()?;
    let (bytes, time) = load::iperf(subject.client(), subject.target, streams, seconds)?;
    let after = subject.usage()?;
    Ok(Sample {
        rate: Some(bytes / time / 1e9),
        cpu_s_per_gb: proxied(subject, (after.cpu_seconds - before.cpu_seconds) / (bytes / 1e9))?,
        rss_mib: proxied(subject, after.rss_kib / 1024.0)?,
        ..Sample::default()
    })
}

/// Resident memory of the proxies, fresh processes, before and after the connections are there.
fn idle(subject: &Subject, connections: u32) -> Result<Sample, Fault> {
    let before = settled(subject)?;
    let running = peer::start_call(subject.client(), "idle", subject.target, &[&connections.to_string()])?;
    let start = Instant::now();
    loop {
        match peer::lines(&running.stdout()).pop() {
            Some(line) if line["idle"] == connections => break,
            Some(line) => return Err(Fault::new(format!("a connection failed: {line}"))),
            None if start.elapsed() > Duration::from_secs(300) => {
                return Err(Fault::new("they never all stood"));
            }
            None => sleep(Duration::from_millis(100)),
        }
    }
    let after = settled(subject)?;
    Ok(Sample {
        kib_per_connection: Some((after - before) / f64::from(connections)),
        rss_mib: Some(after / 1024.0),
        ..Sample::default()
    })
}

/// Resident memory once nothing happens any more.
fn settled(subject: &Subject) -> Result<f64, Fault> {
    sleep(Duration::from_secs(2));
    Ok(subject.usage()?.rss_kib)
}

/// Absent where there is no proxy.
fn proxied(subject: &Subject, value: f64) -> Result<Option<f64>, Fault> {
    Ok((subject.usage()?.rss_kib > 0.0).then_some(value))
}
