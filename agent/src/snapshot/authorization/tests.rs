//! The decision by tables, from Istio's documented semantics, and its properties.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::snapshot::authorization::{Operation, Rule, Source, matcher::PathPattern, path};

fn policy(name: &str, rules: Vec<Rule>) -> Arc<Policy> {
    Arc::new(Policy { name: name.into(), ports: None, rules: rules.into() })
}

fn one_of(values: &[&str]) -> Choice<Pattern> {
    Choice { any: values.iter().map(|value| Pattern::parse(value)).collect(), none: Vec::new() }
}

fn none_of(values: &[&str]) -> Choice<Pattern> {
    Choice { any: Vec::new(), none: values.iter().map(|value| Pattern::parse(value)).collect() }
}

fn from(source: Source) -> Rule {
    Rule { from: vec![source], ..Rule::default() }
}

fn to(operation: Operation) -> Rule {
    Rule { to: vec![operation], ..Rule::default() }
}

fn principals(choice: Choice<Pattern>) -> Rule {
    from(Source { principals: choice, ..Source::default() })
}

fn methods(values: &[&str]) -> Rule {
    to(Operation { methods: one_of(values), ..Operation::default() })
}

fn paths(values: &[&str]) -> Choice<PathPattern> {
    Choice { any: values.iter().map(|value| PathPattern::parse(value).unwrap()).collect(), none: Vec::new() }
}

fn on_path(values: &[&str]) -> Rule {
    to(Operation { paths: paths(values), ..Operation::default() })
}

fn ports(values: &[u16]) -> Rule {
    to(Operation { ports: Choice { any: values.to_vec(), none: Vec::new() }, ..Operation::default() })
}

fn alice() -> SpiffeId {
    SpiffeId::new("cluster.local", "shop", "alice")
}

/// Decides for `alice` at 10.0.0.1 on port 8080, or for nobody known.
fn connection(authorization: &Authorization, identity: Option<&SpiffeId>) -> Decision {
    authorization.decide(&facts(identity), None)
}

fn facts(identity: Option<&SpiffeId>) -> Facts<'_> {
    Facts { identity, address: [10, 0, 0, 1].into(), port: 8080 }
}

fn request(
    authorization: &Authorization,
    method: &str,
    host: &str,
    target: &str,
    headers: &HeaderMap,
) -> bool {
    let alice = alice();
    path::readings(target).unwrap().iter().all(|path| {
        let request = Request { method, host, path, headers };
        match authorization.decide(&facts(Some(&alice)), Some(&request)) {
            Decision::Settled(verdict) => verdict.allows(),
            Decision::Undecided(_) => panic!("a request settles everything"),
        }
    })
}

fn allow(rules: Vec<Rule>) -> Authorization {
    Authorization { allow: vec![policy("shop/allow", rules)], ..Authorization::default() }
}

fn deny(rules: Vec<Rule>) -> Authorization {
    Authorization { deny: vec![policy("shop/deny", rules)], ..Authorization::default() }
}

#[test]
fn who_calls() {
    let alice = alice();
    let account = |namespace: &str, name: &str| {
        let any = vec![(namespace.into(), name.into())];
        from(Source { service_accounts: Choice { any, none: Vec::new() }, ..Source::default() })
    };
    let namespaces = |choice| from(Source { namespaces: choice, ..Source::default() });
    let block = |text| {
        let any = vec![super::super::matcher::Block::parse(text).unwrap()];
        from(Source { blocks: Choice { any, none: Vec::new() }, ..Source::default() })
    };
    // (what is allowed, whether alice gets in, whether a caller in plain text does)
    let table = [
        (Rule::default(), true, true),
        (principals(one_of(&["cluster.local/ns/shop/sa/alice"])), true, false),
        (principals(one_of(&["spiffe://cluster.local/ns/shop/sa/alice"])), false, false),
        (principals(one_of(&["cluster.local/ns/shop/sa/bob"])), false, false),
        (principals(one_of(&["cluster.local/ns/shop/*"])), true, false),
        (principals(one_of(&["*/sa/alice"])), true, false),
        (principals(one_of(&["*"])), true, false),
        (principals(none_of(&["*/sa/bob"])), true, true),
        (principals(none_of(&["*"])), false, true),
        (namespaces(one_of(&["shop"])), true, false),
        (namespaces(one_of(&["other"])), false, false),
        (namespaces(none_of(&["other"])), true, true),
        (account("shop", "alice"), true, false),
        (account("other", "alice"), false, false),
        (block("10.0.0.0/8"), true, true),
        (block("192.0.2.0/24"), false, false),
        (ports(&[8080]), true, true),
        (ports(&[8081]), false, false),
    ];
    for (rule, known, plain) in table {
        let shown = format!("{rule:?}");
        let allowing = allow(vec![rule]);
        assert_eq!(connection(&allowing, Some(&alice)).without_http().allows(), known, "{shown}");
        assert_eq!(connection(&allowing, None).without_http().allows(), plain, "{shown}");
    }
}

