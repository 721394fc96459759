//! What kube-proxy does on a node, in the form in which it writes it: chains, marks and hooks of its `iptables` and `nftables` modes
//! (Kubernetes 1.33, `--masquerade-all`, since the pods of a world share one segment and their answers must come back through the rules),
//! and the device of its `ipvs` mode. No kube-proxy runs: it would want an API server for what a test says in a line.

use crate::{Doing, Fault, namespace::Namespace};
use std::{
    fmt::Write as _,
    io::Write as _,
    net::{IpAddr, SocketAddr},
    process::{Command, Stdio},
};

/// Which rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `iptables` mode with the tools that write nftables, as on today's distributions.
    IptablesNft,
    /// `iptables` mode with the kernel's own tables.
    IptablesLegacy,
    /// `nftables` mode.
    Nftables,
}

/// A port of a service of one family.
#[derive(Clone, Debug)]
pub struct ServicePort {
    /// `NAMESPACE/SERVICE`.
    pub service: String,
    /// Name of the port.
    pub port: String,
    /// ClusterIP and port.
    pub address: SocketAddr,
    /// Where it leads.
    pub endpoints: Vec<SocketAddr>,
}

/// Loads the rules of these ports in a network namespace.
///
/// # Errors
/// The tool is missing (packages iptables, nftables), or the kernel does not take the rules.
pub fn load(namespace: &Namespace, mode: Mode, ports: &[ServicePort]) -> Result<(), Fault> {
    for is_v6 in [false, true] {
        let ports: Vec<&ServicePort> = ports.iter().filter(|port| port.address.is_ipv6() == is_v6).collect();
        let of_family = |v4: &'static str, v6: &'static str| if is_v6 { v6 } else { v4 };
        let restore = match mode {
            Mode::IptablesNft => of_family("iptables-nft-restore", "ip6tables-nft-restore"),
            Mode::IptablesLegacy => of_family("iptables-legacy-restore", "ip6tables-legacy-restore"),
            Mode::Nftables => "",
        };
        match mode {
            _ if ports.is_empty() => {}
            Mode::Nftables => drop(run(namespace, &["nft", "-f", "-"], &nftables(is_v6, &ports))?),
            _ => drop(run(
                namespace,
                &[restore, "--wait=5", "--noflush", "--counters"],
                &iptables(is_v6, &ports),
            )?),
        }
    }
    Ok(())
}

/// Counts connections to these addresses from now on, before any rule of [`load`] sees them.
///
/// # Errors
/// There is no nft, or the kernel does not take the rules.
pub fn watch(namespace: &Namespace, addresses: &[SocketAddr]) -> Result<(), Fault> {
    run(namespace, &["nft", "-f", "-"], &counters(addresses)).map(drop)
}

/// How many connections to an address came to the rules of a namespace, or began there.
///
/// # Errors
/// [`watch`] was not called for it.
pub fn dialled(namespace: &Namespace, address: SocketAddr) -> Result<u64, Fault> {
    let text = run(namespace, &["nft", "list", "table", "inet", "watch"], "")?;
    let wanted = format!("\"{address}\"");
    let counted = |line: &str| line.split_once("counter packets ")?.1.split(' ').next()?.parse::<u64>().ok();
    let lines: Vec<u64> = text.lines().filter(|line| line.contains(&wanted)).filter_map(counted).collect();
    if lines.is_empty() { Err(Fault::new(format!("no {wanted} in {text}"))) } else { Ok(lines.iter().sum()) }
}

/// The device of the `ipvs` mode with these addresses, which are the node's own from then on. Where the kernel has no dummy
/// devices it is another one that carries nothing.
///
/// # Errors
/// The kernel refuses.
pub fn ipvs_device(namespace: &Namespace, addresses: impl Iterator<Item = IpAddr>) -> Result<(), Fault> {
    let kinds = ["dummy", "bridge"];
    let mut made = kinds.iter().map(|kind| namespace.ip(&format!("link add kube-ipvs0 type {kind}\n")));
    made.find(Result::is_ok).unwrap_or_else(|| Err(Fault::new("no kind of device for kube-ipvs0")))?;
    let line = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => format!("addr add {ip}/32 dev kube-ipvs0\n"),
        IpAddr::V6(ip) => format!("addr add {ip}/128 dev kube-ipvs0 nodad\n"),
    };
    namespace.ip(&addresses.map(line).collect::<String>())
}

