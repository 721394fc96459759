//! `posthaste connections`: what goes through the agent now, and what went through it of late.

use super::{
    CliError, Options, Output, client, joined, present,
    table::{Column, Fit, WIDE, draw},
    terminal,
    units::{age, bytes, micros},
};
use crate::observe::{
    Direction, Security, TcpInfo,
    views::{ConnectionView, ConnectionsView, PartyView},
};
use std::{io::Write, time::Duration};

/// Which of them, and how often.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ConnectionsArguments {
    /// Ask again each second until Ctrl-C
    #[arg(short, long)]
    pub watch: bool,
    /// With --watch: end after so many answers
    #[arg(long, requires = "watch")]
    pub count: Option<u64>,
    /// Those that closed of late, with the reason
    #[arg(long)]
    pub closed: bool,
    /// Both ends in one line, with who took the time: asks the agents at --admin-socket and at each --peer-socket
    #[arg(long, conflicts_with = "state")]
    pub joined: bool,
    /// Only with a pod of this namespace
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Only with this pod
    #[arg(short, long)]
    pub pod: Option<String>,
    /// Only to this service: `name`, `name.namespace` or the whole host name
    #[arg(short, long)]
    pub service: Option<String>,
    /// `connecting`, `open` or `closed`
    #[arg(long, value_parser = ["connecting", "open", "closed"])]
    pub state: Option<String>,
}

/// Asks and shows, once or each second.
pub(super) fn show(
    options: &Options,
    arguments: &ConnectionsArguments,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let target = target(arguments);
    let turns = if arguments.watch { arguments.count.unwrap_or(u64::MAX) } else { 1 };
    for turn in 0..turns {
        if turn > 0 {
            std::thread::sleep(Duration::from_secs(1));
        }
        if arguments.joined {
            let joined = joined::ask(options, &target)?;
            present(options, &joined, out, |fit| joined::text(&joined, fit))?;
            continue;
        }
        let view: ConnectionsView = client::ask(&options.place, &target)?;
        if arguments.watch && options.output != Output::Json && terminal::is_terminal() {
            // To the corner, and clear what is below.
            out.write_all(b"\x1b[H\x1b[J")?;
        }
        present(options, &view, out, |fit| text(&view, arguments.closed, fit))?;
    }
    Ok(())
}

fn target(arguments: &ConnectionsArguments) -> String {
    // An end that is over is looked for as well as one that lives on: of a pooled tunnel the called one does.
    let all = arguments.joined && !arguments.closed;
    let mut target = format!("/connections?closed={}&all={all}", arguments.closed);
    let filters = [
        ("namespace", &arguments.namespace),
        ("pod", &arguments.pod),
        ("service", &arguments.service),
        ("state", &arguments.state),
    ];
    for (name, value) in filters {
        if let Some(value) = value {
            // Names of objects have only these characters; others fit nothing, and must not break the request.
            let plain = |one: &char| one.is_ascii_alphanumeric() || "-._".contains(*one);
            let value: String = value.chars().map(|one| if plain(&one) { one } else { '_' }).collect();
            target.push_str(&format!("&{name}={value}"));
        }
    }
    target
}

fn text(view: &ConnectionsView, closed: bool, fit: Fit) -> String {
    if view.connections.is_empty() {
        return format!(
            "no {}connections to show ({} live)\n",
            if closed { "closed " } else { "" },
            view.active
        );
    }
    let rows: Vec<Vec<String>> = view.connections.iter().map(row).collect();
    let mut text = draw(&columns(closed), &rows, fit);
    if view.truncated {
        text.push_str(&format!("only {} are shown; use --namespace, --pod or --service\n", rows.len()));
    }
    text
}

