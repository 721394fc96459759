//! The scene: two nodes with their agents and a CA, pods with programs that know nothing of a mesh, and their services.
//! Everything ends when it is dropped.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use posthaste_tests::{Doing, Fault, Mesh, Pod, Running, ServiceSpec, Site, eventually};

use crate::catalog::Catalog;
use crate::picture::NodePicture;

/// What the answer of an order holds, and what must never be seen on the wire.
pub(crate) const SECRET: &str = "forty-two-golden-florins";

/// Port of both programs inside their pods.
const PORT: u16 = 8080;

/// Everything that runs. Dropped in this order: programs, pods, the mesh with its agents, the world below it.
pub(crate) struct Scene {
    programs: Vec<Running>,
    /// The first of the two endpoints of `orders`, the one that will be killed.
    pub(crate) doomed: Option<Running>,
    pub(crate) client: Pod,
    prices: Pod,
    pub(crate) orders: [Pod; 2],
    pub(crate) service: ServiceSpec,
    pub(crate) catalog: Catalog,
    pub(crate) mesh: Mesh,
    scripts: PathBuf,
}

impl Scene {
    /// Starts nodes and programs and waits until all of it answers.
    ///
    /// # Errors
    /// The first thing that does not start, with what it said.
    pub(crate) fn start() -> Result<Self, Fault> {
        let mut mesh = Mesh::start_strict()?;
        let scripts = mesh.world.folder().to_owned();
        write_scripts(&scripts)?;
        let client = mesh.pod("a", "client")?;
        let prices = mesh.pod("a", "prices")?;
        let orders = [mesh.pod("b", "orders-1")?, mesh.pod("b", "orders-2")?];
        let price_list = mesh.service("prices", PORT, &[&prices])?;
        let [first, second] = &orders;
        let service = mesh.service("orders", PORT, &[first, second])?;
        let catalog = Catalog::start(&mut mesh)?;
        let (programs, doomed) = (Vec::new(), None);
        let mut scene = Self { programs, doomed, client, prices, orders, service, catalog, mesh, scripts };
        scene.start_programs(&format!("http://{}/", address_of(&price_list)?))?;
        Ok(scene)
    }

    fn start_programs(&mut self, prices: &str) -> Result<(), Fault> {
        let script = |name: &str| self.scripts.join(name).display().to_string();
        let port = PORT.to_string();
        let price_list = self.prices.start(&["python3", &script("prices.py"), &port])?;
        let mut orders = Vec::new();
        for pod in &self.orders {
            orders.push(pod.start(&["python3", &script("orders.py"), &pod.name, &port, prices])?);
        }
        for site in [&self.prices.site, &self.orders[0].site, &self.orders[1].site] {
            wait_for_listener(site)?;
        }
        self.programs.push(price_list);
        self.programs.extend(orders.pop());
        self.doomed = orders.pop();
        Ok(())
    }

    /// `http://ADDRESS` of the service `orders`: IPv4, IPv6.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let addresses = self.service.cluster_ips.iter();
        addresses.map(|ip| format!("http://{}", SocketAddr::new(*ip, 80)).replace(":80", "")).collect()
    }

    /// A program that orders again and again over one connection that it keeps.
    pub(crate) fn start_steady_client(&mut self, count: u32, pause: f64) -> Result<(), Fault> {
        let script = self.scripts.join("client.py").display().to_string();
        let host = address_of(&self.service)?;
        let running =
            self.client.start(&["python3", &script, &host, &count.to_string(), &pause.to_string()])?;
        self.programs.push(running);
        Ok(())
    }

    /// The same price list outside the mesh, for comparison.
    pub(crate) fn start_outside(&mut self, site: &Site) -> Result<(), Fault> {
        let script = self.scripts.join("prices.py").display().to_string();
        self.programs.push(site.start(&["python3", &script, &PORT.to_string()])?);
        wait_for_listener(site)
    }

    /// What a drawing of it needs.
    pub(crate) fn pictures(&self) -> [NodePicture; 2] {
        let shown = |pod: &Pod| (pod.name.clone(), pod.v4.to_string());
        let all = [&self.client, &self.prices].into_iter().chain(&self.orders).chain(self.catalog.pods());
        let (left, right): (Vec<&Pod>, Vec<&Pod>) = all.partition(|pod| pod.spec.node == "a");
        [("a", left), ("b", right)]
            .map(|(name, pods)| NodePicture { name, pods: pods.into_iter().map(shown).collect() })
    }
}

/// `http://IP:8080/` of a site itself, past every service.
pub(crate) fn direct_url(site: &Site) -> String {
    format!("http://{}:{PORT}/", site.v4)
}

fn address_of(service: &ServiceSpec) -> Result<String, Fault> {
    let first = service.cluster_ips.first();
    first
        .map(ToString::to_string)
        .ok_or_else(|| Fault::new(format!("service {} has no address", service.name)))
}

fn write_scripts(folder: &std::path::Path) -> Result<(), Fault> {
    let scripts = [
        ("prices.py", include_str!("prices.py")),
        ("orders.py", include_str!("orders.py")),
        ("client.py", include_str!("client.py")),
    ];
    for (name, text) in scripts {
        std::fs::write(folder.join(name), text).doing(format!("write {name}"))?;
    }
    Ok(())
}

/// A connection over the pod's own loopback, which no capture touches.
fn wait_for_listener(site: &Site) -> Result<(), Fault> {
    let address = SocketAddr::from(([127, 0, 0, 1], PORT));
    eventually(&format!("the program in {} to listen", site.name), || {
        let connected =
            site.namespace().inside(|| TcpStream::connect_timeout(&address, Duration::from_secs(1)));
        match connected {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(fault) => Err(fault.to_string()),
        }
    })
}
