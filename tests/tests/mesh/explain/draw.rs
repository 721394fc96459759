//! What is drawn for the generated configurations.

use super::SERVICES;
use crate::http_shop::backend;
use serde_json::{Value, json};

/// Repeatable chance: SplitMix64.
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    pub(super) fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    pub(super) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// A rule of an AuthorizationPolicy: of the connection, or of HTTP.
pub(super) fn access(chance: &mut Chance) -> Value {
    let client = "cluster.local/ns/shop/sa/client";
    chance.of(&[
        json!({"from": [{"source": {"principals": [client]}}]}),
        json!({"from": [{"source": {"notPrincipals": [client]}}]}),
        json!({"from": [{"source": {"namespaces": ["shop"]}}], "to": [{"operation": {"ports": ["8080"]}}]}),
        json!({"to": [{"operation": {"methods": ["GET"]}}]}),
        json!({"to": [{"operation": {"paths": ["/items*"]}}]}),
        json!({"to": [{"operation": {"methods": ["POST", "DELETE"], "notPaths": ["/cart*"]}}]}),
        json!({"when": [{"key": "request.headers[x-stage]", "values": ["beta"]}]}),
    ])
}

/// Some rules with some matches and some backends, of which some do not exist.
pub(super) fn rules(chance: &mut Chance) -> Value {
    let count = 1 + chance.below(4);
    (0..count).map(|_| rule(chance)).collect()
}

fn rule(chance: &mut Chance) -> Value {
    let path = chance.of(&[
        json!({"type": "PathPrefix", "value": "/"}),
        json!({"type": "PathPrefix", "value": "/items"}),
        json!({"type": "PathPrefix", "value": "/cart"}),
        json!({"type": "Exact", "value": "/items/7"}),
        json!({"type": "RegularExpression", "value": "/items/[0-9]+(/.*)?"}),
    ]);
    let mut one = json!({"path": path});
    if chance.one_in(4) {
        one["method"] = json!(chance.of(&["GET", "POST"]));
    }
    if chance.one_in(4) {
        one["headers"] = json!([{"name": "x-stage", "value": "beta"}]);
    }
    if chance.one_in(6) {
        one["queryParams"] = json!([{"name": "v", "value": "2"}]);
    }
    let mut rule = json!({"matches": [one], "timeouts": {"request": "10s"}});
    if chance.one_in(8) {
        rule["filters"] = json!([{"type": "RequestRedirect", "requestRedirect": {"hostname": "else.where", "statusCode": 302}}]);
        return rule;
    }
    let name = |chance: &mut Chance| match chance.below(SERVICES + 3) {
        number if number < SERVICES => format!("s{number}"),
        _ => "gone".to_owned(),
    };
    let mut backends = vec![backend(&name(chance), 1)];
    if chance.one_in(3) {
        let weight = u32::try_from(chance.below(3)).unwrap();
        backends.push(backend(&name(chance), weight));
    }
    rule["backendRefs"] = json!(backends);
    rule
}
