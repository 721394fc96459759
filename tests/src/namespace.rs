//! Network namespaces, named under `/run/netns` so that `ip netns exec` can be used to look into a world.

use crate::{Doing, Fault};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::{
    fs::{self, File},
    io::Write,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

/// Where named namespaces are.
pub const FOLDER: &str = "/run/netns";

/// A named network namespace; the name is removed on drop (the namespace itself lives as long as its sockets).
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// Makes a namespace with its loopback device up.
    ///
    /// # Errors
    /// `ip netns add` fails (root is needed), or the name is taken.
    pub fn create(name: &str) -> Result<Self, Fault> {
        add_locked(name)?;
        let path = Path::new(FOLDER).join(name);
        let file = File::open(&path).doing(format!("open {}", path.display()))?;
        let namespace = Self { name: name.to_owned(), file };
        namespace.ip("link set lo up\n")?;
        Ok(namespace)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path that names it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new(FOLDER).join(&self.name)
    }

    /// The open namespace, for `setns`.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Runs a batch of `ip` commands inside, one a line.
    ///
    /// # Errors
    /// The first command that fails, with what `ip` said.
    pub fn ip(&self, batch: &str) -> Result<(), Fault> {
        ip_batch(&["-n", &self.name], batch)
    }

    /// What an `ip` command prints inside.
    ///
    /// # Errors
    /// `ip` failed.
    pub fn ask_ip(&self, arguments: &[&str]) -> Result<String, Fault> {
        let output = Command::new("ip").args(["-n", &self.name]).args(arguments).output().doing("run ip")?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs `work` on a thread of its own inside the namespace: sockets that it makes stay there.
    ///
    /// # Errors
    /// The thread could not enter, or it panicked.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Fault> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(self.fd(), Some(LinkNameSpaceType::Network))?;
                Ok::<T, rustix::io::Errno>(work())
            });
            let result =
                thread.join().map_err(|_| Fault::new(format!("a thread panicked in {}", self.name)))?;
            result.doing(format!("enter {}", self.name))
        })
    }

    /// Sets a sysctl of the network (`net.ipv4.ip_forward`) inside.
    ///
    /// # Errors
    /// There is no such sysctl, or the value does not fit.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<(), Fault> {
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        self.inside(|| fs::write(&path, value))?.doing(format!("set {name} to {value} in {}", self.name))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Removes the name of a namespace, if it is there.
pub fn remove(name: &str) {
    let _ = Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status();
}

/// Runs `ip` with options and a batch on its standard input.
///
/// # Errors
/// The first command that fails, with what `ip` said.
pub fn ip_batch(options: &[&str], batch: &str) -> Result<(), Fault> {
    let mut child = Command::new("ip")
        .args(options)
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .doing("run ip (package iproute2)")?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(batch.as_bytes()).doing("write to ip")?;
    }
    let output = child.wait_with_output().doing("wait for ip")?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Fault::Command {
        command: format!("ip {} -batch", options.join(" ")),
        output: format!("{said}\n{batch}"),
    })
}

/// The first `ip netns add` of a machine makes `/run/netns` a mount; two at once stack two mounts, hence the lock.
fn add_locked(name: &str) -> Result<(), Fault> {
    let lock = File::create("/run/posthaste-harness.lock").doing("open the lock file (root is needed)")?;
    lock.lock().doing("take the lock")?;
    let output =
        Command::new("ip").args(["netns", "add", name]).output().doing("run ip (package iproute2)")?;
    if output.status.success() {
        return Ok(());
    }
    let output = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Fault::Command { command: format!("ip netns add {name}"), output })
}
