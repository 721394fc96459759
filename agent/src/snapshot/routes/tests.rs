//! Which rule wins, held against a plain search through all of them; what it costs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use http::{HeaderMap, header};
use proptest::prelude::*;

use super::{
    entry::{Entry, PathMatch},
    predicate::{Pattern, Predicate, ValueMatch},
    *,
};

/// Names and values of headers.
type Pairs = &'static [(&'static str, &'static str)];

fn rule(name: &str, place: usize) -> Arc<Rule> {
    let name = RouteName {
        kind: "HTTPRoute",
        namespace: "shop".into(),
        name: name.into(),
        rule: place,
        rule_name: None,
    };
    Arc::new(Rule {
        name: Arc::new(name),
        action: Action::Forward(Vec::new()),
        filters: Filters::default(),
        request_timeout_ns: None,
        backend_timeout_ns: None,
        retry: None,
    })
}

fn entry(name: &str, path: PathMatch, predicate: Predicate) -> Entry {
    Entry { path, predicate: Arc::new(predicate), rule: rule(name, 0), created: None }
}

fn exact(path: &str) -> PathMatch {
    PathMatch::Exact(path.into())
}

fn prefix(path: &str) -> PathMatch {
    PathMatch::Prefix(path.trim_end_matches('/').into())
}

fn regex(path: &str) -> PathMatch {
    PathMatch::Regex(Pattern::compile(path).unwrap())
}

fn grpc(service: &str, method: &str) -> PathMatch {
    let part = |text: &str| match text {
        "" => None,
        text => Some(text.strip_prefix('~').map_or_else(
            || ValueMatch::Exact(text.into()),
            |expression| ValueMatch::Regex(Pattern::compile(expression).unwrap()),
        )),
    };
    PathMatch::Grpc { service: part(service), method: part(method) }
}

/// `GET`, `x-a=1`, `?a=1`, separated by spaces.
fn predicate(words: &str) -> Predicate {
    let mut predicate = Predicate::default();
    for word in words.split_whitespace() {
        match word.split_once('=') {
            None => predicate.method = Some(word.parse().unwrap()),
            Some((name, value)) => match name.strip_prefix('?') {
                Some(name) => predicate.queries.push((name.into(), ValueMatch::Exact(value.into()))),
                None => predicate.headers.push((name.parse().unwrap(), ValueMatch::Exact(value.into()))),
            },
        }
    }
    predicate
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    headers
}

fn view<'a>(method: &'a Method, target: &'a str, headers: &'a HeaderMap) -> RequestView<'a> {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    RequestView { method, path, query, headers, authority: "cart.shop:80" }
}

/// Name of the rule and bytes of the prefix.
fn chosen(
    entries: Vec<Entry>,
    method: &Method,
    target: &str,
    pairs: &[(&str, &str)],
) -> Option<(String, usize)> {
    let table = RouteTable::of(entries);
    let headers = headers(pairs);
    table
        .choose(&view(method, target, &headers))
        .map(|choice| (choice.rule.name.name.to_string(), choice.prefix))
}

