//! A mesh: a world with a CA, two nodes with their agents, and manifests.

use crate::{
    Agent, Authority, EndpointSpec, Fault, ServiceSpec, Site, World,
    agent::{AgentSettings, wait_json},
    cluster::{Cluster, Mirror, Shared},
    kubelet,
    manifests::Manifests,
    objects::{self, PodSpec},
};
use serde_json::{Value, json};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Deref,
};

/// Kubernetes namespace of the pods of a test.
pub const NAMESPACE: &str = "shop";

/// What two nodes need to talk. Fields are dropped in this order: agents before the world.
#[derive(Debug)]
pub struct Mesh {
    /// Agent of node `a`.
    pub a: Agent,
    /// Agent of node `b`.
    pub b: Agent,
    /// The CA.
    pub authority: Authority,
    /// The objects.
    pub manifests: Manifests,
    /// The API server that the agents follow, where there is one.
    pub cluster: Option<Shared>,
    pods: u8,
    services: u8,
    /// Bridge, cgroup, scratch folder.
    pub world: World,
}

/// A pod: its site and what its object says. It ends (processes, network namespace) on drop; the object stays until
/// [`Mesh::remove`].
#[derive(Debug)]
pub struct Pod {
    /// Where its programs run.
    pub site: Site,
    /// The object.
    pub spec: PodSpec,
}

impl Deref for Pod {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

impl Mesh {
    /// Two nodes, a CA and the namespace `shop` with these annotations, all running and ready.
    ///
    /// # Errors
    /// Anything that does not start, with what it said.
    pub fn start(annotations: &[(&str, &str)]) -> Result<Self, Fault> {
        let mut mesh = Self::prepare(annotations)?;
        mesh.run()?;
        Ok(mesh)
    }

    /// Starts what was prepared and waits until it is ready.
    ///
    /// # Errors
    /// Anything that does not start, with what it said.
    pub fn run(&mut self) -> Result<(), Fault> {
        self.authority.start()?;
        self.a.start()?;
        self.b.start()?;
        self.a.wait_ready()?;
        self.b.wait_ready()
    }

    /// The same with plaintext refused.
    ///
    /// # Errors
    /// Anything that does not start, with what it said.
    pub fn start_strict() -> Result<Self, Fault> {
        Self::start(&[("mtls", "strict")])
    }

    /// Everything made, nothing started: for tests that start it their own way.
    ///
    /// # Errors
    /// Not root, no `ip`, no cgroup v2.
    pub fn prepare(annotations: &[(&str, &str)]) -> Result<Self, Fault> {
        let world = World::create()?;
        let authority = Authority::prepare(world.site("ca", 1, 2)?, world.folder())?;
        let mut manifests = Manifests::create(&world.folder().join("manifests"))?;
        manifests.put(objects::namespace(NAMESPACE, true, annotations));
        manifests.apply()?;
        let settings = AgentSettings {
            manifests: manifests.folder().to_owned(),
            kubeconfig: None,
            ca_address: Some(authority.url()),
            ca_root: authority.root(),
            join_token: authority.join_token(),
            cgroup_root: world.cgroup().path().to_owned(),
            workers: 2,
            congestion: "cubic".to_owned(),
            zone: None,
            extra: Vec::new(),
        };
        let node = |name: &str, number: u8| {
            let folder = format!("{}/agent", kubelet::node_folder(name));
            let site = world.site_in(&format!("node-{name}"), 1, number, &folder)?;
            let settings = AgentSettings { zone: Some(format!("zone-{name}")), ..settings.clone() };
            Agent::prepare(site, settings, world.folder(), world.prefix())
        };
        let (a, b) = (node("a", 11)?, node("b", 12)?);
        Ok(Self { a, b, authority, manifests, cluster: None, pods: 0, services: 0, world })
    }

    /// The same as [`Mesh::prepare`], with an API server that serves the objects; the agents follow it with the rights that are shipped.
    ///
    /// # Errors
    /// Not root, no `ip`, no cgroup v2, or the server does not start.
    pub fn prepare_in_cluster(annotations: &[(&str, &str)]) -> Result<Self, Fault> {
        let mut mesh = Self::prepare(annotations)?;
        let mut cluster = Cluster::prepare(mesh.world.site("api", 1, 3)?, mesh.world.folder());
        cluster.start()?;
        cluster.install_crds()?;
        let kubeconfig = cluster.agent_kubeconfig()?;
        mesh.a.settings.kubeconfig = Some(kubeconfig.clone());
        mesh.b.settings.kubeconfig = Some(kubeconfig);
        let cluster = Shared::new(cluster);
        mesh.manifests.mirror(Mirror::new(cluster.clone()));
        mesh.manifests.apply()?;
        mesh.cluster = Some(cluster);
        // The first addresses of a cluster's services are the API server's own.
        mesh.services = 9;
        Ok(mesh)
    }

    /// Two nodes, a CA and an API server, all running and ready.
    ///
    /// # Errors
    /// Anything that does not start, with what it said.
    pub fn start_in_cluster(annotations: &[(&str, &str)]) -> Result<Self, Fault> {
        let mut mesh = Self::prepare_in_cluster(annotations)?;
        mesh.run()?;
        Ok(mesh)
    }

    /// The agent of a node.
    #[must_use]
    pub fn agent(&self, node: &str) -> &Agent {
        if node == "a" { &self.a } else { &self.b }
    }

