//! What is compared: nothing between client and server, two agents, two HAProxy, or two Envoy.

use super::{
    case::Case,
    envoy, haproxy,
    usage::{self, Usage},
};
use crate::{Family, Fault, Mesh, Running, Site, World, nginx, peer};
use std::{fmt, net::SocketAddr, ops::Deref};

/// Port of the server in every case.
pub const PORT: u16 = 8080;
/// Congestion control of everybody in the cases of HTTP: the one that the kernel lets a network namespace choose whatever the
/// machine's default is.
const CONGESTION: &str = "reno";

/// A subject's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// No proxy.
    Direct,
    /// Two agents with the congestion control that they choose.
    Posthaste,
    /// Two agents with the kernel's congestion control.
    PosthasteKernelCc,
    /// Two HAProxy in TCP mode, mutual TLS between them.
    HaproxyTcp,
    /// Two HAProxy in HTTP mode that reuse their connections, mutual TLS between them.
    HaproxyHttp,
    /// Two Envoy with HTTP connection managers, mutual TLS between them.
    EnvoyHttp,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Posthaste => "posthaste",
            Self::PosthasteKernelCc => "posthaste-kernel-cc",
            Self::HaproxyTcp => "haproxy-tcp",
            Self::HaproxyHttp => "haproxy-http",
            Self::EnvoyHttp => "envoy-http",
        })
    }
}

/// Clients and servers with the subject between them. Fields are dropped in this order.
#[derive(Debug)]
pub struct Subject {
    _proxies: Vec<Running>,
    own: Line,
    neighbour: Option<Line>,
    pids: Vec<u32>,
    _ground: Ground,
}

/// A client and its server.
#[derive(Debug)]
pub struct Line {
    _program: Running,
    client: Place,
    _server: Place,
    /// What the client calls.
    pub target: SocketAddr,
}

impl Line {
    fn new(client: Place, server: Place, target: SocketAddr, case: Case) -> Result<Self, Fault> {
        for place in [&client, &server] {
            set_up(place, case)?;
        }
        let program = serve(&server, case)?;
        Ok(Self { _program: program, client, _server: server, target })
    }

    /// The client's site.
    #[must_use]
    pub fn client(&self) -> &Site {
        &self.client
    }
}

impl Deref for Subject {
    type Target = Line;

    fn deref(&self) -> &Line {
        &self.own
    }
}

/// The client's or the server's site, as a pod of the mesh or without one.
#[derive(Debug)]
enum Place {
    Pod(crate::Pod),
    Site(Site),
}

impl Deref for Place {
    type Target = Site;

    fn deref(&self) -> &Site {
        match self {
            Self::Pod(pod) => &pod.site,
            Self::Site(site) => site,
        }
    }
}

#[derive(Debug)]
enum Ground {
    Mesh { _mesh: Box<Mesh> },
    World { _world: World },
}

impl Subject {
    /// Builds it and sees one exchange work.
    ///
    /// # Errors
    /// A program is missing or does not start.
    pub fn build(kind: Kind, case: Case) -> Result<Self, Fault> {
        let subject = match kind {
            Kind::Direct | Kind::HaproxyTcp | Kind::HaproxyHttp | Kind::EnvoyHttp => {
                Self::without_mesh(kind, case)?
            }
            Kind::Posthaste => Self::with_mesh(if case.is_http() { CONGESTION } else { "cubic" }, case)?,
            Kind::PosthasteKernelCc => Self::with_mesh("kernel", case)?,
        };
        subject.warm_up(case)?;
        Ok(subject)
    }

    /// The client beside it with its server, in the case `neighbour`.
    #[must_use]
    pub fn neighbour(&self) -> Option<&Line> {
        self.neighbour.as_ref()
    }

    /// CPU time and memory of the proxies together.
    ///
    /// # Errors
    /// One of them has ended.
    pub fn usage(&self) -> Result<Usage, Fault> {
        usage::of(&self.pids)
    }

    fn with_mesh(congestion: &str, case: Case) -> Result<Self, Fault> {
        let mut mesh = Mesh::prepare(&[("mtls", "strict")])?;
        for agent in [&mut mesh.a, &mut mesh.b] {
            agent.settings.workers = 1;
            congestion.clone_into(&mut agent.settings.congestion);
        }
        mesh.authority.start()?;
        mesh.a.restart()?;
        mesh.b.restart()?;
        let own = in_mesh(&mut mesh, ["client", "server"], case)?;
        let neighbour = (case == Case::Neighbour)
            .then(|| in_mesh(&mut mesh, ["neighbour", "neighbours-server"], case))
            .transpose()?;
        let pids = vec![mesh.a.pid()?, mesh.b.pid()?];
        Ok(Self {
            own,
            neighbour,
            _proxies: Vec::new(),
            pids,
            _ground: Ground::Mesh { _mesh: Box::new(mesh) },
        })
    }

