//! curl to nginx, both of Debian, and what only raw bytes can ask: CONNECT, upgrades, answers that come early.

use crate::{http_scene::Web, scene::logs};
use posthaste_tests::{
    Family, nginx,
    peer::{
        faulty::Faulty,
        load::{self, Spec},
    },
    python,
};
use serde_json::Value;
use std::fs;

const PROTOCOLS: [Option<&str>; 2] = [None, Some("http")];

/// The folder that nginx serves, with `small` and `large` inside, and its `server` block for ports 8080 and 8090 (HTTP/2).
fn site(web: &Web) -> String {
    let folder = web.mesh.world.folder().join("www");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("small"), "0123456789").unwrap();
    fs::write(folder.join("large"), vec![b'L'; 20 << 20]).unwrap();
    format!(
        "listen 8080; listen [::]:8080; root {}; client_max_body_size 100m; absolute_redirect off; proxy_http_version 1.1; default_type text/plain;\n\
         location /upload {{ proxy_pass http://127.0.0.1:8080/taken; }}\nlocation /taken {{ return 200 $http_content_length; }}\n\
         location /version {{ return 200 $server_protocol; }}\nlocation /old {{ return 301 /small; }}",
        folder.display()
    )
}

#[test]
fn curl_to_nginx() {
    let mut web = Web::start();
    let _nginx = nginx::start(&web.server, &site(&web)).unwrap();
    web.server.wait_listening(8080).unwrap();
    let upload = web.mesh.world.folder().join("upload");
    fs::write(&upload, vec![b'U'; 3 << 20]).unwrap();
    let upload = upload.display().to_string();
    for (protocol, family) in PROTOCOLS.into_iter().flat_map(|p| [(p, Family::V4), (p, Family::V6)]) {
        let base = format!("http://{}", web.address(protocol, family));
        let at = |path: &str| format!("{base}/{path}");
        let status = ["-o", "/dev/null", "-w", "%{http_code} %{size_download} "];
        assert_eq!(web.curl(&[&at("small")]), "0123456789");
        assert_eq!(web.curl(&[&status[..], &[&at("large")]].concat()), format!("200 {} ", 20 << 20));
        let head = web.curl(&["-I", &at("large")]).to_ascii_lowercase();
        assert!(head.contains(&format!("content-length: {}\r\n", 20 << 20)), "{head}");
        assert_eq!(web.curl(&["-r", "2-4", &at("small")]), "234");
        assert_eq!(web.curl(&[&status[..], &["-L", &at("old")]].concat()), "200 10 ");
        let etag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
        let same = format!("If-None-Match: {etag}");
        assert_eq!(web.curl(&[&status[..], &["-H", &same, &at("large")]].concat()), "304 0 ");
        assert_eq!(web.curl(&[&status[..], &["-0", &at("small")]].concat()), "200 10 ");
        // One connection for three requests.
        let three = ["-w", " %{num_connects}\n", &at("small"), &at("small"), &at("small")];
        let connects = web.curl(&three);
        let counts: Vec<&str> = connects.lines().filter_map(|line| line.split(' ').nth(1)).collect();
        assert_eq!(counts, ["1", "0", "0"], "{connects}");
        for extra in ["Expect: 100-continue", "Expect:", "Transfer-Encoding: chunked"] {
            let line = ["-T", &upload, "-H", extra, &at("upload")];
            let taken: usize = web.curl(&line).trim().parse().unwrap_or(0);
            assert!(taken == 3 << 20, "{extra}: {taken}\n{}", logs(&web.mesh));
        }
    }
}

#[test]
fn curl_speaks_http2_to_a_server_that_does_not() {
    let mut web = Web::start();
    let _nginx = nginx::start(&web.server, &site(&web)).unwrap();
    web.server.wait_listening(8080).unwrap();
    for protocol in PROTOCOLS {
        let url = format!("http://{}/version", web.address(protocol, Family::V4));
        // The first one finds out, the second one knows; what the client speaks is its own matter.
        for (option, version) in
            [("--http2-prior-knowledge", "2"), ("--http2-prior-knowledge", "2"), ("--http1.1", "1.1")]
        {
            let answer = web.curl(&[option, "-w", " %{http_version}", &url]);
            assert_eq!(answer, format!("HTTP/1.1 {version}"), "{protocol:?}\n{}", logs(&web.mesh));
        }
    }
}

#[test]
fn curl_speaks_http2_to_hypercorn() {
    let mut web = Web::start();
    let _server = python::hypercorn(&web.server, 8080).unwrap();
    for protocol in [None, Some("kubernetes.io/h2c")] {
        let url = format!("http://{}/status/200", web.address(protocol, Family::V4));
        let line = ["--http2-prior-knowledge", "-w", " %{http_version}", &url];
        assert_eq!(web.curl(&line), "as asked 2");
    }
    // An upgrade to HTTP/2 that nobody has to take.
    let url = format!("http://{}/status/200", web.address(Some("http"), Family::V4));
    assert!(web.curl(&["--http2", &url]).starts_with("as asked"));
}

#[test]
fn connect_and_upgrade_pass_bytes_both_ways() {
    let mut web = Web::start();
    let _server = Faulty::start(&web.server, 8080, "one").unwrap();
    for protocol in PROTOCOLS {
        let to = web.address(protocol, Family::V4);
        let answer =
            web.raw(to, "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n\x01\x02 not HTTP");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}\n{}", logs(&web.mesh));
        assert!(answer.ends_with("\x01\x02 not HTTP"), "{answer}");
        let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
        let answer = web.raw(to, &format!("{head}first words\n"));
        assert!(
            answer.starts_with("HTTP/1.1 101 ") && answer.ends_with("first words\n"),
            "{answer}\n{}",
            logs(&web.mesh)
        );
    }
}

