//! What a good answer is, over either version of HTTP. Pure.

use super::seen::Seen;
use serde_json::{Value, json};

/// A request as the server has read it.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) version: &'static str,
    /// Names in lower case, in their order.
    pub(super) headers: Vec<(String, String)>,
    pub(super) trailers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

/// What is answered when nothing goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Sent behind the body, which then is chunked.
    pub(super) trailers: Vec<(String, String)>,
}

/// What a server says to whoever it has the connection with; the last one is for whoever asked.
const HOPS: [(&str, &str); 5] = [
    ("connection", "x-hop, keep-alive"),
    ("x-hop", "of the server"),
    ("keep-alive", "timeout=7"),
    ("proxy-connection", "keep-alive"),
    ("x-end", "kept"),
];

/// | path | answer |
/// |---|---|
/// | `/echo` | the request as JSON: method, target, version, headers, trailers, length of the body |
/// | `/body` | the body of the request |
/// | `/hops` | as `/echo`, with fields that end at the next hop (HTTP/1.1 only), and `x-end` |
/// | `/seen` | counts so far as JSON, without the ids |
/// | `/size/N` | N bytes |
/// | `/trailers` | a chunked body and the trailer `x-trailer: end` |
/// | `/status/N` | that status |
/// | others | `length` bytes |
pub(super) fn to(asked: &Asked, name: &str, length: usize, seen: &Seen) -> Answer {
    let mut answer = Answer {
        status: 200,
        headers: vec![("x-server".to_owned(), name.to_owned())],
        body: Vec::new(),
        trailers: Vec::new(),
    };
    let number = asked.path().rsplit('/').next().and_then(|word| word.parse::<usize>().ok());
    match (asked.path().split('/').nth(1).unwrap_or_default(), number) {
        ("echo", _) => answer.body = echo(asked).to_string().into_bytes(),
        ("hops", _) => {
            answer.body = echo(asked).to_string().into_bytes();
            answer.headers.extend(HOPS.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        ("body", _) => answer.body.clone_from(&asked.body),
        ("seen", _) => {
            answer.body = json!({"requests": seen.requests, "methods": seen.methods}).to_string().into_bytes()
        }
        ("size", Some(size)) => answer.body = vec![b's'; size],
        ("status", Some(status)) => answer.status = u16::try_from(status).unwrap_or(500),
        ("trailers", _) => {
            answer.body = vec![b't'; 3000];
            answer.trailers = vec![("x-trailer".to_owned(), "end".to_owned())];
        }
        _ => answer.body = vec![b'.'; length],
    }
    answer
}

fn echo(asked: &Asked) -> Value {
    json!({
        "method": asked.method, "target": asked.target, "version": asked.version, "headers": asked.headers,
        "trailers": asked.trailers, "body_bytes": asked.body.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_by_path() {
        let ask = |target: &str| {
            let asked = Asked { target: target.to_owned(), body: b"abc".to_vec(), ..Asked::default() };
            to(&asked, "one", 5, &Seen::default())
        };
        assert_eq!(ask("/size/7?x=1").body.len(), 7);
        assert_eq!(ask("/").body.len(), 5);
        assert_eq!(ask("/body").body, b"abc");
        assert_eq!(ask("/status/418").status, 418);
        assert_eq!(ask("/trailers").trailers.len(), 1);
        assert!(String::from_utf8(ask("/echo").body).is_ok_and(|text| text.contains("\"body_bytes\":3")));
    }
}
