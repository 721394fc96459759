//! nginx of Debian (package nginx-light) with one worker, in a folder of its own.

use crate::{Doing, Fault, Running, Site};
use std::fs;

/// Starts it with this inside its `server` block (`listen` included); wait for its port before it is asked.
///
/// # Errors
/// It is missing, or the folder cannot be made.
pub fn start(site: &Site, server: &str) -> Result<Running, Fault> {
    let folder = site.folder().join(format!("nginx-{}", site.name));
    fs::create_dir_all(&folder).doing("make nginx's folder")?;
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("{name}_temp_path {}/{name};\n", folder.display()))
        .collect();
    let text = format!(
        "user root;\ndaemon off;\nmaster_process off;\npid {}/pid;\nerror_log stderr error;\nworker_rlimit_nofile 65536;\n\
         events {{ worker_connections 16384; }}\nhttp {{\naccess_log off;\n{temporary}keepalive_requests 1000000000;\n\
         server {{ {server} }}\n}}\n",
        folder.display()
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, text).doing("write nginx.conf")?;
    let file = file.display().to_string();
    site.start(&["/usr/sbin/nginx", "-c", &file, "-e", "stderr"])
}
