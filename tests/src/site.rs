//! A site: anything that has a network namespace on the bridge, be it node, pod or outsider, and programs in it.

use crate::{
    Doing, Fault, Finished, Running,
    cgroup::Cgroup,
    namespace::Namespace,
    wait::{eventually, holds},
};
use std::{
    fs::{self, OpenOptions},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// Address family of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Both, for loops.
pub const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// A network namespace with addresses on the bridge, and a cgroup for its programs.
#[derive(Debug)]
pub struct Site {
    /// Name without the world's prefix.
    pub name: String,
    /// IPv4 address.
    pub v4: Ipv4Addr,
    /// IPv6 address.
    pub v6: Ipv6Addr,
    // Order matters: programs end before their namespace loses its name.
    cgroup: Cgroup,
    namespace: Namespace,
    output: PathBuf,
    started: AtomicU32,
}

impl Site {
    /// Binds the parts together; the world makes them.
    #[must_use]
    pub fn new(name: &str, v4: Ipv4Addr, v6: Ipv6Addr, parts: (Cgroup, Namespace), output: PathBuf) -> Self {
        let (cgroup, namespace) = parts;
        Self { name: name.to_owned(), v4, v6, cgroup, namespace, output, started: AtomicU32::new(0) }
    }

    /// Its address of a family.
    #[must_use]
    pub fn ip(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4.into(),
            Family::V6 => self.v6.into(),
        }
    }

    /// Its address of a family with a port.
    #[must_use]
    pub fn at(&self, family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip(family), port)
    }

    /// Its network namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Scratch folder of its world.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.output
    }

    /// Its cgroup.
    #[must_use]
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Prepares a program that will run here: own process group, this cgroup, this network namespace.
    ///
    /// # Errors
    /// The cgroup or namespace is gone.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command, Fault> {
        self.command_in(self.cgroup.path(), program, Duration::ZERO)
    }

    /// The same in another cgroup, entering the network namespace some time after the cgroup, as a container runtime does.
    ///
    /// # Errors
    /// The cgroup or namespace is gone.
    pub fn command_in(
        &self,
        cgroup: &Path,
        program: impl AsRef<std::ffi::OsStr>,
        between: Duration,
    ) -> Result<Command, Fault> {
        let members = cgroup.join("cgroup.procs");
        let members: OwnedFd = OpenOptions::new()
            .write(true)
            .open(&members)
            .doing(format!("open {}", members.display()))?
            .into();
        let namespace = self.namespace.fd().try_clone_to_owned().doing("copy a descriptor")?;
        let mut command = Command::new(program);
        command.process_group(0);
        let enter = move || enter(&members, &namespace, between);
        // SAFETY: `enter` makes only async-signal-safe system calls and allocates nothing.
        unsafe { command.pre_exec(enter) };
        Ok(command)
    }

    /// Starts a program here and lets it run.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start<S: AsRef<std::ffi::OsStr>>(&self, line: &[S]) -> Result<Running, Fault> {
        let (program, arguments) = line.split_first().ok_or_else(|| Fault::new("an empty command line"))?;
        let mut command = self.command(program)?;
        command.args(arguments);
        self.launch(command)
    }

    /// Starts a prepared [`Site::command`].
    ///
    /// # Errors
    /// It cannot be started.
    pub fn launch(&self, command: Command) -> Result<Running, Fault> {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        Running::start(command, &self.output.join(format!("{}-{number}", self.name)))
    }

    /// Waits until something listens on a TCP port here, of either family.
    ///
    /// # Errors
    /// Nothing does in time.
    pub fn wait_listening(&self, port: u16) -> Result<(), Fault> {
        let listens = |table: &str| {
            let tables =
                ["tcp", "tcp6"].map(|name| fs::read_to_string(format!("/proc/thread-self/net/{name}")));
            tables.into_iter().flatten().any(|text| text.lines().any(|line| line.contains(table)))
        };
        // A row of the table reads `local:PORT 0000:0000 0A`, where 0A is LISTEN.
        let rows =
            [format!(":{port:04X} 00000000:0000 0A"), format!(":{port:04X} {}:0000 0A", "0".repeat(32))];
        eventually(&format!("port {port} of {}", self.name), || {
            let found = self.namespace.inside(|| rows.iter().any(|row| listens(row)));
            holds(matches!(found, Ok(true)), "nobody listens")
        })
    }

    /// Runs a program here to its end, at most 60 s.
    ///
    /// # Errors
    /// It cannot be started or does not end.
    pub fn run<S: AsRef<std::ffi::OsStr>>(&self, line: &[S]) -> Result<Finished, Fault> {
        self.start(line)?.finish(Duration::from_secs(60))
    }
}

fn enter(members: &OwnedFd, namespace: &OwnedFd, between: Duration) -> io::Result<()> {
    // SAFETY: the descriptor is open and the buffer is one static byte.
    let written = unsafe { libc::write(members.as_raw_fd(), c"0".as_ptr().cast(), 1) };
    if written != 1 {
        return Err(io::Error::last_os_error());
    }
    if !between.is_zero() {
        std::thread::sleep(between);
    }
    // SAFETY: a system call on an open descriptor; it moves only this thread, the only one after the fork.
    if unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