fn run(namespace: &Namespace, line: &[&str], input: &str) -> Result<String, Fault> {
    let (program, arguments) = line.split_first().ok_or_else(|| Fault::new("an empty command line"))?;
    let work = || -> Result<String, Fault> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().doing(format!("run {program} (packages nftables and iptables)"))?;
        if let Some(mut to) = child.stdin.take() {
            to.write_all(input.as_bytes()).doing(format!("write to {program}"))?;
        }
        let output = child.wait_with_output().doing(format!("wait for {program}"))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = format!("{}{input}", String::from_utf8_lossy(&output.stderr));
        Err(Fault::Command { command: line.join(" "), output: said })
    };
    namespace.inside(work)?
}

/// Counts before address translation (priority -100), and changes nothing.
fn counters(addresses: &[SocketAddr]) -> String {
    let mut text = String::from("table inet watch {\n");
    for hook in ["prerouting", "output"] {
        let _ = writeln!(text, "chain {hook} {{ type filter hook {hook} priority -300;");
        for address in addresses {
            let (family, ip, port) = (ip(address.is_ipv6()), address.ip(), address.port());
            let _ = writeln!(
                text,
                "{family} daddr {ip} tcp dport {port} tcp flags & (syn | ack) == syn counter comment \"{address}\";"
            );
        }
        text.push_str("}\n");
    }
    text + "}\n"
}

fn ip(is_v6: bool) -> &'static str {
    if is_v6 { "ip6" } else { "ip" }
}

/// What `iptables-restore` gets, the jumps from the built-in chains included.
fn iptables(is_v6: bool, ports: &[&ServicePort]) -> String {
    let localnet = if is_v6 { "::1/128" } else { "127.0.0.0/8" };
    let (mut chains, mut rules) = (String::new(), String::new());
    for (number, ServicePort { service, port, address, endpoints }) in ports.iter().enumerate() {
        let chain = format!("KUBE-SVC-{number:016X}");
        let to = format!("-m tcp -p tcp -d {} --dport {}", address.ip(), address.port());
        let comment = format!("-m comment --comment \"{service}:{port} cluster IP\"");
        let _ = writeln!(chains, ":{chain} - [0:0]");
        let _ = writeln!(rules, "-A KUBE-SERVICES {comment} {to} -j {chain}");
        let _ = writeln!(rules, "-A {chain} {comment} {to} -j KUBE-MARK-MASQ");
        for (index, endpoint) in endpoints.iter().enumerate() {
            let separate = format!("KUBE-SEP-{number:08X}{index:08X}");
            let comment = format!("-m comment --comment \"{service}:{port} -> {endpoint}\"");
            let left = endpoints.len() - index;
            let chance = format!("-m statistic --mode random --probability {:.10}", 1.0 / left as f64);
            let chance = if left > 1 { chance.as_str() } else { "" };
            let _ = writeln!(chains, ":{separate} - [0:0]");
            let _ = writeln!(rules, "-A {chain} {comment} {chance} -j {separate}");
            let own = format!("-A {separate} -m comment --comment {service}:{port}");
            let _ = writeln!(rules, "{own} -s {} -j KUBE-MARK-MASQ", endpoint.ip());
            let _ = writeln!(rules, "{own} -m tcp -p tcp -j DNAT --to-destination {endpoint}");
        }
    }
    format!(
        r#"*filter
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SERVICES - [0:0]
-A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS
-A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-A INPUT -j KUBE-FIREWALL
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL -m comment --comment "block incoming localnet connections" -d {localnet} ! -s {localnet} -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
*nat
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SERVICES - [0:0]
{chains}-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
{rules}-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
COMMIT
"#
    )
}

