//! What the dashboard's address answers: the files of the page, which are part of the program, the state, and explanations.

use super::{
    access::{self, Refusal},
    sampler::Sampler,
};
use crate::{
    cli::{
        Options,
        client::ClientError,
        explain::{self, ExplainArguments},
    },
    observe::{
        http::{Answer, AnswerBody},
        query::Query,
    },
};
use hyper::{Request, Response, StatusCode, header, header::HeaderValue};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Explanations at once: each asks an agent, perhaps across a cluster.
const EXPLANATIONS: usize = 4;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Path, type and text of each file of the page.
const FILES: [(&str, &str, &str); 12] = [
    ("/", HTML, include_str!("page/index.html")),
    ("/style.css", CSS, include_str!("page/style.css")),
    ("/tables.css", CSS, include_str!("page/tables.css")),
    ("/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
    ("/main.js", SCRIPT, include_str!("page/main.js")),
    ("/dom.js", SCRIPT, include_str!("page/dom.js")),
    ("/format.js", SCRIPT, include_str!("page/format.js")),
    ("/layout.js", SCRIPT, include_str!("page/layout.js")),
    ("/topology.js", SCRIPT, include_str!("page/topology.js")),
    ("/tables.js", SCRIPT, include_str!("page/tables.js")),
    ("/trend.js", SCRIPT, include_str!("page/trend.js")),
    ("/explain.js", SCRIPT, include_str!("page/explain.js")),
];

/// Nothing but our own files, nothing in line, no text that becomes markup or script, no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// Of every answer.
const HEADERS: [(&str, &str); 7] = [
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cache-control", "no-store"),
];

/// All that answers need.
#[derive(Clone)]
pub(super) struct Dashboard {
    token: Arc<str>,
    options: Arc<Options>,
    sampler: Arc<Sampler>,
    explanations: Arc<Semaphore>,
}

impl Dashboard {
    pub(super) fn new(token: &str, options: &Options, sampler: Arc<Sampler>) -> Self {
        let options = Arc::new(options.clone());
        Self { token: token.into(), options, sampler, explanations: Arc::new(Semaphore::new(EXPLANATIONS)) }
    }

    /// Answers a request, whose body is not read.
    pub(super) async fn respond<B>(self, request: Request<B>) -> Response<AnswerBody> {
        let refused = self.refusal(&request);
        let answer = match (refused, request.uri().path()) {
            (Some(refusal), _) => Answer::text(refusal.status(), refusal.says()),
            (None, "/api/state") => Answer::json(&self.sampler.state()),
            (None, "/api/explain") => self.explain(request.uri().query().unwrap_or_default()).await,
            (None, path) => {
                file(path).unwrap_or_else(|| Answer::text(StatusCode::NOT_FOUND, "no such page\n"))
            }
        };
        dressed(answer, refused)
    }

    fn refusal<B>(&self, request: &Request<B>) -> Option<Refusal> {
        let (method, uri, headers) = (request.method(), request.uri(), request.headers());
        let checked = if file(uri.path()).is_some() {
            access::page(method, uri, headers)
        } else {
            access::data(method, uri, headers, &self.token)
        };
        checked.err()
    }

    async fn explain(&self, query: &str) -> Answer {
        let arguments = match question(query) {
            Ok(arguments) => arguments,
            Err(missing) => return Answer::text(StatusCode::BAD_REQUEST, format!("{missing}\n")),
        };
        let Ok(_permit) = self.explanations.try_acquire() else {
            return Answer::text(
                StatusCode::TOO_MANY_REQUESTS,
                "other explanations are under way: try again\n",
            );
        };
        let options = self.options.clone();
        let asked = tokio::task::spawn_blocking(move || explain::explained(&options, &arguments)).await;
        match asked {
            Ok(Ok(view)) => Answer::json(&view),
            Ok(Err(ClientError::Status { status, body })) => Answer::text(
                StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY),
                format!("{body}\n"),
            ),
            Ok(Err(error)) => Answer::text(StatusCode::BAD_GATEWAY, format!("{error}\n")),
            Err(error) => Answer::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }
}

fn file(path: &str) -> Option<Answer> {
    let (_, content, text) = FILES.iter().find(|(own, ..)| *own == path)?;
    Some(Answer { status: StatusCode::OK, content, body: AnswerBody::Whole((*text).into()) })
}

/// `source`, `destination`, and as they are wanted `method`, `path`, `header` (several), `tcp=true`.
fn question(query: &str) -> Result<ExplainArguments, String> {
    let query = Query::parse(query);
    let word = |name: &str| query.find(name).map(str::to_owned);
    let needed = |name: &str, what: &str| word(name).ok_or_else(|| format!("{name} is missing: {what}"));
    Ok(ExplainArguments {
        source: Some(needed("source", "the calling pod, `namespace/name`, or its address")?),
        destination: Some(needed(
            "destination",
            "`service[.namespace][:PORT]`, `namespace/pod:PORT` or `ADDRESS:PORT`",
        )?),
        trace: None,
        method: word("method"),
        path: word("path"),
        headers: query.all("header").map(str::to_owned).collect(),
        tcp: query.find("tcp") == Some("true"),
    })
}

fn dressed(answer: Answer, refused: Option<Refusal>) -> Response<AnswerBody> {
    let mut response = Response::new(answer.body);
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content));
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    match refused {
        Some(Refusal::Method) => drop(headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"))),
        Some(Refusal::Token) => {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        _ => {}
    }
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::cli::Arguments;
    use clap::Parser;

    const TOKEN: &str = "a-token";

    async fn ask(method: &str, target: &str, headers: &[(&str, &str)]) -> Response<AnswerBody> {
        let mut request = Request::builder().method(method).uri(target).header("host", "127.0.0.1:1");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let sampler = Arc::new(Sampler::of(Vec::new()));
        let line = ["posthaste", "--admin-socket", "/nonexistent/admin.sock", "dashboard"];
        let options = Arguments::try_parse_from(line).unwrap().options;
        Dashboard::new(TOKEN, &options, sampler).respond(request.body(()).unwrap()).await
    }

    #[tokio::test(flavor = "current_thread")]
    async fn every_answer_has_the_headers_and_only_the_token_opens_data() {
        let token = ("authorization", "Bearer a-token");
        let wrong = ("authorization", "Bearer another");
        for (method, target, headers, status) in [
            ("GET", "/", vec![], 200),
            ("HEAD", "/", vec![], 200),
            ("GET", "/main.js", vec![wrong], 200),
            ("POST", "/", vec![token], 405),
            ("DELETE", "/api/state", vec![token], 405),
            ("GET", "/api/state", vec![], 401),
            ("GET", "/api/state", vec![wrong], 401),
            ("GET", "/api/state", vec![token], 200),
            ("GET", "/api/explain?source=a/b&destination=c", vec![], 401),
            ("GET", "/api/explain?source=a/b", vec![token], 400),
            ("GET", "/api/explain?source=a/b&destination=c", vec![token], 502),
            ("GET", "/nothing", vec![], 401),
            ("GET", "/nothing", vec![token], 404),
            ("GET", "/../mod.rs", vec![token], 404),
            ("GET", "//style.css", vec![token], 404),
        ] {
            let answer = ask(method, target, &headers).await;
            assert_eq!(answer.status(), status, "{method} {target} {headers:?}");
            for (name, value) in HEADERS {
                assert_eq!(answer.headers()[name], value, "{method} {target}");
            }
            assert_eq!(answer.headers().contains_key("allow"), status == 405, "{method} {target}");
            assert_eq!(answer.headers().contains_key("www-authenticate"), status == 401, "{method} {target}");
        }
    }

    #[test]
    fn the_page_is_whole_and_its_own() {
        let (_, _, index) = FILES[0];
        let named = index.split(['"']).filter(|word| word.starts_with('/') && word.len() > 1);
        let mut named: Vec<&str> = named.collect();
        for (_, _, script) in FILES.iter().filter(|(_, content, _)| *content == SCRIPT) {
            named.extend(script.split(['"']).filter(|word| word.starts_with("/") && word.ends_with(".js")));
            for markup in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
                assert!(!script.contains(markup), "{markup}");
            }
        }
        for (path, ..) in &FILES[1..] {
            assert!(named.contains(path), "nothing names {path}");
        }
        named
            .iter()
            .filter(|path| path.contains('.'))
            .for_each(|path| assert!(file(path).is_some(), "{path}"));
        for (path, _, text) in FILES {
            assert!(text.lines().count() < 400, "{path} is too long");
            let foreign = text.replace("http://www.w3.org/", "");
            assert!(
                !foreign.contains("http://") && !foreign.contains("https://"),
                "{path} names another host"
            );
        }
        for inline in ["<style", "style=", " onclick", " onload"] {
            assert!(!index.contains(inline), "{inline}");
        }
    }

    #[test]
    fn a_question_is_read() {
        let read = question("source=shop%2Fa&destination=b%3A80&path=/x%3Fy&header=a%3A%201&header=b%3A%202")
            .unwrap();
        assert_eq!((read.source.as_deref(), read.destination.as_deref()), (Some("shop/a"), Some("b:80")));
        assert_eq!((read.path.as_deref(), read.method, read.tcp), (Some("/x?y"), None, false));
        assert_eq!(read.headers, ["a: 1", "b: 2"]);
        assert!(question("destination=b").unwrap_err().contains("source is missing"));
        assert!(question("source=a&destination=").unwrap_err().contains("destination is missing"));
        assert!(question("source=a&destination=b&tcp=true").unwrap().tcp);
    }
}
