//! The CA of a world: `posthaste ca` on a site of its own.

use crate::{
    Doing, Fault, Running, Site, agent,
    wait::{eventually, holds},
};
use std::{
    fs::{self, Permissions},
    net::{IpAddr, SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// The CA process and its state.
#[derive(Debug)]
pub struct Authority {
    running: Option<Running>,
    site: Site,
    folder: PathBuf,
    /// Flags added as they are.
    pub extra: Vec<String>,
}

impl Authority {
    /// Prepares the CA: a state folder and a join token.
    ///
    /// # Errors
    /// The files cannot be made.
    pub fn prepare(site: Site, folder: &Path) -> Result<Self, Fault> {
        let folder = folder.join("ca");
        fs::create_dir_all(&folder).doing(format!("make {}", folder.display()))?;
        let token = "a-join-token-of-the-tests-that-is-long-enough-to-be-one";
        let file = folder.join("join-token");
        fs::write(&file, token).doing("write the join token")?;
        fs::set_permissions(&file, Permissions::from_mode(0o600)).doing("protect the join token")?;
        Ok(Self { running: None, site, folder, extra: Vec::new() })
    }

    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// It ends or does not listen in time.
    pub fn start(&mut self) -> Result<(), Fault> {
        let mut command = self.site.command(agent::binary()?)?;
        command.arg("ca").arg("--state").arg(self.state());
        command.args(["--listen", &self.address().to_string(), "--trust-domain", "cluster.local"]);
        command.arg("--join-token-file").arg(self.join_token()).args(&self.extra);
        let mut running = self.site.launch(command)?;
        // An early end is an answer too: nothing is to be waited for then.
        eventually("the CA to listen", || {
            if !running.alive() {
                return Ok(Err(Fault::new(format!(
                    "the CA ended: {}{}",
                    running.stderr(),
                    running.stdout()
                ))));
            }
            let connect = || TcpStream::connect_timeout(&self.address(), Duration::from_secs(1)).is_ok();
            let listens = self.root().is_file() && matches!(self.site.namespace().inside(connect), Ok(true));
            holds(listens, running.stderr()).map(Ok)
        })??;
        self.running = Some(running);
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.kill();
        }
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.running.as_ref().map(|running| running.stderr() + &running.stdout()).unwrap_or_default()
    }

    /// Its URL for agents.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address())
    }

    /// Its state folder: root certificate and key.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Its root certificates.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.state().join("root.pem")
    }

    /// The join token of the agents.
    #[must_use]
    pub fn join_token(&self) -> PathBuf {
        self.folder.join("join-token")
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.site.v4), 15012)
    }
}
