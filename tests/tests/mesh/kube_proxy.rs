//! Beside kube-proxy, in each of its modes: the connect hook sees the address of a service before any rule on packets does, pods
//! that are not captured go by the rules, and so does the agent itself.

use crate::scene::{Scene, cluster_ip, failed, logs, mentions};
use posthaste_tests::{
    Family, Mesh, Pod, ServiceSpec, Sniffer,
    agent::wait_json,
    eventually,
    kube_proxy::{Mode, ServicePort, dialled, ipvs_device, load, watch},
    mesh::NAMESPACE,
    objects, peer,
    site::FAMILIES,
    wait::holds,
};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const NEEDLE: &str = "through-the-service";
/// Calls that leave none of two endpoints out.
const CALLS: usize = 16;
/// Port of tunnels.
const TUNNEL: u16 = 15008;
/// The CA behind a service, as in a cluster.
const CA: &str = "10.96.200.1:15012";

/// A client and two servers behind a service, a pod that opts out, and rules in every namespace that packets to a service come through:
/// those of the nodes, from which the agents call, and the one between the pods.
struct Beside {
    client: Pod,
    bystander: Pod,
    servers: [Pod; 2],
    service: ServiceSpec,
    // Last: pods end before the world.
    mesh: Mesh,
}

/// Sends what a pod has for the pods of a group through the namespace between them, as a node routes it, and not straight over the bridge.
fn through_the_node(mesh: &Mesh, pod: &Pod, group: u8) {
    for scope in ["all", "br0"] {
        mesh.world.bridge().sysctl(&format!("net.ipv4.conf.{scope}.send_redirects"), "0").unwrap();
    }
    pod.namespace().sysctl("net.ipv6.conf.eth0.accept_redirects", "0").unwrap();
    let routes =
        format!("route add 10.77.{group}.0/24 via 10.77.0.1\nroute add fd77::{group}:0/112 via fd77::1\n");
    pod.namespace().ip(&routes).unwrap();
}

impl Beside {
    fn start(mode: Mode) -> Self {
        let mut mesh = Mesh::prepare(&[]).unwrap();
        let client = mesh.pod_with("a", "client", |_| {}).unwrap();
        let out = ("posthaste.dev/mesh".to_owned(), "disabled".to_owned());
        let bystander = mesh.pod_with("a", "bystander", |spec| spec.labels.push(out)).unwrap();
        let servers = ["first", "second"].map(|name| mesh.pod_with("b", name, |_| {}).unwrap());
        let service = mesh.service_spec("server", 8080, &[&servers[0], &servers[1]]);
        let mut ports: Vec<ServicePort> = FAMILIES
            .iter()
            .map(|family| ServicePort {
                service: format!("{NAMESPACE}/server"),
                port: "main".to_owned(),
                address: cluster_ip(&service, *family),
                endpoints: servers.iter().map(|server| server.at(*family, 8080)).collect(),
            })
            .collect();
        ports.push(ServicePort {
            service: "posthaste-system/posthaste-ca".to_owned(),
            port: "istio-ca".to_owned(),
            address: CA.parse().unwrap(),
            endpoints: vec![mesh.authority.address()],
        });
        let tunnels = servers.iter().flat_map(|server| FAMILIES.map(|family| server.at(family, TUNNEL)));
        let watched: Vec<SocketAddr> = ports.iter().map(|port| port.address).chain(tunnels).collect();
        for namespace in [mesh.a.site.namespace(), mesh.b.site.namespace(), mesh.world.bridge()] {
            load(namespace, mode, &ports).unwrap();
            watch(namespace, &watched).unwrap();
        }
        [&client, &bystander].into_iter().for_each(|pod| through_the_node(&mesh, pod, 3));
        servers.iter().for_each(|pod| through_the_node(&mesh, pod, 2));
        for agent in [&mut mesh.a, &mut mesh.b] {
            agent.settings.ca_address = Some(format!("https://{CA}"));
        }
        mesh.run().unwrap();
        servers.iter().chain([&client]).for_each(|pod| mesh.settle(pod).unwrap());
        mesh.publish(&service).unwrap();
        Self { client, bystander, servers, service, mesh }
    }

    fn address(&self, family: Family) -> SocketAddr {
        cluster_ip(&self.service, family)
    }

    fn call(&self, from: &Pod, family: Family) -> Value {
        peer::call(from, "exchange", self.address(family), &[NEEDLE]).unwrap()
    }

    /// Connections to the service that came to the rules between the pods.
    fn by_the_rules(&self, family: Family) -> u64 {
        dialled(self.mesh.world.bridge(), self.address(family)).unwrap()
    }
}

