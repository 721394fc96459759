//! What filters make of requests and answers, in the specification's own examples.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use http::{Request, StatusCode, header};

use super::*;
use crate::snapshot::routes::{Cors, Rewrite};

fn parts(method: &str, uri: &str, headers: &[(&str, &str)]) -> request::Parts {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn pair(name: &str, value: &str) -> (HeaderName, HeaderValue) {
    (name.parse().unwrap(), value.parse().unwrap())
}

fn all<'headers>(headers: &'headers HeaderMap, name: &str) -> Vec<&'headers str> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

#[test]
fn changes_headers_both_ways() {
    let changes = HeaderChanges {
        set: vec![pair("x-set", "new"), pair("x-fresh", "1")],
        add: vec![pair("x-add", "bar,baz")],
        remove: vec!["x-gone".parse().unwrap()],
    };
    let filters =
        Filters { request_headers: changes.clone(), response_headers: changes, ..Filters::default() };
    let given =
        [("X-Set", "a"), ("x-set", "b"), ("x-add", "foo"), ("x-gone", "1"), ("x-gone", "2"), ("x-same", "1")];
    let mut parts = parts("GET", "/", &given);
    let mut answer = parts.headers.clone();
    request(&filters, 0, &mut parts);
    response(&filters, &mut answer);
    for headers in [&parts.headers, &answer] {
        assert_eq!(all(headers, "x-set"), ["new"]);
        assert_eq!(all(headers, "x-fresh"), ["1"]);
        assert_eq!(all(headers, "x-add"), ["foo", "bar,baz"]);
        assert_eq!(all(headers, "x-gone"), Vec::<&str>::new());
        assert_eq!(all(headers, "x-same"), ["1"]);
    }
}

#[test]
fn replaces_prefixes_as_the_table_says() {
    // Request path, prefix match, replacement, modified path (HTTPPathModifier).
    let table = [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        ("/foo", "/", "/xyz", "/xyz/foo"),
        ("/", "/", "/xyz", "/xyz/"),
    ];
    for (path, prefix, replacement, expected) in table {
        let change = PathChange::Prefix(replacement.into());
        let prefix = prefix.trim_end_matches('/').len();
        assert_eq!(changed_path(&change, prefix, path), expected, "{path} {prefix} {replacement}");
        let filters =
            Filters { rewrite: Some(Rewrite { hostname: None, path: Some(change) }), ..Filters::default() };
        let mut parts = parts("GET", &format!("{path}?a=b%20c"), &[]);
        request(&filters, prefix, &mut parts);
        assert_eq!(parts.uri.to_string(), format!("{expected}?a=b%20c"));
    }
    assert_eq!(changed_path(&PathChange::Full("/new".into()), 3, "/foo/bar"), "/new");
    // Nothing to hold on to: `OPTIONS *`, or a place within a character.
    assert_eq!(changed_path(&PathChange::Prefix("/x".into()), 0, "*"), "/x");
    assert_eq!(changed_path(&PathChange::Prefix("/x".into()), 2, "/é"), "/x");
}

#[test]
fn rewrites_the_host_where_it_is() {
    let rewrite = Rewrite { hostname: Some("new.example".parse().unwrap()), path: None };
    let filters = Filters { rewrite: Some(rewrite), ..Filters::default() };
    let by_header = HeaderChanges { set: vec![pair("host", "new.example")], ..HeaderChanges::default() };
    let by_header = Filters { request_headers: by_header, ..Filters::default() };
    let mut one = parts("GET", "/a", &[("host", "old")]);
    request(&filters, 0, &mut one);
    assert_eq!((one.uri.to_string().as_str(), all(&one.headers, "host")), ("/a", vec!["new.example"]));
    for filters in [&filters, &by_header] {
        let mut two = parts("GET", "http://old:80/a?b", &[]);
        request(filters, 0, &mut two);
        assert_eq!(two.uri.to_string(), "http://new.example/a?b");
    }
}

#[test]
fn redirects() {
    let none = Redirect { scheme: None, hostname: None, path: None, port: None, status: StatusCode::FOUND };
    let with = |change: &dyn Fn(&mut Redirect)| {
        let mut redirect = none.clone();
        change(&mut redirect);
        redirect
    };
    let table = [
        (none.clone(), "cart:8080", "http://cart:8080/a/b?c"),
        (none.clone(), "cart", "http://cart/a/b?c"),
        (none.clone(), "cart:80", "http://cart/a/b?c"),
        (none.clone(), "[fd00::1]:8080", "http://[fd00::1]:8080/a/b?c"),
        (none.clone(), "[fd00::1]", "http://[fd00::1]/a/b?c"),
        (with(&|to| to.hostname = Some("new".into())), "cart:8080", "http://new:8080/a/b?c"),
        (with(&|to| to.scheme = Some("https".into())), "cart:8080", "https://cart/a/b?c"),
        (with(&|to| to.port = Some(8443)), "cart:8080", "http://cart:8443/a/b?c"),
        (with(&|to| to.port = Some(80)), "cart:8080", "http://cart/a/b?c"),
        (with(&|to| (to.scheme, to.port) = (Some("https".into()), Some(443))), "cart", "https://cart/a/b?c"),
        (
            with(&|to| (to.scheme, to.port) = (Some("https".into()), Some(80))),
            "cart",
            "https://cart:80/a/b?c",
        ),
        (with(&|to| to.path = Some(PathChange::Prefix("/x".into()))), "cart", "http://cart/x/b?c"),
        (with(&|to| to.path = Some(PathChange::Full("/x".into()))), "cart", "http://cart/x?c"),
    ];
    for (given, authority, location) in table {
        let answer = redirect(&given, 2, authority, "http", &"/a/b?c".parse().unwrap());
        assert_eq!(answer.status(), StatusCode::FOUND);
        assert_eq!(answer.headers()[header::LOCATION], location, "{given:?} {authority}");
    }
}