#[test]
fn prefers_as_the_specification_says() {
    let table = || {
        vec![
            entry("all", prefix("/"), predicate("")),
            entry("regex", regex("/[a-z]+/[0-9]+"), predicate("")),
            entry("a", prefix("/a"), predicate("")),
            entry("a/b", prefix("/a/b/"), predicate("")),
            entry("a-get", prefix("/a"), predicate("GET")),
            entry("a-1", prefix("/a"), predicate("x-a=1")),
            entry("a-2", prefix("/a"), predicate("x-a=1 x-b=2")),
            entry("a-q", prefix("/a"), predicate("?q=1")),
            entry("exact", exact("/a/exact"), predicate("")),
            entry("exact-put", exact("/a/exact"), predicate("PUT")),
        ]
    };
    let a1: &[(&str, &str)] = &[("x-a", "1")];
    let a12: &[(&str, &str)] = &[("x-a", "1"), ("x-b", "2")];
    let cases: [(Method, &str, Pairs, &str, usize); 18] = [
        (Method::PUT, "/", &[], "all", 0),
        (Method::OPTIONS, "*", &[], "all", 0),
        (Method::CONNECT, "", &[], "all", 0),
        (Method::PUT, "/a", &[], "a", 2),
        (Method::PUT, "/a/", &[], "a", 2),
        (Method::PUT, "/ab", &[], "all", 0),
        (Method::PUT, "/A", &[], "all", 0),
        (Method::PUT, "/a/b", &[], "a/b", 4),
        (Method::PUT, "/a/bc", &[], "a", 2),
        (Method::PUT, "/a/b/c/d", &[], "a/b", 4),
        (Method::GET, "/a", a12, "a-get", 2),
        (Method::PUT, "/a", a1, "a-1", 2),
        (Method::PUT, "/a?q=1", a12, "a-2", 2),
        (Method::PUT, "/a?q=1", &[], "a-q", 2),
        (Method::GET, "/a/exact", &[], "exact", 0),
        (Method::PUT, "/a/exact", &[], "exact-put", 0),
        (Method::PUT, "/b/12", &[], "regex", 0),
        (Method::PUT, "/a/12", &[], "a", 2),
    ];
    for (method, target, pairs, name, prefix) in cases {
        let found = chosen(table(), &method, target, pairs);
        assert_eq!(found, Some((name.to_owned(), prefix)), "{method} {target} {pairs:?}");
    }
    assert_eq!(chosen(vec![entry("a", prefix("/a"), predicate(""))], &Method::GET, "/", &[]), None);
    assert_eq!(chosen(Vec::new(), &Method::GET, "/", &[]), None);
    let never = vec![entry("never", PathMatch::Never, predicate(""))];
    assert_eq!(RouteTable::of(never.clone()).rules().len(), 1);
    assert_eq!(chosen(never, &Method::GET, "/", &[]), None);
}

#[test]
fn breaks_ties_by_age_then_name_then_place() {
    let aged = |name: &str, created, place| Entry {
        created,
        rule: rule(name, place),
        ..entry(name, prefix("/"), predicate(""))
    };
    let table = [
        (vec![aged("b", Some(5), 0), aged("a", Some(7), 0)], "b", 0),
        (vec![aged("b", None, 0), aged("z", Some(7), 0)], "z", 0),
        (vec![aged("b", Some(5), 0), aged("a", Some(5), 0)], "a", 0),
        // As text with the namespace in front.
        (vec![aged("a", None, 0), aged("a-b", None, 0)], "a", 0),
        (vec![aged("a", None, 3), aged("a", None, 1)], "a", 1),
    ];
    for (entries, name, place) in table {
        let table = RouteTable::of(entries);
        let headers = HeaderMap::new();
        let choice = table.choose(&view(&Method::GET, "/x", &headers)).unwrap();
        assert_eq!((&*choice.rule.name.name, choice.rule.name.rule), (name, place));
    }
}

#[test]
fn chooses_grpc_by_service_then_method() {
    let grpc_only = || Predicate { grpc: true, ..Predicate::default() };
    let one = |name: &str, service: &str, method: &str| entry(name, grpc(service, method), grpc_only());
    let table = || {
        vec![
            one("all", "", ""),
            one("get", "", "Get"),
            one("any-list", "", "~List.*"),
            one("shop", "shop.Cart", ""),
            one("shop-get", "shop.Cart", "Get"),
            one("regex", r"~shop\..*", "~Get|Put"),
        ]
    };
    let content: &[(&str, &str)] = &[("content-type", "application/grpc+proto")];
    let cases = [
        ("/shop.Cart/Get", Some("shop-get")),
        ("/shop.Cart/Put", Some("shop")),
        ("/shop.Order/Put", Some("regex")),
        ("/shop.Order/PutAll", Some("all")),
        ("/shop.Order/Get", Some("regex")),
        ("/other.Order/Get", Some("get")),
        ("/other.Order/ListAll", Some("any-list")),
        ("/other.Order/Delete", Some("all")),
        ("/shop.cart/get", Some("all")),
    ];
    for (path, name) in cases {
        let found = chosen(table(), &Method::POST, path, content).map(|found| found.0);
        assert_eq!(found.as_deref(), name, "{path}");
    }
    assert_eq!(chosen(table(), &Method::POST, "/shop.Cart/Get", &[("content-type", "text/plain")]), None);
}