    /// A new pod of `shop` on node `a` or `b`, captured when this returns.
    ///
    /// # Errors
    /// It cannot be made, or its agent does not enrol it in time.
    pub fn pod(&mut self, node: &str, name: &str) -> Result<Pod, Fault> {
        let pod = self.pod_with(node, name, |_| {})?;
        self.settle(&pod)?;
        Ok(pod)
    }

    /// A new pod whose object is changed by `change`; does not wait for its enrolment.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn pod_with(
        &mut self,
        node: &str,
        name: &str,
        change: impl FnOnce(&mut PodSpec),
    ) -> Result<Pod, Fault> {
        let number = self.next_pod();
        self.pod_at(node, name, number, change)
    }

    /// The same with a number of choice, which decides the addresses: for pods that come back.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn pod_at(
        &mut self,
        node: &str,
        name: &str,
        number: u8,
        change: impl FnOnce(&mut PodSpec),
    ) -> Result<Pod, Fault> {
        let site = self.world.site(name, if node == "a" { 2 } else { 3 }, number)?;
        let mut spec = PodSpec {
            name: name.to_owned(),
            namespace: NAMESPACE.to_owned(),
            node: node.to_owned(),
            addresses: vec![site.v4.into(), site.v6.into()],
            netns: site.namespace().path().display().to_string(),
            ..PodSpec::default()
        };
        change(&mut spec);
        self.manifests.put(spec.object());
        self.manifests.apply()?;
        Ok(Pod { site, spec })
    }

    /// A number for a new pod, which decides its addresses.
    pub(crate) fn next_pod(&mut self) -> u8 {
        self.pods += 1;
        self.pods
    }

    /// Something on the bridge that the mesh knows nothing of.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn outsider(&mut self, name: &str) -> Result<Site, Fault> {
        let number = self.next_pod();
        self.world.site(name, 9, number)
    }

    /// Waits until the pod's own agent captures it and the other one knows it. In a cluster the other one learns of it only when it
    /// wants to talk to it.
    ///
    /// # Errors
    /// It does not in time.
    pub fn settle(&self, pod: &Pod) -> Result<(), Fault> {
        for agent in [&self.a, &self.b] {
            let local = agent.node() == pod.spec.node;
            if !local && self.cluster.is_some() {
                continue;
            }
            wait_json(agent, &["workloads"], |answer| shows(answer, &pod.spec, local))?;
            if local {
                // The workloads are the snapshot's; these are the pods that the kernel has.
                wait_json(agent, &["status"], |status| captures(status, &pod.spec))?;
            }
        }
        Ok(())
    }

    /// Removes the pod's object (its site stays until the pod is dropped).
    ///
    /// # Errors
    /// The manifests cannot be written.
    pub fn remove(&mut self, pod: &Pod) -> Result<(), Fault> {
        self.manifests.remove("Pod", &pod.spec.namespace, &pod.spec.name);
        self.manifests.apply()
    }

    /// A service `name` with port 80 that leads to `target` of these pods, known to both agents when this returns.
    ///
    /// # Errors
    /// It is not known in time.
    pub fn service(&mut self, name: &str, target: u16, pods: &[&Pod]) -> Result<ServiceSpec, Fault> {
        let service = self.service_spec(name, target, pods);
        self.publish(&service)?;
        Ok(service)
    }

    /// The same, not yet written: to be changed and given to [`Mesh::publish`].
    pub fn service_spec(&mut self, name: &str, target: u16, pods: &[&Pod]) -> ServiceSpec {
        self.services += 1;
        let v4: IpAddr = Ipv4Addr::new(10, 96, 0, self.services).into();
        let v6: IpAddr = Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, u16::from(self.services)).into();
        ServiceSpec {
            name: name.to_owned(),
            namespace: NAMESPACE.to_owned(),
            cluster_ips: vec![v4, v6],
            ports: vec![("main".to_owned(), 80, target)],
            app_protocol: None,
            endpoints: pods.iter().map(|pod| endpoint(pod)).collect(),
            spec: json!({}),
        }
    }

    /// Writes a service and its slices and waits until both agents know exactly its endpoints.
    ///
    /// # Errors
    /// They do not in time.
    pub fn publish(&mut self, service: &ServiceSpec) -> Result<(), Fault> {
        service.objects().into_iter().for_each(|object| self.manifests.put(object));
        self.manifests.apply()?;
        for agent in [&self.a, &self.b] {
            wait_json(agent, &["services"], |answer| {
                answer.to_string().contains(&format!("\"{}\"", service.name))
            })?;
        }
        Ok(())
    }
}

/// A ready endpoint for a pod.
#[must_use]
pub fn endpoint(pod: &Pod) -> EndpointSpec {
    EndpointSpec {
        addresses: vec![pod.v4.into(), pod.v6.into()],
        pod: pod.spec.name.clone(),
        node: pod.spec.node.clone(),
        zone: Some(format!("zone-{}", pod.spec.node)),
        hints: Vec::new(),
        conditions: (true, true, false),
    }
}

fn shows(answer: &Value, pod: &PodSpec, local: bool) -> bool {
    let named = |row: &&Value| {
        row["pod"] == pod.name.as_str()
            && row["namespace"] == pod.namespace.as_str()
            && row["addresses"] == json!(pod.addresses.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let captured = |row: &Value| row["captured_here"] == true;
    answer.as_array().into_iter().flatten().filter(named).any(|row| !local || captured(row))
}

fn captures(status: &Value, pod: &PodSpec) -> bool {
    let pods = status["capture"]["pods"].as_array();
    pods.into_iter().flatten().any(|row| row["pod"] == *pod.name && row["namespace"] == *pod.namespace)
}
