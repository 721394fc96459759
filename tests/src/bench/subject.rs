//! What is compared: nothing between client and server, two agents, or two HAProxy.

use super::{
    case::Case,
    haproxy,
    usage::{self, Usage},
};
use crate::{Family, Fault, Mesh, Running, Site, World, nginx, peer};
use std::{fmt, net::SocketAddr, ops::Deref};

/// Port of the server in every case.
pub const PORT: u16 = 8080;

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
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Posthaste => "posthaste",
            Self::PosthasteKernelCc => "posthaste-kernel-cc",
            Self::HaproxyTcp => "haproxy-tcp",
            Self::HaproxyHttp => "haproxy-http",
        })
    }
}

/// A client and a server with the subject between them. Fields are dropped in this order.
#[derive(Debug)]
pub struct Subject {
    _server_program: Running,
    _proxies: Vec<Running>,
    pids: Vec<u32>,
    client: Place,
    _server: Place,
    /// What the client calls.
    pub target: SocketAddr,
    _ground: Ground,
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
            Kind::Direct | Kind::HaproxyTcp | Kind::HaproxyHttp => Self::without_mesh(kind, case)?,
            Kind::Posthaste => Self::with_mesh("cubic", case)?,
            Kind::PosthasteKernelCc => Self::with_mesh("kernel", case)?,
        };
        subject.warm_up(case)?;
        Ok(subject)
    }

    /// The client's site.
    #[must_use]
    pub fn client(&self) -> &Site {
        &self.client
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
        let (client, server) = (mesh.pod("a", "client")?, mesh.pod("b", "server")?);
        let mut service = mesh.service_spec("server", PORT, &[&server]);
        // Said, so that each case measures the path that it names.
        service.app_protocol = Some(if case.is_http() { "http" } else { "tcp" }.to_owned());
        mesh.publish(&service)?;
        let program = serve(&server, case)?;
        let pids = vec![mesh.a.pid()?, mesh.b.pid()?];
        let address =
            service.cluster_ips.first().ok_or_else(|| Fault::new("a service without an address"))?;
        let target = SocketAddr::new(*address, 80);
        many_ports(&client)?;
        many_ports(&server)?;
        Ok(Self {
            _server_program: program,
            _proxies: Vec::new(),
            pids,
            client: Place::Pod(client),
            _server: Place::Pod(server),
            target,
            _ground: Ground::Mesh { _mesh: Box::new(mesh) },
        })
    }

    fn without_mesh(kind: Kind, case: Case) -> Result<Self, Fault> {
        let world = World::create()?;
        let (client, server) = (world.site("client", 2, 1)?, world.site("server", 3, 1)?);
        let program = serve(&server, case)?;
        let (proxies, target) = match kind {
            Kind::HaproxyTcp => haproxy::pair(&world, &client, &server, "tcp")?,
            Kind::HaproxyHttp => haproxy::pair(&world, &client, &server, "http\n http-reuse always")?,
            _ => (Vec::new(), server.at(Family::V4, PORT)),
        };
        many_ports(&client)?;
        many_ports(&server)?;
        Ok(Self {
            _server_program: program,
            pids: proxies.iter().map(Running::pid).collect(),
            _proxies: proxies,
            client: Place::Site(client),
            _server: Place::Site(server),
            target,
            _ground: Ground::World { _world: world },
        })
    }

    /// Handshakes, pools and first allocations are not what is measured.
    fn warm_up(&self, case: Case) -> Result<(), Fault> {
        let answer = match case {
            Case::Idle => peer::call(&self.client, "exchange", self.target, &["w"])?,
            Case::Keepalive | Case::Newconn | Case::HttpKeepalive | Case::HttpNewconn => {
                super::load::wrk(&self.client, self.target, case, 1)?;
                return Ok(());
            }
            // iperf3 answers only iperf3.
            Case::Bulk1 | Case::Bulk8 => {
                super::load::iperf(&self.client, self.target, 1, 1)?;
                return Ok(());
            }
        };
        match answer["answer"].as_str() {
            Some("w") => Ok(()),
            _ => Err(Fault::new(format!("the subject does not work: {answer}"))),
        }
    }
}

/// Enough local ports for a new connection per request.
fn many_ports(site: &Site) -> Result<(), Fault> {
    site.namespace().sysctl("net.ipv4.ip_local_port_range", "1024 65535")?;
    site.namespace().sysctl("net.ipv4.tcp_tw_reuse", "1")
}

fn serve(site: &Site, case: Case) -> Result<Running, Fault> {
    match case {
        Case::Idle => peer::serve(site, "hold", PORT),
        Case::Bulk1 | Case::Bulk8 => {
            let running = site.start(&["iperf3", "-s", "-p", &PORT.to_string()])?;
            site.wait_listening(PORT).map(|()| running)
        }
        Case::Keepalive | Case::Newconn | Case::HttpKeepalive | Case::HttpNewconn => {
            let body = "x".repeat(1024);
            let server = format!("listen {PORT} backlog=4096; default_type text/plain; return 200 {body};");
            let running = nginx::start(site, &server)?;
            site.wait_listening(PORT).map(|()| running)
        }
    }
}