#[test]
fn compares_headers_and_queries() {
    let value = |text: &str| match text.strip_prefix('~') {
        Some(expression) => ValueMatch::Regex(Pattern::compile(expression).unwrap()),
        None => ValueMatch::Exact(text.into()),
    };
    let header: [(&str, &str, Pairs, bool); 10] = [
        ("x-a", "1", &[("X-A", "1")], true),
        ("x-a", "1", &[("x-a", "12")], false),
        ("x-a", "1", &[], false),
        ("x-a", "~[0-9]+", &[("x-a", "12")], true),
        ("x-a", "~[0-9]", &[("x-a", "12")], false),
        ("x-a", "~a|b", &[("x-a", "xa")], false),
        ("x-a", "1, 2", &[("x-a", "1"), ("x-a", "2")], true),
        ("x-a", "1", &[("x-a", "1"), ("x-a", "2")], false),
        ("host", "cart.shop:80", &[], true),
        ("host", "other", &[], false),
    ];
    for (name, text, pairs, expected) in header {
        let predicate =
            Predicate { headers: vec![(name.parse().unwrap(), value(text))], ..Predicate::default() };
        assert_eq!(
            predicate.accepts(&view(&Method::GET, "/", &headers(pairs))),
            expected,
            "{name} {text} {pairs:?}"
        );
    }
    let query = [
        ("a", "1", "/?a=1", true),
        ("a", "1", "/?b=2&a=1", true),
        ("a", "1", "/?a=2&a=1", false),
        ("a", "b c", "/?a=b+c", true),
        ("a", "b&c", "/?%61=b%26c", true),
        ("a", "%", "/?a=%", true),
        ("a", "%zz", "/?a=%zz", true),
        ("a", "", "/?a", true),
        ("a", "", "/", false),
        ("a", "~.+", "/?a=", false),
        ("a", "~é", "/?a=%C3%A9", true),
    ];
    let none = HeaderMap::new();
    for (name, text, target, expected) in query {
        let predicate = Predicate { queries: vec![(name.into(), value(text))], ..Predicate::default() };
        assert_eq!(predicate.accepts(&view(&Method::GET, target, &none)), expected, "{name} {text} {target}");
    }
}

#[test]
fn expressions_are_closed_and_bounded() {
    assert!(Pattern::compile("a)|(b").is_err());
    assert!(Pattern::compile("(").is_err());
    assert!(Pattern::compile(r"\w{1000}{1000}").unwrap_err().contains("larger"));
    let pattern = Pattern::compile("(?x) a b # end").unwrap();
    assert!(pattern.accepts(b"ab") && !pattern.accepts(b"abc"));
    assert!(!Pattern::compile("a").unwrap().accepts(b"a\n"));
    // Linear, whatever is asked.
    assert!(!Pattern::compile("(a*)*b").unwrap().accepts(&vec![b'a'; 100_000]));
}

#[test]
fn cost_does_not_grow_with_the_routes() {
    let steps = |count: usize| {
        let mut entries = Vec::new();
        for number in 0..count {
            entries.push(entry("exact", exact(&format!("/v1/item/{number}")), predicate("")));
            entries.push(entry("prefix", prefix(&format!("/v2/group-{number}/x")), predicate("")));
            entries.push(entry("grpc", grpc(&format!("shop.S{number}"), "Get"), predicate("")));
        }
        let table = RouteTable::of(entries);
        let headers = HeaderMap::new();
        let mut most = 0;
        for number in [0, count / 2, count - 1, count + 7] {
            for path in [
                format!("/v1/item/{number}"),
                format!("/v2/group-{number}/x/y/z"),
                format!("/shop.S{number}/Get"),
            ] {
                let mut steps = 0;
                let found = table.search(&view(&Method::GET, &path, &headers), &mut || steps += 1);
                assert_eq!(found.is_some(), number < count, "{path}");
                most = most.max(steps);
            }
        }
        most
    };
    assert_eq!(steps(10), steps(5_000));
    assert!(steps(5_000) <= 8);
}