#[test]
fn an_answer_that_comes_before_the_body_is_sent() {
    let mut web = Web::start();
    let _server = Faulty::start(&web.server, 8080, "one").unwrap();
    let upload = web.mesh.world.folder().join("upload");
    fs::write(&upload, vec![b'U'; 8 << 20]).unwrap();
    for protocol in PROTOCOLS {
        let url = format!("http://{}/early", web.address(protocol, Family::V4));
        for extra in ["Expect: 100-continue", "Expect:"] {
            let upload = upload.display().to_string();
            let line = [
                "-X",
                "POST",
                "-H",
                extra,
                "--data-binary",
                &format!("@{upload}"),
                "-w",
                " %{http_code}",
                &url,
            ];
            let answer = web.client.run(&[&["curl", "-sS", "--max-time", "20"], &line[..]].concat()).unwrap();
            // curl may find the connection closed while it sends, and still has read the answer.
            assert_eq!(answer.stdout, "early 413", "{extra}: {}\n{}", answer.stderr, logs(&web.mesh));
        }
    }
}

#[test]
fn trailers_and_pipelined_requests() {
    let mut web = Web::start();
    let server = Faulty::start(&web.server, 8080, "one").unwrap();
    for protocol in PROTOCOLS {
        let to = web.address(protocol, Family::V4);
        let trailers =
            web.raw(to, "GET /trailers HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: close, TE\r\n\r\n");
        assert!(
            trailers.to_ascii_lowercase().ends_with("0\r\nx-trailer: end\r\n\r\n"),
            "{trailers}\n{}",
            logs(&web.mesh)
        );
        let one =
            |path: &str, end: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Id: {path}\r\n{end}\r\n");
        let pipelined = one("/size/1", "") + &one("/size/2", "") + &one("/size/3", "Connection: close\r\n");
        let answer = web.raw(to, &pipelined);
        assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 3, "{answer}\n{}", logs(&web.mesh));
        assert!(answer.ends_with("sss"), "{answer}");
        let upload = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\nConnection: close\r\n\r\n";
        let answer = web.raw(to, &format!("{upload}3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n"));
        assert!(answer.contains("[\"x-sum\",\"6\"]") && answer.contains("\"body_bytes\":3"), "{answer}");
    }
    assert!(server.seen(&web.server).unwrap().repeated().iter().all(|(_, times)| *times == 2));
}

/// Nothing that is meant for one hop passes, either way, and the agents do not name themselves: what the client or something before
/// it said in `Via` stays as it is.
#[test]
fn what_ends_at_a_hop_ends_there() {
    let mut web = Web::start();
    let _server = Faulty::start(&web.server, 8080, "one").unwrap();
    let hops = "Connection: x-hop, keep-alive, close\r\nX-Hop: of the client\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
        TE: trailers, deflate\r\nUpgrade: other\r\nHTTP2-Settings: AAMAAABk\r\nX-End: kept\r\n";
    for (protocol, via) in
        PROTOCOLS.into_iter().flat_map(|protocol| [(protocol, ""), (protocol, "1.0 fred, 1.1 p")])
    {
        let to = web.address(protocol, Family::V4);
        let before = if via.is_empty() { String::new() } else { format!("Via: {via}\r\n") };
        let answer = web.raw(to, &format!("GET /hops HTTP/1.1\r\nHost: h\r\n{hops}{before}\r\n"));
        let (head, body) =
            answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}\n{}", logs(&web.mesh)));
        let head = head.to_ascii_lowercase();
        assert!(head.contains("x-end: kept"), "{head}");
        for name in ["x-hop", "keep-alive", "proxy-connection", "via:"] {
            assert!(!head.contains(name), "{name}: {head}");
        }
        let read: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"));
        let values = |name: &str| {
            let all = read["headers"].as_array().unwrap().iter().filter(|pair| pair[0] == name);
            all.map(|pair| pair[1].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        for name in
            ["x-hop", "keep-alive", "proxy-connection", "upgrade", "http2-settings", "transfer-encoding"]
        {
            assert_eq!(values(name), [""; 0], "{name}: {read}");
        }
        assert!(values("connection").iter().all(|value| !value.contains("x-hop")), "{read}");
        assert_eq!(
            (values("te"), values("x-end")),
            (vec!["trailers".to_owned()], vec!["kept".to_owned()]),
            "{read}"
        );
        let given = if via.is_empty() { vec![] } else { vec![via.to_owned()] };
        assert_eq!(values("via"), given, "{read}");
    }
}

#[test]
fn a_thousand_requests_each_arrive_once() {
    let mut web = Web::start();
    let server = Faulty::start(&web.server, 8080, "one").unwrap();
    for (number, (protocol, http2)) in
        [(None, false), (Some("http"), false), (None, true), (Some("kubernetes.io/h2c"), true)]
            .into_iter()
            .enumerate()
    {
        let to = web.address(protocol, Family::V4);
        let id = format!("run{number}");
        let spec =
            Spec { http2, streams: 5, method: "POST".to_owned(), body: 2000, id, ..Spec::requests(1000, 8) };
        let report = load::of(&web.client, to, &spec).unwrap();
        assert_eq!(report.status(200), 1000, "{report:?}\n{}", logs(&web.mesh));
        let seen = server.seen(&web.server).unwrap();
        assert_eq!((seen.requests, seen.ids.len(), seen.ambiguous), (1000, 1000, 0));
        server.forget(&web.server).unwrap();
    }
}
