//! Fields that end at a hop.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::http1::hop::strip_hop_by_hop;

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    fields
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
        .collect()
}

#[test]
fn what_stays() {
    type Fields<'a> = &'a [(&'a str, &'a str)];
    let table: [(Fields<'_>, bool, Fields<'_>); 9] = [
        (&[("host", "h"), ("x", "y")], false, &[("host", "h"), ("x", "y")]),
        (&[("connection", "X, close"), ("x", "y"), ("z", "1")], false, &[("z", "1")]),
        (
            &[("connection", "host, x"), ("connection", "q"), ("host", "h"), ("q", "1")],
            false,
            &[("host", "h")],
        ),
        (&[("keep-alive", "1"), ("proxy-connection", "x"), ("transfer-encoding", "chunked")], false, &[]),
        (&[("te", "gzip, trailers;q=1"), ("connection", "te")], false, &[("te", "trailers")]),
        (&[("te", "gzip")], false, &[]),
        (&[("connection", "upgrade"), ("upgrade", "websocket")], false, &[]),
        (&[("connection", "upgrade"), ("upgrade", "websocket")], true, &[("upgrade", "websocket")]),
        (
            &[("proxy-authorization", "x"), ("trailer", "t")],
            false,
            &[("proxy-authorization", "x"), ("trailer", "t")],
        ),
    ];
    for (before, keep_upgrade, after) in table {
        let mut headers = map(before);
        strip_hop_by_hop(&mut headers, keep_upgrade);
        assert_eq!(headers, map(after), "{before:?}");
    }
}