#[test]
fn what_is_absent_and_what_is_empty() {
    let alice = alice();
    let open = Authorization::default();
    assert!(open.is_open());
    assert_eq!(connection(&open, None).without_http().by, By::NoPolicy);
    // ALLOW without rules denies all; with one empty rule it allows all; DENY the other way round.
    let table = [
        (allow(vec![]), false),
        (allow(vec![Rule::default()]), true),
        (deny(vec![]), true),
        (deny(vec![Rule::default()]), false),
        (Authorization { default_deny: true, ..Authorization::default() }, false),
    ];
    for (authorization, allows) in table {
        let decision = connection(&authorization, Some(&alice));
        assert!(matches!(decision, Decision::Settled(_)), "{authorization:?}");
        assert_eq!(decision.without_http().allows(), allows, "{authorization:?}");
    }
}

#[test]
fn a_denial_goes_first() {
    let alice = alice();
    let mut both = allow(vec![Rule::default()]);
    both.deny = vec![policy("shop/deny", vec![methods(&["DELETE"]), principals(one_of(&["*/sa/alice"]))])];
    let verdict = connection(&both, Some(&alice)).without_http();
    assert_eq!(verdict.reason(), "AuthorizationPolicy shop/deny rules[1]");
    assert!(!verdict.allows());
}

#[test]
fn a_policy_for_a_port_leaves_the_others() {
    let only = Policy { name: "shop/one".into(), ports: Some(vec![80]), rules: Arc::default() };
    let authorization = Authorization { allow: vec![only.into()], ..Authorization::default() };
    assert!(connection(&authorization, None).without_http().allows());
    let facts = Facts { identity: None, address: [10, 0, 0, 1].into(), port: 80 };
    assert_eq!(authorization.decide(&facts, None).without_http().by, By::NoneAllows);
}

#[test]
fn conditions_of_http_wait_for_the_request_and_fail_closed_without_one() {
    let alice = alice();
    let undecided = |authorization: &Authorization| {
        let decision = connection(authorization, Some(&alice));
        assert!(matches!(decision, Decision::Undecided(_)), "{decision:?}");
        assert!(!decision.without_http().allows());
    };
    undecided(&allow(vec![methods(&["GET"])]));
    undecided(&deny(vec![methods(&["GET"])]));
    undecided(&deny(vec![on_path(&["/admin*"])]));
    // A rule of the connection alone settles it.
    let settled = allow(vec![methods(&["GET"]), principals(one_of(&["*/sa/alice"]))]);
    assert!(matches!(connection(&settled, Some(&alice)), Decision::Settled(verdict) if verdict.allows()));
    let other_port = Rule {
        to: vec![Operation { ports: Choice { any: vec![1], none: vec![] }, ..Operation::default() }],
        ..methods(&["GET"])
    };
    assert!(
        matches!(connection(&deny(vec![other_port]), Some(&alice)), Decision::Settled(verdict) if verdict.allows())
    );
}

