//! How the connections of each pod were carried: with mutual TLS, or in plain text and with whom. Kept by each shard of the connection
//! table for its worker. Pure.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::{
    Direction, Security,
    row::{Progress, Row},
    views::PlainView,
};

/// Other sides of one pod's plain connections that are told apart; further ones are counted together.
const OTHERS: usize = 256;

/// Who is on the other side.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Other {
    /// A pod that the mesh knows, by namespace and name.
    Pod(Arc<str>, Arc<str>),
    /// An address that was called.
    Callee(SocketAddr),
    /// An address that called.
    Caller(IpAddr),
    /// Beyond [`OTHERS`].
    Further,
}

/// By uid of the pod.
#[derive(Debug, Default)]
pub(crate) struct Carried(HashMap<Arc<str>, OfPod>);

/// One pod's connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct OfPod {
    mutual_tls: [u64; 2],
    plain: HashMap<(Direction, Other), u64>,
}

impl Carried {
    /// Counts a connection whose other side was reached.
    pub(crate) fn count(&mut self, row: &Row, progress: &Progress) {
        let peer = progress.peer.as_ref();
        if peer.is_some_and(|peer| peer.uid == row.pod.uid) {
            return;
        }
        if !self.0.contains_key(&row.pod.uid) {
            self.0.insert(Arc::clone(&row.pod.uid), OfPod::default());
        }
        let Some(of) = self.0.get_mut(&row.pod.uid) else { return };
        match progress.security {
            Security::MutualTls => {
                if let Some(count) = of.mutual_tls.get_mut(row.direction as usize) {
                    *count += 1;
                }
            }
            Security::None => {
                let address = progress.endpoint.or(progress.destination);
                let other = match (peer, row.direction, address) {
                    (Some(peer), ..) => Other::Pod(Arc::clone(&peer.namespace), Arc::clone(&peer.name)),
                    (None, Direction::Outbound, Some(address)) => Other::Callee(address),
                    (None, ..) => Other::Caller(row.client.ip()),
                };
                of.count_plain(row.direction, other);
            }
        }
    }

    /// Adds what each pod's connections were to `all`.
    pub(crate) fn add_to(&self, all: &mut HashMap<Arc<str>, OfPod>) {
        for (uid, of) in &self.0 {
            let sum = all.entry(Arc::clone(uid)).or_default();
            sum.mutual_tls.iter_mut().zip(of.mutual_tls).for_each(|(sum, count)| *sum += count);
            for (key, count) in &of.plain {
                *sum.plain.entry(key.clone()).or_default() += count;
            }
        }
    }

    /// Forgets pods that are not there any more.
    pub(crate) fn keep(&mut self, is_there: impl Fn(&str) -> bool) {
        self.0.retain(|uid, _| is_there(uid));
    }
}

impl OfPod {
    fn count_plain(&mut self, direction: Direction, other: Other) {
        let full = self.plain.len() >= OTHERS && !self.plain.contains_key(&(direction, other.clone()));
        let other = if full { Other::Further } else { other };
        *self.plain.entry((direction, other)).or_default() += 1;
    }

    /// Connections with mutual TLS: those that the pod was called by, and those that it made.
    pub(crate) fn mutual_tls(&self) -> [(Direction, u64); 2] {
        [Direction::Inbound, Direction::Outbound].map(|direction| {
            (direction, self.mutual_tls.get(direction as usize).copied().unwrap_or_default())
        })
    }

    /// Those in plain text, the most first.
    pub(crate) fn plain(&self) -> Vec<PlainView> {
        let view = |((direction, other), connections): (&(Direction, Other), &u64)| PlainView {
            direction: *direction,
            other: match other {
                Other::Pod(namespace, name) => format!("{namespace}/{name}"),
                Other::Callee(address) => address.to_string(),
                Other::Caller(address) => address.to_string(),
                Other::Further => "others".to_owned(),
            },
            outside: !matches!(other, Other::Pod(..)),
            connections: *connections,
        };
        let mut views: Vec<PlainView> = self.plain.iter().map(view).collect();
        views.sort_by(|one, two| (two.connections, &one.other).cmp(&(one.connections, &two.other)));
        views
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::observe::tests::pod;

    #[test]
    fn plain_connections_are_told_by_who_is_there() {
        let (cart, catalog) = (pod("cart-1", "cart"), pod("catalog-1", "catalog"));
        let mut carried = Carried::default();
        let mut count = |direction, peer: Option<&Arc<_>>, security, to: &str| {
            let row = Row::new(1, direction, "10.9.9.9:4000".parse().unwrap(), Arc::clone(&cart), 0);
            let mut progress = row.progress();
            progress.peer = peer.cloned();
            progress.security = security;
            progress.endpoint = to.parse().ok();
            carried.count(&row, &progress);
        };
        count(Direction::Outbound, Some(&catalog), Security::MutualTls, "10.0.1.9:80");
        count(Direction::Outbound, Some(&catalog), Security::None, "10.0.1.9:80");
        count(Direction::Outbound, Some(&cart), Security::None, "10.0.0.5:80");
        for port in 0..300 {
            count(Direction::Outbound, None, Security::None, &format!("192.0.2.1:{port}"));
        }
        count(Direction::Inbound, None, Security::None, "10.0.0.5:80");
        let mut all = HashMap::new();
        carried.add_to(&mut all);
        carried.add_to(&mut all);
        let of = &all[&cart.uid];
        assert_eq!(of.mutual_tls(), [(Direction::Inbound, 0), (Direction::Outbound, 2)]);
        let plain = of.plain();
        assert_eq!((&*plain[0].other, plain[0].connections), ("others", 2 * 45));
        let to =
            |name: &str| plain.iter().find(|one| one.other == name).map(|one| (one.outside, one.connections));
        assert_eq!((to("shop/catalog-1"), to("192.0.2.1:7")), (Some((false, 2)), Some((true, 2))));
        assert_eq!(plain.iter().map(|one| one.connections).sum::<u64>(), 2 * 302);
        carried.keep(|_| false);
        let mut none = HashMap::new();
        carried.add_to(&mut none);
        assert!(none.is_empty());
    }
}