/// What `nft -f` gets.
fn nftables(is_v6: bool, ports: &[&ServicePort]) -> String {
    let (ip, kind) = (ip(is_v6), if is_v6 { "ipv6_addr" } else { "ipv4_addr" });
    let table = format!("{ip} kube-proxy");
    let mut text = format!(
        r#"add table {table} {{ comment "rules for kube-proxy" ; }}
add set {table} cluster-ips {{ type {kind} ; comment "Active ClusterIPs" ; }}
add set {table} nodeport-ips {{ type {kind} ; comment "IPs that accept NodePort traffic" ; }}
add map {table} no-endpoint-services {{ type {kind} . inet_proto . inet_service : verdict ; comment "vmap to drop or reject packets to services with no endpoints" ; }}
add map {table} service-ips {{ type {kind} . inet_proto . inet_service : verdict ; comment "ClusterIP, ExternalIP and LoadBalancer IP traffic" ; }}
add map {table} service-nodeports {{ type inet_proto . inet_service : verdict ; comment "NodePort traffic" ; }}
add chain {table} cluster-ips-check
add chain {table} filter-forward {{ type filter hook forward priority 0 ; }}
add chain {table} filter-output {{ type filter hook output priority 0 ; }}
add chain {table} mark-for-masquerade
add chain {table} masquerading
add chain {table} nat-output {{ type nat hook output priority -100 ; }}
add chain {table} nat-postrouting {{ type nat hook postrouting priority 100 ; }}
add chain {table} nat-prerouting {{ type nat hook prerouting priority -100 ; }}
add chain {table} services
add chain {table} service-endpoints-check
add rule {table} cluster-ips-check {ip} daddr @cluster-ips reject comment "Reject traffic to invalid ports of ClusterIPs"
add rule {table} filter-forward ct state new jump service-endpoints-check
add rule {table} filter-forward ct state new jump cluster-ips-check
add rule {table} filter-output ct state new jump service-endpoints-check
add rule {table} filter-output ct state new jump cluster-ips-check
add rule {table} mark-for-masquerade mark set mark or 0x4000
add rule {table} masquerading mark and 0x4000 == 0 return
add rule {table} masquerading mark set mark xor 0x4000
add rule {table} masquerading masquerade fully-random
add rule {table} nat-output jump services
add rule {table} nat-postrouting jump masquerading
add rule {table} nat-prerouting jump services
add rule {table} services {ip} daddr . meta l4proto . th dport vmap @service-ips
add rule {table} services {ip} daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
add rule {table} service-endpoints-check {ip} daddr . meta l4proto . th dport vmap @no-endpoint-services
"#
    );
    for (number, ServicePort { service, port, address, endpoints }) in ports.iter().enumerate() {
        let chain = format!("service-{number:08X}-{service}/tcp/{port}");
        let mut choice = Vec::new();
        for (index, to) in endpoints.iter().enumerate() {
            // A colon may not be in a name.
            let shown = to.ip().to_string().replace(':', ".");
            let one = format!("endpoint-{number:04X}{index:04X}-{service}/tcp/{port}__{shown}/{}", to.port());
            let _ = writeln!(text, "add chain {table} {one}");
            let _ = writeln!(text, "add rule {table} {one} {ip} saddr {} jump mark-for-masquerade", to.ip());
            let _ = writeln!(text, "add rule {table} {one} meta l4proto tcp dnat to {to}");
            choice.push(format!("{index} : goto {one}"));
        }
        let (of, choice) = (choice.len(), choice.join(" , "));
        let (to, dport) = (address.ip(), address.port());
        let _ = writeln!(text, "add chain {table} {chain}");
        let _ = writeln!(text, "add rule {table} {chain} {ip} daddr {to} jump mark-for-masquerade");
        let _ = writeln!(text, "add rule {table} {chain} numgen random mod {of} vmap {{ {choice} }}");
        let _ = writeln!(text, "add element {table} cluster-ips {{ {to} }}");
        let _ = writeln!(text, "add element {table} service-ips {{ {to} . tcp . {dport} : goto {chain} }}");
    }
    text
}
