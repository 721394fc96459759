//! What brings the application's replies back to the agent's delivery sockets: three sysctls, and for each family one
//! rule and one route, all inside the pod's namespace and undone when the pod leaves.
//!
//! A delivery socket carries the caller's address, which is not an address of the pod. `tcp_fwmark_accept` (ip-sysctl)
//! gives the application's accepted socket the mark of the delivery's SYN, `fwmark_reflect` gives it to a reset for a port that
//! nobody listens on; the rule sends marked packets to a table whose only route says that every address is local, behind `lo`.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    sync::Arc,
};

use futures_util::TryStreamExt;
use rtnetlink::{
    Handle, IpVersion, RouteMessageBuilder,
    packet_route::{
        route::{RouteMessage, RouteScope, RouteType},
        rule::{RuleAction, RuleAttribute, RuleMessage},
    },
};

use super::{Namespace, NamespaceThreads, sysctl, threads::JobError};

/// Number of the routing table; the mark's default, so that `ip rule` reads well.
const TABLE: u32 = 0x7068;
/// Before the main table (32766), behind the local one (0).
const PRIORITY: u32 = 100;
const SYSCTLS: [&str; 3] = [
    "/proc/sys/net/ipv4/tcp_fwmark_accept",
    "/proc/sys/net/ipv4/fwmark_reflect",
    "/proc/sys/net/ipv6/fwmark_reflect",
];
const LOOPBACK_INDEX: u32 = 1;

