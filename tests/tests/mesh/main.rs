//! The mesh ring: real agents, real eBPF, real programs, two nodes on one machine. It needs root and the Debian packages
//! iproute2, curl, python3, redis-server, redis-tools, iperf3, python3-aiosmtpd,
//! openssl, nginx-light, nftables, prometheus, chromium and chromium-driver, and the Python packages that `cargo xtask setup` installs. Every test has a world of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod authorization;
mod authorization_http;
mod authorization_paths;
mod balance;
mod blame;
mod bytes;
mod capture;
mod container;
mod coverage;
mod crash;
mod dashboard;
mod dashboard_refusals;
mod dashboard_scene;
mod detect;
mod drain;
mod endings;
mod explain;
mod http2_requests;
mod http_curl;
mod http_faults;
mod http_filters;
mod http_hashing;
mod http_hedging;
mod http_hops;
mod http_limits;
mod http_outliers;
mod http_python;
mod http_records;
mod http_requests;
mod http_routes;
mod http_scene;
mod http_shop;
mod http_smuggling;
mod http_times;
mod http_to_h2c;
mod joined;
mod kube_proxy;
mod kubelet;
mod leaks;
mod manifests;
mod mtls_modes;
mod neighbours;
mod observability;
mod outage;
mod pods;
mod programs;
mod record;
mod refuse;
mod revocation;
mod scene;
mod seams;
mod wire;
mod world;
