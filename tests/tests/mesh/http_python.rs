//! Unmodified HTTP programs from PyPI through the mesh: clients requests, httpx (HTTP/2 with prior knowledge), aiohttp,
//! grpcio and websockets; servers uvicorn, hypercorn and grpcio. Each over ports that say what they speak and ports that do not.

use crate::http_scene::Web;
use posthaste_tests::{Family, python};

#[test]
fn requests_and_aiohttp_to_uvicorn() {
    let mut web = Web::start();
    let _server = python::uvicorn(&web.server, 8080).unwrap();
    for protocol in [None, Some("http")] {
        let address = web.address(protocol, Family::V4);
        web.checks("with_requests.py", &format!("http://{address}"));
        web.checks("with_aiohttp.py", &format!("http://{address}"));
    }
    // A pod's own address, which is no service.
    let pod = web.server.at(Family::V4, 8080);
    web.checks("with_requests.py", &format!("http://{pod}"));
}

#[test]
fn requests_and_aiohttp_to_hypercorn() {
    let mut web = Web::start();
    let _server = python::hypercorn(&web.server, 8080).unwrap();
    for (protocol, family) in [(None, Family::V6), (Some("http"), Family::V4)] {
        let address = web.address(protocol, family);
        web.checks("with_requests.py", &format!("http://{address}"));
        web.checks("with_aiohttp.py", &format!("http://{address}"));
    }
}

#[test]
fn httpx_over_http2_to_hypercorn() {
    let mut web = Web::start();
    let _server = python::hypercorn(&web.server, 8080).unwrap();
    let table = [
        (None, Family::V4),
        (Some("kubernetes.io/h2c"), Family::V4),
        (Some("kubernetes.io/h2c"), Family::V6),
    ];
    for (protocol, family) in table {
        let address = web.address(protocol, family);
        web.checks("with_httpx.py", &format!("http://{address}"));
    }
}

#[test]
fn websockets_to_uvicorn_and_hypercorn() {
    let mut web = Web::start();
    let server = python::uvicorn(&web.server, 8080).unwrap();
    for protocol in [None, Some("kubernetes.io/ws"), Some("http")] {
        let address = web.address(protocol, Family::V4);
        web.checks("with_websockets.py", &format!("ws://{address}/ws"));
    }
    drop(server);
    let _server = python::hypercorn(&web.server, 8080).unwrap();
    let address = web.address(Some("http"), Family::V6);
    web.checks("with_websockets.py", &format!("ws://{address}/ws"));
}

#[test]
fn grpcio_to_grpcio() {
    let mut web = Web::start();
    let _server = python::grpc_server(&web.server, 8080).unwrap();
    let table = [(None, Family::V4), (Some("grpc"), Family::V4), (Some("kubernetes.io/h2c"), Family::V6)];
    for (protocol, family) in table {
        let address = web.address(protocol, family);
        web.checks("with_grpcio.py", &address.to_string());
    }
}