fn captured_beside(mode: Mode) {
    let mut beside = Beside::start(mode);
    let _echoes = beside.servers.each_ref().map(|server| peer::serve(server, "echo", 8080).unwrap());
    for agent in [&beside.mesh.a, &beside.mesh.b] {
        let valid = |certs: &Value| mentions(certs, &["\"valid\""]);
        wait_json(agent, &["certs"], valid).unwrap();
        let dialled = dialled(agent.site.namespace(), CA.parse().unwrap()).unwrap();
        assert!(dialled > 0, "{mode:?}: the agent of {} reached the CA by no rule", agent.node());
    }
    for family in FAMILIES {
        let answer = beside.call(&beside.bystander, family);
        assert_eq!(answer["answer"], NEEDLE, "{mode:?} {family:?}: {answer}\n{}", logs(&beside.mesh));
        assert!(beside.by_the_rules(family) > 0, "{mode:?} {family:?}: the rules are no use");
    }
    let sniffer = Sniffer::start(beside.mesh.world.bridge(), &[NEEDLE]).unwrap();
    for family in FAMILIES {
        let before = beside.by_the_rules(family);
        for _ in 0..CALLS {
            let answer = beside.call(&beside.client, family);
            assert_eq!(answer["answer"], NEEDLE, "{mode:?} {family:?}: {answer}\n{}", logs(&beside.mesh));
            assert_eq!(answer["getpeername"], beside.address(family).to_string());
        }
        assert_eq!(beside.by_the_rules(family), before, "{mode:?} {family:?}: the rules saw a captured call");
        let hostname = format!("{}.{}.svc", beside.service.name, beside.service.namespace);
        for server in &beside.servers {
            let endpoint = server.at(family, 8080).to_string();
            let is_it = |line: &Value| mentions(line, &[&hostname, &endpoint]);
            beside.mesh.a.wait_for_log("a call of the service at each endpoint", is_it).unwrap();
            // The tunnel goes through the rules, which leave it alone: its mark is none of theirs, and its source stays.
            let tunnels = dialled(beside.mesh.world.bridge(), server.at(family, TUNNEL)).unwrap();
            assert!(tunnels > 0, "{mode:?} {family:?}: the tunnel went past the node");
            let caller = format!("\"source\":{{\"address\":\"{}", beside.client.at(family, 0));
            let caller = caller.trim_end_matches('0').to_owned();
            let came = |line: &Value| mentions(line, &[&caller, &endpoint]);
            beside.mesh.b.wait_for_log("the call with the caller's own address", came).unwrap();
        }
    }
    assert_eq!(sniffer.hits(), 0, "{mode:?}: {:?}", sniffer.seen());
    // Let go, pods go by the rules again.
    beside.mesh.manifests.put(objects::namespace(NAMESPACE, false, &[]));
    beside.mesh.manifests.apply().unwrap();
    for family in FAMILIES {
        let before = beside.by_the_rules(family);
        eventually("a call that goes by the rules", || {
            let answer = beside.call(&beside.client, family);
            let is_straight = beside.by_the_rules(family) > before && sniffer.hits() > 0;
            holds(answer["answer"] == NEEDLE && is_straight, format!("{mode:?} {family:?}: {answer}"))
        })
        .unwrap();
    }
}

#[test]
fn iptables_mode_sees_nothing_of_what_is_captured() {
    captured_beside(Mode::IptablesNft);
}

#[test]
fn iptables_mode_with_the_kernels_own_tables_sees_nothing_of_what_is_captured() {
    captured_beside(Mode::IptablesLegacy);
}

#[test]
fn nftables_mode_sees_nothing_of_what_is_captured() {
    captured_beside(Mode::Nftables);
}

/// In the `ipvs` mode every ClusterIP is an address of the node: more of them than the agent keeps addresses, and none that a probe comes from.
#[test]
fn service_addresses_on_the_device_of_ipvs_mode_are_not_taken_for_the_nodes_own() {
    let mesh = Mesh::prepare(&[("mtls", "strict")]).unwrap();
    let others = (0..=255).flat_map(|a| (1..=2).map(move |b| Ipv4Addr::new(10, 96, b, a).into()));
    let v6: IpAddr = "fd96::1".parse().unwrap();
    let addresses: Vec<IpAddr> = others.chain([Ipv4Addr::new(10, 96, 0, 1).into(), v6]).collect();
    for namespace in [mesh.a.site.namespace(), mesh.b.site.namespace(), mesh.world.bridge()] {
        ipvs_device(namespace, addresses.iter().copied()).unwrap();
    }
    let mut mesh = mesh;
    mesh.run().unwrap();
    let mut scene = Scene::within(mesh);
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    let outside = scene.mesh.outsider("outside").unwrap();
    let sniffer = Sniffer::start(scene.mesh.world.bridge(), &[NEEDLE]).unwrap();
    for family in FAMILIES {
        let service = scene.address(family);
        assert!(addresses.contains(&service.ip()), "{service}");
        // Without the rules of IPVS the node itself answers for the address, and nobody listens there.
        let answer = peer::call(&outside, "exchange", service, &["x"]).unwrap();
        assert_eq!(answer["error"], "ConnectionRefused", "{answer}");
        let answer = peer::call(&scene.client, "exchange", service, &[NEEDLE]).unwrap();
        assert_eq!(answer["answer"], NEEDLE, "{answer}\n{}", scene.logs());
        assert_eq!(answer["getpeername"], service.to_string());
        // Probes come from an address of the node, and pass.
        let probe = scene.server.at(family, 8080);
        let answer = peer::call(&scene.mesh.b.site, "exchange", probe, &["a probe"]).unwrap();
        assert_eq!(answer["answer"], "a probe", "{answer}\n{}", scene.logs());
        assert!(failed(&peer::call(&outside, "exchange", probe, &["x"]).unwrap()), "the pod is strict");
    }
    assert_eq!(sniffer.hits(), 0, "{:?}", sniffer.seen());
    for agent in [&scene.mesh.a, &scene.mesh.b] {
        let status = agent.json(&["status"]).unwrap();
        assert_eq!(status["problems"], Value::Array(Vec::new()), "{status}");
        let maps = status["capture"]["maps"].as_array().unwrap();
        let kept = maps.iter().find(|map| map["name"] == "NODE_ADDRESSES").unwrap();
        assert!(kept["entries"].as_u64() <= Some(4), "{kept}");
    }
}