fn cors() -> Cors {
    Cors {
        allow_origins: vec![
            "https://shop.example".into(),
            "https://*.shop.example".into(),
            "http://*:8080".into(),
        ],
        allow_methods: vec!["GET".into(), "PUT".into()],
        allow_headers: vec!["x-a".into()],
        expose_headers: vec!["x-b".into(), "x-c".into()],
        max_age: 60,
        allow_credentials: false,
    }
}

fn ask(cors: &Cors, origin: &str) -> Option<Response<()>> {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "x-z"),
    ];
    cors_preflight(cors, &parts("OPTIONS", "/", &headers))
}

#[test]
fn answers_preflights_by_origin() {
    let table = [
        ("https://shop.example", true),
        ("https://shop.example:443", true),
        ("https://shop.example:444", false),
        ("http://shop.example", false),
        ("https://SHOP.example", true),
        ("https://a.b.shop.example", true),
        ("https://evilshop.example", false),
        ("https://.shop.example", false),
        ("http://any.where:8080", true),
        ("http://any.where", false),
        ("null", false),
    ];
    for (origin, allowed) in table {
        let answer = ask(&cors(), origin).unwrap();
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        let expected: &[&str] = if allowed { &[origin] } else { &[] };
        assert_eq!(all(answer.headers(), "access-control-allow-origin"), expected);
        let methods: &[&str] = if allowed { &["GET, PUT"] } else { &[] };
        assert_eq!(all(answer.headers(), "access-control-allow-methods"), methods, "{origin}");
        assert_eq!(all(answer.headers(), "vary"), ["origin"]);
    }
    let answer = ask(&cors(), "https://shop.example").unwrap();
    assert_eq!(all(answer.headers(), "access-control-allow-headers"), ["x-a"]);
    assert_eq!(all(answer.headers(), "access-control-max-age"), ["60"]);
    let plain = parts("OPTIONS", "/", &[("origin", "https://shop.example")]);
    assert!(cors_preflight(&cors(), &plain).is_none());
    let get =
        parts("GET", "/", &[("origin", "https://shop.example"), ("access-control-request-method", "PUT")]);
    assert!(cors_preflight(&cors(), &get).is_none());
}

#[test]
fn a_star_means_what_was_asked_where_credentials_are_sent() {
    let star = || vec!["*".into()];
    let mut open = Cors {
        allow_origins: star(),
        allow_methods: star(),
        allow_headers: star(),
        expose_headers: star(),
        ..cors()
    };
    for (credentials, origin, method, headers, exposed) in
        [(false, "*", "*", "*", "*"), (true, "https://a", "PUT", "x-z", "x-one, x-two")]
    {
        open.allow_credentials = credentials;
        let answer = ask(&open, "https://a").unwrap();
        assert_eq!(all(answer.headers(), "access-control-allow-origin"), [origin]);
        assert_eq!(all(answer.headers(), "access-control-allow-methods"), [method]);
        assert_eq!(all(answer.headers(), "access-control-allow-headers"), [headers]);
        assert_eq!(all(answer.headers(), "access-control-allow-credentials").len(), usize::from(credentials));
        let mut answer = HeaderMap::from_iter([pair("x-one", "1"), pair("x-two", "2")]);
        cors_response(&open, &"https://a".parse().unwrap(), &mut answer);
        assert_eq!(all(&answer, "access-control-expose-headers"), [exposed]);
    }
}

#[test]
fn an_answer_says_only_what_the_route_allows() {
    let theirs = [pair("access-control-allow-origin", "*"), pair("access-control-allow-credentials", "true")];
    for (origin, allowed) in [("https://shop.example", 1), ("https://evil.example", 0)] {
        let mut headers = HeaderMap::from_iter(theirs.clone());
        cors_response(&cors(), &origin.parse().unwrap(), &mut headers);
        assert_eq!(all(&headers, "access-control-allow-origin").len(), allowed);
        assert_eq!(all(&headers, "access-control-allow-credentials").len(), 0);
        assert_eq!(all(&headers, "access-control-expose-headers").len(), allowed);
    }
}