fn columns(closed: bool) -> [Column; 19] {
    let column = Column::new;
    [
        column("DIR", 1, 3),
        column("SOURCE", 0, 12),
        column("DESTINATION", 0, 12),
        column("SERVICE", 4, 12),
        column("PROTOCOL", 5, 4),
        column("ENDPOINT", 6, 15),
        column("SECURITY", 2, 4),
        column("RECEIVED", 3, 7),
        column("SENT", 3, 7),
        column("AGE", 2, 5),
        column(if closed { "REASON" } else { "STATE" }, 0, 6),
        column("RTT", 7, 5),
        column("RETRANS", 8, 7),
        column("KNOWN-BY", WIDE, 7),
        column("SERVER-NAME", WIDE, 11),
        column("POLICY", WIDE, 20),
        column("ID", WIDE, 16),
        column("SOURCE-ID", WIDE, 20),
        column("DESTINATION-ID", WIDE, 20),
    ]
}

fn row(one: &ConnectionView) -> Vec<String> {
    let dash = || "-".to_owned();
    let sockets = [one.application_socket, one.network_socket];
    vec![
        match one.direction {
            Direction::Inbound => "in".to_owned(),
            Direction::Outbound => "out".to_owned(),
        },
        party(&one.source),
        party(&one.destination),
        one.service.as_deref().map_or_else(dash, short_service),
        one.protocol.map_or_else(dash, |protocol| protocol.as_str().to_owned()),
        one.endpoint.clone().unwrap_or_else(dash),
        match one.security {
            Security::MutualTls => "mtls".to_owned(),
            Security::None => "plain".to_owned(),
        },
        bytes(one.received_bytes),
        bytes(one.sent_bytes),
        age(one.age_ms),
        one.reason.map_or_else(|| one.state.clone(), |reason| reason.to_string()),
        both(sockets, |info| micros(u64::from(info.srtt_us))),
        both(sockets, |info| info.retransmits.to_string()),
        one.protocol_why.map_or_else(dash, |why| why.as_str().to_owned()),
        one.server_name.clone().unwrap_or_else(dash),
        one.policy.clone().unwrap_or_else(dash),
        one.id.clone(),
        one.source.principal.clone().unwrap_or_else(dash),
        one.destination.principal.clone().unwrap_or_else(dash),
    ]
}

/// Of the application's socket and of the network's.
pub(super) fn both(sockets: [Option<TcpInfo>; 2], show: impl Fn(TcpInfo) -> String) -> String {
    sockets.map(|info| info.map_or_else(|| "-".to_owned(), &show)).join("/")
}

/// The pod, where it is known, else the address.
pub(super) fn party(party: &PartyView) -> String {
    match (&party.namespace, &party.pod, &party.address) {
        (Some(namespace), Some(pod), _) => format!("{namespace}/{pod}"),
        (_, _, Some(address)) => address.clone(),
        _ => party.principal.clone().unwrap_or_else(|| "-".to_owned()),
    }
}

/// What a record says, stage by stage, as pairs of a word and what it says.
pub(super) fn facts(record: &ConnectionView) -> Vec<(&'static str, String)> {
    let stages = record.stages;
    let at = |us: Option<u64>| us.map_or_else(|| "-".to_owned(), |us| format!("after {}", micros(us)));
    let said = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let protocol = record.protocol.map_or("-", |protocol| protocol.as_str());
    let why = record.protocol_why.map_or("-", |why| why.as_str());
    let sockets = [record.application_socket, record.network_socket];
    let (own, other) = (said(&record.source.principal), said(&record.destination.principal));
    let end = record.reason.map_or_else(
        || record.state.clone(),
        |reason| format!("{reason}, by {}", record.ended_by.map_or("-", |who| who.as_str())),
    );
    vec![
        ("from", format!("{} ({})", party(&record.source), said(&record.source.address))),
        ("to", format!("{} ({})", party(&record.destination), said(&record.destination.address))),
        ("taken up", at(stages.taken_us)),
        (
            "routed",
            format!(
                "{}: service {}, endpoint {}",
                at(stages.routed_us),
                said(&record.service),
                said(&record.endpoint)
            ),
        ),
        ("protocol", format!("{protocol}, by {why}")),
        ("dialled", format!("{}, in {} attempts", at(stages.dialled_us), record.attempts)),
        ("tls", at(stages.tls_us)),
        ("tunnel", at(stages.tunnel_us)),
        ("identities", format!("{own} -> {other}, {}", record.security.as_str())),
        ("request", at(stages.request_us)),
        ("answer", at(stages.answer_us)),
        (
            "sockets",
            format!(
                "round trips {}, retransmits {} (application/network)",
                both(sockets, |info| micros(u64::from(info.srtt_us))),
                both(sockets, |info| info.retransmits.to_string())
            ),
        ),
        ("bytes", format!("{} received, {} sent", bytes(record.received_bytes), bytes(record.sent_bytes))),
        ("ended", format!("{end}, after {}", age(record.age_ms))),
    ]
}

