//! A pair of HAProxy (Debian) in TCP or HTTP mode with mutual TLS 1.3 between them, one thread each.

use super::{
    pair::{self, FAR_PORT, NEAR_PORT},
    subject::PORT,
};
use crate::{Doing, Fault, Running, Site, World, certificates::Files, world};
use std::{fs, net::SocketAddr};

/// Starts both in this `mode` (with further lines of the section `defaults`); the client calls the address that is returned.
///
/// # Errors
/// HAProxy is missing or does not like its configuration.
pub fn pair(
    world: &World,
    client: &Site,
    server: &Site,
    mode: &str,
) -> Result<(Vec<Running>, SocketAddr), Fault> {
    let certificates = pair::certificates(world)?;
    let tls = |files: &Files| -> Result<String, Fault> {
        let read = |path| fs::read_to_string(path).doing("read a certificate");
        let whole = files.certificate.with_extension("pem");
        fs::write(&whole, read(&files.certificate)? + &read(&files.key)?).doing("write a certificate")?;
        Ok(format!("ssl crt {} ca-file {} verify required", whole.display(), certificates.root.display()))
    };
    let (near, far) = (tls(&certificates.near)?, tls(&certificates.far)?);
    let near = format!("bind 127.0.0.1:{NEAR_PORT}\n server far {}:{FAR_PORT} {near}", server.v4);
    let far = format!("bind {}:{FAR_PORT} {far}\n server application 127.0.0.1:{PORT}", server.v4);
    let running = vec![start(client, &near, NEAR_PORT, mode)?, start(server, &far, FAR_PORT, mode)?];
    Ok((running, SocketAddr::from(([127, 0, 0, 1], NEAR_PORT))))
}

fn start(site: &Site, listen: &str, port: u16, mode: &str) -> Result<Running, Fault> {
    let suites = "TLS_AES_128_GCM_SHA256";
    let connections = world::descriptor_limit().min(65_536).saturating_sub(100) / 2;
    let text = format!(
        "global\n nbthread 1\n maxconn {connections}\n ssl-default-bind-options ssl-min-ver TLSv1.3\n \
         ssl-default-server-options ssl-min-ver TLSv1.3\n ssl-default-bind-ciphersuites {suites}\n \
         ssl-default-server-ciphersuites {suites}\ndefaults\n mode {mode}\n maxconn {connections}\n timeout connect 10s\n \
         timeout client 1h\n timeout server 1h\nlisten all\n {listen}\n"
    );
    let file = site.folder().join(format!("haproxy-{}.cfg", site.name));
    fs::write(&file, text).doing("write haproxy's configuration")?;
    let file = file.display().to_string();
    let mut running = site.start(&["/usr/sbin/haproxy", "-db", "-f", &file])?;
    site.wait_listening(port).map_err(|fault| Fault::new(format!("{fault}: {}", running.stderr())))?;
    if running.alive() {
        Ok(running)
    } else {
        Err(Fault::new(format!("haproxy ended: {}", running.stderr())))
    }
}
