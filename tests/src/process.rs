//! Programs that run inside a site: in its network namespace and cgroup, with their output in files, ended on drop.

use crate::{Doing, Fault, wait};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// A program that was started; its process group is killed on drop.
#[derive(Debug)]
pub struct Running {
    label: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// How a program ended and what it printed.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Exit status.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Finished {
    /// Its output where it ended well.
    ///
    /// # Errors
    /// What it printed, where it failed.
    pub fn success(self) -> Result<String, Fault> {
        if self.status.success() {
            return Ok(self.stdout);
        }
        let output = format!("{}\n{}{}", self.status, self.stdout, self.stderr);
        Err(Fault::Command { command: "program".to_owned(), output })
    }
}

impl Running {
    /// Starts a prepared command in a process group of its own; its output goes to `<stem>.out` and `<stem>.err`.
    ///
    /// # Errors
    /// The files cannot be made or the program cannot be started.
    pub fn start(mut command: Command, stem: &std::path::Path) -> Result<Self, Fault> {
        let label = format!("{command:?}").replace('"', "");
        let (stdout, stderr) = (stem.with_extension("out"), stem.with_extension("err"));
        let open = |path: &PathBuf| File::create(path).doing(format!("make {}", path.display()));
        command.stdin(Stdio::null()).stdout(open(&stdout)?).stderr(open(&stderr)?);
        let child = command.spawn().doing(format!("start {label}"))?;
        Ok(Self { label, child, stdout, stderr })
    }

    /// Its process id, which is also that of its group.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        fs::read(&self.stdout).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// What it printed to standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        fs::read(&self.stderr).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Whether it has not ended yet.
    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until a line of its output contains `text`.
    ///
    /// # Errors
    /// It ended or was silent for too long; says what it printed.
    pub fn wait_for_output(&mut self, text: &str) -> Result<(), Fault> {
        let what = format!("`{text}` from {}", self.label);
        wait::eventually(&what, || {
            let (said, alive) = (self.stdout(), self.alive());
            wait::holds(said.contains(text), format!("alive: {alive}; {said}{}", self.stderr()))
        })
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It did not end within `limit` (it is killed then).
    pub fn finish(mut self, limit: Duration) -> Result<Finished, Fault> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().doing(format!("wait for {}", self.label))? {
                return Ok(Finished { status, stdout: self.stdout(), stderr: self.stderr() });
            }
            if start.elapsed() > limit {
                let last = format!("{}{}", self.stdout(), self.stderr());
                let what = format!("the end of {}", self.label);
                return Err(Fault::Late { what, seconds: limit.as_secs_f64(), last });
            }
            sleep(Duration::from_millis(5));
        }
    }

    /// Sends a signal to the process alone.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.raw_pid() {
            let _ = kill_process(pid, signal);
        }
    }

    /// Kills its process group and collects it.
    pub fn kill(&mut self) {
        if let Some(pid) = self.raw_pid().filter(|_| self.alive()) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let _ = self.child.wait();
    }

    fn raw_pid(&self) -> Option<Pid> {
        i32::try_from(self.pid()).ok().and_then(Pid::from_raw)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}