#[test]
fn requests() {
    let headers: HeaderMap = [("x-tier", "gold"), ("x-tier", "trial")]
        .into_iter()
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .fold(HeaderMap::new(), |mut all, (name, value): (http::HeaderName, http::HeaderValue)| {
            all.append(name, value);
            all
        });
    let hosts = |values: &[&str]| to(Operation { hosts: one_of(values), ..Operation::default() });
    let header =
        |choice| Rule { when: vec![Condition::Header("x-tier".parse().unwrap(), choice)], ..Rule::default() };
    let table = [
        (methods(&["GET", "HEAD"]), true),
        (methods(&["POST"]), false),
        (methods(&["*"]), true),
        (on_path(&["/orders/7"]), true),
        (on_path(&["/orders"]), false),
        (on_path(&["/orders/*"]), true),
        (on_path(&["*/7"]), true),
        (on_path(&["/orders/{*}"]), true),
        (on_path(&["/{*}"]), false),
        (hosts(&["orders.shop"]), true),
        (hosts(&["orders.shop:8080"]), true),
        (hosts(&["orders.shop:80"]), false),
        (hosts(&["*.shop"]), true),
        (header(one_of(&["gold"])), true),
        (header(one_of(&["trial"])), true),
        (header(one_of(&["none"])), false),
        (header(none_of(&["trial"])), false),
        (header(none_of(&["none"])), true),
    ];
    for (rule, allows) in table {
        let shown = format!("{rule:?}");
        assert_eq!(
            request(&allow(vec![rule]), "GET", "orders.shop:8080", "/orders/7?x=1", &headers),
            allows,
            "{shown}"
        );
    }
}

#[test]
fn no_spelling_of_a_path_passes_a_denial() {
    let spellings = [
        "/admin",
        "/admin?x",
        "//admin",
        "/./admin",
        "/x/../admin",
        "/%61dmin",
        "/%2561dmin",
        "/admin;x=1",
        "/..;/admin",
        "/x/..%2fadmin",
        "/x%2f..%2fadmin",
        "/x\\..\\admin",
        "/x/..%5cadmin",
        "/%2e/admin",
        "/x/%2e%2e/admin",
        "/x/%252e%252e/admin",
        "/admin#x",
        "/%2fadmin",
        "/x/.%2e/admin",
        "/;a/admin",
    ];
    let closed = deny(vec![on_path(&["/admin", "/admin/*"])]);
    let mut only_public = allow(vec![on_path(&["/public/*"])]);
    let headers = HeaderMap::new();
    for spelling in spellings {
        assert!(!request(&closed, "GET", "a", spelling, &headers), "{spelling}");
        assert!(!request(&only_public, "GET", "a", &format!("/public/..{spelling}"), &headers), "{spelling}");
    }
    assert!(request(&closed, "GET", "a", "/public/a%20b", &headers));
    assert!(request(&only_public, "GET", "a", "/public/a%2Fb", &headers));
    only_public.deny.clone_from(&closed.deny);
    assert!(request(&only_public, "GET", "a", "/public/admin", &headers));
}

#[test]
fn what_could_not_be_read_never_opens() {
    let alice = alice();
    let broken = || from(Source { broken: true, ..Source::default() });
    assert!(!connection(&allow(vec![broken()]), Some(&alice)).without_http().allows());
    assert!(!connection(&deny(vec![broken()]), Some(&alice)).without_http().allows());
    let condition = || Rule { when: vec![Condition::Broken], ..Rule::default() };
    assert!(!connection(&allow(vec![condition()]), Some(&alice)).without_http().allows());
    assert!(!connection(&deny(vec![condition()]), Some(&alice)).without_http().allows());
}

#[test]
fn trials_only_say_what_they_would_deny() {
    let alice = alice();
    let tried = Authorization {
        dry_run: vec![
            (Effect::Deny, policy("shop/would-deny", vec![Rule::default()])),
            (Effect::Deny, policy("shop/not", vec![])),
            (Effect::Allow, policy("shop/would-not-allow", vec![])),
            (Effect::Allow, policy("shop/would-allow", vec![Rule::default()])),
        ],
        ..Authorization::default()
    };
    assert!(!tried.is_open());
    assert!(connection(&tried, Some(&alice)).without_http().allows());
    let reasons: Vec<String> =
        tried.trials(&facts(Some(&alice)), None).iter().map(|(_, verdict)| verdict.reason()).collect();
    assert_eq!(reasons, ["AuthorizationPolicy shop/would-deny rules[0]", "no AuthorizationPolicy allows it"]);
}