/// `name.namespace` of a host name.
pub(super) fn short_service(hostname: &str) -> String {
    hostname.splitn(3, '.').take(2).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn view() -> ConnectionsView {
        let party = |pod: &str, address: &str| PartyView {
            namespace: Some("shop".to_owned()),
            pod: Some(pod.to_owned()),
            workload: Some(pod.to_owned()),
            principal: Some(format!("spiffe://cluster.local/ns/shop/sa/{pod}")),
            address: Some(address.to_owned()),
        };
        let socket = TcpInfo { srtt_us: 420, rttvar_us: 10, retransmits: 3, congestion_window: 10 };
        let connection = ConnectionView {
            id: "00000000000000ff".to_owned(),
            direction: Direction::Outbound,
            state: "open".to_owned(),
            source: party("cart-5d9f", "10.0.0.5:40000"),
            destination: party("catalog-7c4b", "10.96.0.7:80"),
            service: Some("catalog.shop.svc.cluster.local".to_owned()),
            protocol: Some(crate::snapshot::Protocol::Http),
            protocol_why: Some(crate::snapshot::protocol::Why::FirstBytes),
            server_name: None,
            endpoint: Some("10.0.1.9:8080".to_owned()),
            security: Security::MutualTls,
            sent_bytes: 1_500_000,
            received_bytes: 321,
            age_ms: 61_000,
            attempts: 1,
            connect_ms: Some(2),
            stages: Default::default(),
            application_socket: Some(socket),
            network_socket: None,
            reason: None,
            ended_by: None,
            flag: None,
            policy: None,
        };
        ConnectionsView { active: 1, connections: vec![connection], truncated: false }
    }

    fn at(width: usize) -> String {
        text(&view(), false, Fit { width: Some(width), wide: false })
    }

    #[test]
    fn tables_fit_three_terminals() {
        assert_eq!(
            at(60),
            "DIR  SOURCE          DESTINATION       SECURITY  AGE   STATE\n\
             out  shop/cart-5d9f  shop/cat…og-7c4b  mtls      1m1s  open\n"
        );
        assert_eq!(
            at(80),
            "DIR  SOURCE          DESTINATION        SECURITY  RECEIVED  SENT     AGE   STATE\n\
             out  shop/cart-5d9f  shop/catalog-7c4b  mtls      321 B     1.4 MiB  1m1s  open\n"
        );
        let heads = "DIR  SOURCE          DESTINATION        SERVICE       PROTOCOL  ENDPOINT       SECURITY  RECEIVED  SENT  ";
        let row = "out  shop/cart-5d9f  shop/catalog-7c4b  catalog.shop  http      10.0.1.9:8080  mtls      321 B     1.4 MiB";
        assert_eq!(
            at(200),
            format!("{heads}   AGE   STATE  RTT      RETRANS\n{row}  1m1s  open   420us/-  3/-\n")
        );
        for width in 40..220 {
            let longest = at(width).lines().map(|line| line.chars().count()).max().unwrap();
            assert!(longest <= width, "{longest} of {width}");
        }
    }

    #[test]
    fn a_filter_cannot_break_the_request() {
        let arguments =
            ConnectionsArguments { pod: Some("a b\r\nx&y".to_owned()), ..ConnectionsArguments::default() };
        assert_eq!(target(&arguments), "/connections?closed=false&all=false&pod=a_b__x_y");
    }
}