    fn without_mesh(kind: Kind, case: Case) -> Result<Self, Fault> {
        let world = World::create()?;
        let (client, server) = (world.site("client", 2, 1)?, world.site("server", 3, 1)?);
        for site in [&client, &server] {
            set_up(site, case)?;
        }
        let (proxies, target) = match kind {
            Kind::HaproxyTcp => haproxy::pair(&world, &client, &server, "tcp")?,
            Kind::HaproxyHttp => haproxy::pair(&world, &client, &server, "http\n http-reuse always")?,
            Kind::EnvoyHttp => envoy::pair(&world, &client, &server)?,
            _ => (Vec::new(), server.at(Family::V4, PORT)),
        };
        let own = Line::new(Place::Site(client), Place::Site(server), target, case)?;
        let beside = || -> Result<Line, Fault> {
            let (client, server) = (world.site("neighbour", 2, 2)?, world.site("neighbours-server", 3, 2)?);
            let target = server.at(Family::V4, PORT);
            Line::new(Place::Site(client), Place::Site(server), target, case)
        };
        let neighbour = (case == Case::Neighbour).then(beside).transpose()?;
        let pids = proxies.iter().map(Running::pid).collect();
        Ok(Self { own, neighbour, _proxies: proxies, pids, _ground: Ground::World { _world: world } })
    }

    /// Handshakes, pools and first allocations are not what is measured.
    fn warm_up(&self, case: Case) -> Result<(), Fault> {
        let answer = match case {
            Case::Idle => peer::call(self.client(), "exchange", self.target, &["w"])?,
            Case::Keepalive | Case::Newconn | Case::HttpKeepalive | Case::HttpNewconn | Case::Neighbour => {
                super::load::wrk(self.client(), self.target, case, 1)?;
                return Ok(());
            }
            Case::Scale100k => return Err(no_pair()),
            // iperf3 answers only iperf3.
            Case::Bulk1 | Case::Bulk8 => {
                super::load::iperf(self.client(), self.target, 1, 1)?;
                return Ok(());
            }
        };
        match answer["answer"].as_str() {
            Some("w") => Ok(()),
            _ => Err(Fault::new(format!("the subject does not work: {answer}"))),
        }
    }
}

/// Two pods of the mesh with a service between them.
fn in_mesh(mesh: &mut Mesh, [client, server]: [&str; 2], case: Case) -> Result<Line, Fault> {
    let (client, server) = (mesh.pod("a", client)?, mesh.pod("b", server)?);
    let mut service = mesh.service_spec(&server.name, PORT, &[&server]);
    // Said, so that each case measures the path that it names.
    service.app_protocol = Some(if case.is_http() { "http" } else { "tcp" }.to_owned());
    mesh.publish(&service)?;
    let address = service.cluster_ips.first().ok_or_else(|| Fault::new("a service without an address"))?;
    Line::new(Place::Pod(client), Place::Pod(server), SocketAddr::new(*address, 80), case)
}

/// Enough local ports for a new connection per request; for HTTP one congestion control, whoever opens the socket.
fn set_up(site: &Site, case: Case) -> Result<(), Fault> {
    let namespace = site.namespace();
    namespace.sysctl("net.ipv4.ip_local_port_range", "1024 65535")?;
    namespace.sysctl("net.ipv4.tcp_tw_reuse", "1")?;
    if case.is_http() { namespace.sysctl("net.ipv4.tcp_congestion_control", CONGESTION) } else { Ok(()) }
}

fn no_pair() -> Fault {
    Fault::new("scale-100k is about one agent and an API server; there is nothing between two pods")
}

fn serve(site: &Site, case: Case) -> Result<Running, Fault> {
    match case {
        Case::Idle => peer::serve(site, "hold", PORT),
        Case::Scale100k => Err(no_pair()),
        Case::Bulk1 | Case::Bulk8 => {
            let running = site.start(&["iperf3", "-s", "-p", &PORT.to_string()])?;
            site.wait_listening(PORT).map(|()| running)
        }
        Case::Keepalive | Case::Newconn | Case::HttpKeepalive | Case::HttpNewconn | Case::Neighbour => {
            let body = "x".repeat(1024);
            let server = format!("listen {PORT} backlog=4096; default_type text/plain; return 200 {body};");
            let running = nginx::start(site, &server)?;
            site.wait_listening(PORT).map(|()| running)
        }
    }
}