mod properties {
    use super::*;
    use proptest::{collection::vec, option, prelude::*, sample::select};

    fn rule() -> impl Strategy<Value = Rule> {
        let texts = || vec(select(vec!["*", "GET", "POST", "G*"]), 0..2);
        let paths = || vec(select(vec!["/a", "/a/*", "/{*}", "*"]), 0..2);
        let who = || vec(select(vec!["*", "*/sa/alice", "cluster.local/ns/shop/*", "x"]), 0..2);
        (
            who(),
            who(),
            texts(),
            paths(),
            option::of(select(vec![80_u16, 8080])),
            proptest::prelude::any::<bool>(),
        )
            .prop_map(|(who, not, methods, on, port, broken)| Rule {
                from: vec![Source {
                    principals: Choice { any: one_of(&who).any, none: none_of(&not).none },
                    broken: broken && who.is_empty() && not.is_empty(),
                    ..Source::default()
                }],
                to: vec![Operation {
                    methods: one_of(&methods),
                    paths: super::paths(&on),
                    ports: Choice { any: port.into_iter().collect(), none: vec![] },
                    ..Operation::default()
                }],
                when: vec![],
            })
    }

    fn policies(most: usize) -> impl Strategy<Value = Vec<Arc<Policy>>> {
        vec(vec(rule(), 0..3), 0..most)
            .prop_map(|all| all.into_iter().map(|rules| policy("a/b", rules)).collect())
    }

    fn authorization() -> impl Strategy<Value = Authorization> {
        (policies(3), policies(3), proptest::prelude::any::<bool>()).prop_map(
            |(deny, allow, default_deny)| Authorization { deny, allow, dry_run: vec![], default_deny },
        )
    }

    /// In what ways something is let in: without HTTP, and for a few requests.
    fn let_in(authorization: &Authorization, identity: Option<&SpiffeId>) -> Vec<bool> {
        let headers = HeaderMap::new();
        let mut all = vec![authorization.decide(&facts(identity), None).without_http().allows()];
        for (method, path) in [("GET", "/a"), ("POST", "/a/b"), ("PUT", "/"), ("GET", "")] {
            let request = Request { method, host: "a", path, headers: &headers };
            all.push(authorization.decide(&facts(identity), Some(&request)).without_http().allows());
        }
        all
    }

    fn never_more(before: &[bool], after: &[bool]) -> bool {
        before.iter().zip(after).all(|(before, after)| *before || !*after)
    }

    proptest! {
        #[test]
        fn adding_a_deny_never_allows_more(given in authorization(), rules in vec(rule(), 0..3), known: bool) {
            let alice = alice();
            let identity = known.then_some(&alice);
            let mut with = given.clone();
            with.deny.push(policy("a/new", rules));
            prop_assert!(never_more(&let_in(&given, identity), &let_in(&with, identity)));
        }

        /// As long as one is left, or the namespace denies by default: without any, Istio lets everybody in.
        #[test]
        fn removing_an_allow_never_allows_more(given in authorization(), place: prop::sample::Index, known: bool) {
            prop_assume!(given.allow.len() > 1 || (given.default_deny && !given.allow.is_empty()));
            let alice = alice();
            let identity = known.then_some(&alice);
            let mut without = given.clone();
            without.allow.remove(place.index(given.allow.len()));
            prop_assert!(never_more(&let_in(&given, identity), &let_in(&without, identity)));
        }

        /// What is settled without the request is what every request gets; what is not is closed without one.
        #[test]
        fn settled_is_settled(given in authorization(), known: bool) {
            let alice = alice();
            let identity = known.then_some(&alice);
            let ways = let_in(&given, identity);
            match given.decide(&facts(identity), None) {
                Decision::Settled(verdict) => prop_assert!(ways.iter().all(|way| *way == verdict.allows())),
                Decision::Undecided(verdict) => prop_assert!(!verdict.allows()),
            }
        }
    }
}