/// Why replies could not be routed.
#[derive(Debug, thiserror::Error)]
pub enum PlumbingError {
    /// The namespace cannot be entered.
    #[error(transparent)]
    Namespace(#[from] JobError),
    /// Netlink answered an error.
    #[error("cannot {action} in the network namespace {path}: {source}; the agent needs CAP_NET_ADMIN there")]
    Netlink {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: rtnetlink::Error,
    },
    /// A sysctl or the netlink socket.
    #[error(
        "cannot set the sysctls of marked replies in the network namespace {path}: {source}; the agent needs CAP_NET_ADMIN, and CAP_SYS_ADMIN where /proc/sys is read-only"
    )]
    Sysctl {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The rules and routes of one pod.
#[derive(Debug)]
pub struct Plumbing {
    namespace: Arc<Namespace>,
    /// What stood in each of [`SYSCTLS`] before.
    sysctls_before: Vec<(&'static str, String)>,
    mark: u32,
}

impl Plumbing {
    /// Adds what is missing; what an earlier agent left behind is taken over.
    ///
    /// # Errors
    /// The namespace cannot be entered or changed.
    pub async fn install(
        threads: &NamespaceThreads,
        namespace: &Arc<Namespace>,
        mark: u32,
    ) -> Result<Self, PlumbingError> {
        let sysctls_before = threads
            .run(Arc::clone(namespace), set_sysctls)
            .await?
            .map_err(|source| PlumbingError::Sysctl { path: namespace.path().to_owned(), source })?;
        let plumbing = Self { namespace: Arc::clone(namespace), sysctls_before, mark };
        match plumbing.add_routes(threads).await {
            Ok(()) => Ok(plumbing),
            Err(error) => {
                plumbing.remove(threads).await;
                Err(error)
            }
        }
    }

    async fn add_routes(&self, threads: &NamespaceThreads) -> Result<(), PlumbingError> {
        let (namespace, mark) = (&self.namespace, self.mark);
        let handle = netlink(threads, namespace).await?;
        let fail = |action| {
            let path = namespace.path().to_owned();
            move |source| PlumbingError::Netlink { action, path, source }
        };
        add_rule(&handle, IpVersion::V4, mark).await.map_err(fail("add an IPv4 rule"))?;
        handle
            .route()
            .add(route(&IpVersion::V4))
            .replace()
            .execute()
            .await
            .map_err(fail("add an IPv4 route"))?;
        // A pod without IPv6 has nothing to deliver there.
        if add_rule(&handle, IpVersion::V6, mark).await.is_ok() {
            let _ = handle.route().add(route(&IpVersion::V6)).replace().execute().await;
        }
        Ok(())
    }

    /// Undoes [`Plumbing::install`]. A namespace that is going away may refuse; there is nothing left to undo then.
    pub async fn remove(self, threads: &NamespaceThreads) {
        let before = self.sysctls_before;
        let restore = move || before.iter().for_each(|(path, value)| drop(sysctl::write(path, value)));
        let _ = threads.run(Arc::clone(&self.namespace), restore).await;
        let Ok(handle) = netlink(threads, &self.namespace).await else { return };
        for version in [IpVersion::V4, IpVersion::V6] {
            for rule in rules_of_ours(&handle, version.clone(), self.mark).await {
                let _ = handle.rule().del(rule).execute().await;
            }
            let _ = handle.route().del(route(&version)).execute().await;
        }
    }
}

/// Switches the sysctls of the calling thread's namespace on and returns what stood there.
fn set_sysctls() -> io::Result<Vec<(&'static str, String)>> {
    let mut before = Vec::new();
    for path in SYSCTLS {
        match std::fs::read_to_string(path) {
            // An agent that crashed had set it: nobody else does in a pod.
            Ok(value) if value.trim() == "1" => before.push((path, "0".to_owned())),
            Ok(value) => {
                sysctl::write(path, "1")?;
                before.push((path, value.trim().to_owned()));
            }
            // A kernel without IPv6 has no such file, and nothing to reflect.
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.contains("ipv6") => {}
            Err(error) => return Err(error),
        }
    }
    Ok(before)
}

/// A netlink socket inside the namespace, served by the calling runtime.
async fn netlink(threads: &NamespaceThreads, namespace: &Arc<Namespace>) -> Result<Handle, PlumbingError> {
    let runtime = tokio::runtime::Handle::current();
    let connect = move || {
        // The socket registers with the runtime that will serve it.
        let _entered = runtime.enter();
        rtnetlink::new_connection()
    };
    let (connection, handle, _) = threads
        .run(Arc::clone(namespace), connect)
        .await?
        .map_err(|source| PlumbingError::Sysctl { path: namespace.path().to_owned(), source })?;
    tokio::spawn(connection);
    Ok(handle)
}

async fn add_rule(handle: &Handle, version: IpVersion, mark: u32) -> Result<(), rtnetlink::Error> {
    if !rules_of_ours(handle, version.clone(), mark).await.is_empty() {
        return Ok(());
    }
    let rule =
        handle.rule().add().fw_mark(mark).priority(PRIORITY).table_id(TABLE).action(RuleAction::ToTable);
    match version {
        IpVersion::V4 => rule.v4().execute().await,
        IpVersion::V6 => rule.v6().execute().await,
    }
}

async fn rules_of_ours(handle: &Handle, version: IpVersion, mark: u32) -> Vec<RuleMessage> {
    let all: Vec<RuleMessage> = handle.rule().get(version).execute().try_collect().await.unwrap_or_default();
    let ours = |rule: &RuleMessage| {
        rule.attributes.contains(&RuleAttribute::FwMark(mark))
            && rule.attributes.contains(&RuleAttribute::Table(TABLE))
    };
    all.into_iter().filter(ours).collect()
}

/// `ip route add local default dev lo table T`.
fn route(version: &IpVersion) -> RouteMessage {
    let any: IpAddr = match version {
        IpVersion::V4 => Ipv4Addr::UNSPECIFIED.into(),
        IpVersion::V6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    let builder = RouteMessageBuilder::<IpAddr>::new()
        .output_interface(LOOPBACK_INDEX)
        .table_id(TABLE)
        .kind(RouteType::Local)
        .scope(RouteScope::Host);
    match builder.destination_prefix(any, 0) {
        Ok(builder) => builder.build(),
        // A prefix of length 0 always fits its family.
        Err(_) => RouteMessage::default(),
    }
}