#[test]
fn a_deep_path_costs_its_own_length() {
    let table = RouteTable::of(vec![entry("a", prefix("/a"), predicate(""))]);
    let headers = HeaderMap::new();
    let mut steps = 0;
    let path = "/a".repeat(10_000);
    assert!(table.search(&view(&Method::GET, &path, &headers), &mut || steps += 1).is_some());
    assert!(steps <= 3, "{steps}");
}

#[test]
fn draws_backends_by_weight() {
    let backend = |weight| Backend { weight, port: Err(weight.to_string()), filters: Filters::default() };
    let with = |weights: &[u32]| {
        let mut rule = Arc::into_inner(rule("a", 0)).unwrap();
        rule.action = Action::Forward(weights.iter().copied().map(backend).collect());
        rule
    };
    let rule = with(&[90, 0, 10]);
    let mut drawn = [0; 3];
    for random in 0..10_000_u64 {
        match rule.backend(random).unwrap().weight {
            90 => drawn[0] += 1,
            10 => drawn[2] += 1,
            _ => drawn[1] += 1,
        }
    }
    assert_eq!(drawn, [9_000, 0, 1_000]);
    assert!(rule.backend(u64::MAX).is_some());
    assert!(with(&[0, 0]).backend(7).is_none());
    assert!(with(&[]).backend(7).is_none());
    assert_eq!(with(&[1_000_000; 16]).backend(u64::MAX).unwrap().weight, 1_000_000);
}

/// Paths of few elements, so that they meet.
fn path() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof!["a", "b", "ab", ""], 0..4)
        .prop_map(|parts| format!("/{}", parts.join("/")))
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let path = (0..4, path()).prop_map(|(kind, path)| match kind {
        0 => exact(&path),
        1 => regex(&path.replace('a', "[ab]+")),
        _ => prefix(&path),
    });
    let words = proptest::collection::vec(prop_oneof!["GET", "x-a=1", "x-b=1", "\\?q=1"], 0..3);
    (path, words, proptest::option::of(0..3_i64), 0..3_usize, "[a-c]").prop_map(
        |(path, words, created, place, name)| Entry {
            path,
            predicate: Arc::new(predicate(&words.join(" "))),
            rule: rule(&name, place),
            created,
        },
    )
}

proptest! {
    #[test]
    fn chooses_what_a_plain_search_chooses(
        entries in proptest::collection::vec(any_entry(), 0..20),
        target in path(),
        get in any::<bool>(), a in any::<bool>(), b in any::<bool>(), query in any::<bool>(),
    ) {
        let pairs: Vec<(&str, &str)> = [(a, "x-a"), (b, "x-b")].iter().filter(|(on, _)| *on).map(|(_, name)| (*name, "1")).collect();
        let headers = headers(&pairs);
        let method = if get { Method::GET } else { Method::PUT };
        let target = if query { format!("{target}?q=1") } else { target };
        let request = view(&method, &target, &headers);
        let mut sorted = entries.clone();
        sorted.sort_by_key(|entry| entry.precedence());
        let plain = sorted.iter().find(|entry| entry.path.accepts(request.path) && entry.predicate.accepts(&request));
        let table = RouteTable::of(entries);
        let choice = table.choose(&request);
        prop_assert_eq!(choice.map(|choice| Arc::as_ptr(choice.rule)), plain.map(|entry| Arc::as_ptr(&entry.rule)));
    }

    #[test]
    fn survives_any_request(path in ".{0,40}", query in ".{0,40}", host in "[ -~]{0,20}") {
        let table = RouteTable::of(vec![
            entry("a", prefix("/a"), predicate("?a=1")),
            entry("b", grpc("a", "b"), predicate("")),
            entry("c", grpc("", "b"), predicate("")),
        ]);
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        let request = RequestView { method: &Method::GET, path: &path, query: Some(&query), headers: &headers, authority: &host };
        let _ = table.choose(&request);
    }
}
