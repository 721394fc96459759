//! Runs other programs: streams what they say line by line, bounds their time, and on a timeout ends them with
//! everything they started. A program that cannot be started is an error that names it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("{program} could not be started: {source}")]
    NotStarted { program: String, source: std::io::Error },
    #[error("{program} ended with {status}")]
    Failed { program: String, status: ExitStatus },
    #[error("{program} did not end within {seconds} s and was stopped")]
    TimedOut { program: String, seconds: u64 },
}

/// Whether this process is root already.
pub(crate) fn is_root() -> bool {
    geteuid().is_root()
}

/// The program to run as root: itself when we are root, else through `sudo`, which asks on the terminal.
pub(crate) fn as_root(program: &str) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg("--preserve-env=PATH,RUST_LOG,RUST_BACKTRACE,POSTHASTE_TOOLS,POSTHASTE_BIN,NO_COLOR");
    command.arg("--").arg(program);
    command
}

/// Runs to the end with our own terminal. An end with a failure status is an error.
pub(crate) fn run(command: &mut Command) -> Result<(), RunError> {
    let program = name_of(command);
    let status =
        command.status().map_err(|source| RunError::NotStarted { program: program.clone(), source })?;
    if status.success() { Ok(()) } else { Err(RunError::Failed { program, status }) }
}

/// Runs to the end without showing anything; on failure what it wrote to stderr is part of the answer.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let program = name_of(command);
    let output = command.output().map_err(|error| format!("{program} could not be started: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// Runs, passing each line of stdout on to ours and to `see`; stops it when `limit` is over.
pub(crate) fn stream(
    command: &mut Command,
    limit: Duration,
    mut see: impl FnMut(&str),
) -> Result<(), RunError> {
    let program = name_of(command);
    let started = command.stdout(Stdio::piped()).spawn();
    let mut child = started.map_err(|source| RunError::NotStarted { program: program.clone(), source })?;
    let lines = read_lines(&mut child);
    let deadline = Instant::now() + limit;
    match follow(&mut child, &lines, deadline, &mut see) {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(RunError::Failed { program, status }),
        None => {
            stop_tree(&mut child);
            Err(RunError::TimedOut { program, seconds: limit.as_secs() })
        }
    }
}

/// `None` when the deadline passed first. A grandchild that keeps stdout open does not hold us: once the
/// program itself has ended, what is there is read and that is all.
fn follow(
    child: &mut Child,
    lines: &Receiver<String>,
    deadline: Instant,
    see: &mut impl FnMut(&str),
) -> Option<ExitStatus> {
    let mut ended = None;
    while Instant::now() < deadline {
        match lines.recv_timeout(Duration::from_millis(100)) {
            Ok(line) => {
                println!("{line}");
                see(&line);
            }
            Err(RecvTimeoutError::Timeout) if ended.is_some() => return ended,
            Err(RecvTimeoutError::Timeout) => ended = child.try_wait().ok().flatten(),
            Err(RecvTimeoutError::Disconnected) => {
                ended = child.try_wait().ok().flatten();
                if ended.is_some() {
                    return ended;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
    None
}

fn read_lines(child: &mut Child) -> Receiver<String> {
    let (sender, receiver) = channel();
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            let mut bytes = Vec::new();
            while reader.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
                let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
                bytes.clear();
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
    }
    receiver
}

/// Ends a program and everything it started, youngest first; through `sudo` where that is not ours to end.
fn stop_tree(child: &mut Child) {
    let mut doomed = descendants(child.id(), &parents());
    doomed.reverse();
    let _ = std::io::stdout().flush();
    for id in doomed {
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
        if pid.is_some_and(|pid| kill_process(pid, Signal::KILL).is_err()) && !is_root() {
            let _ = as_root("kill").arg("-KILL").arg(id.to_string()).status();
        }
    }
    let _ = child.wait();
}

/// (process, parent) of every process that is visible now.
fn parents() -> Vec<(u32, u32)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers
        .filter_map(|id| Some((id, parent_in(&std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?)?)))
        .collect()
}

/// The parent in a line of `/proc/PID/stat`: the second word after the name, which may itself hold spaces and
/// parentheses (proc(5)).
fn parent_in(stat: &str) -> Option<u32> {
    stat.rsplit_once(") ")?.1.split_whitespace().nth(1)?.parse().ok()
}

/// A process and all below it, parents before children.
fn descendants(root: u32, parents: &[(u32, u32)]) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&current) = found.get(next) {
        let children = parents.iter().filter(|(id, parent)| *parent == current && !found.contains(id));
        let children: Vec<u32> = children.map(|(id, _)| *id).collect();
        found.extend(children);
        next += 1;
    }
    found
}

fn name_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    let line = words.join(" ");
    if line.chars().count() > 120 {
        format!("{}…", line.chars().take(119).collect::<String>())
    } else {
        line
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn reads_a_parent_behind_a_hostile_name() {
        assert_eq!(parent_in("12 (a) S 9) S 7 12 12 0"), Some(7));
        assert_eq!(parent_in("nonsense"), None);
    }

    #[test]
    fn finds_grandchildren_and_ends_on_a_loop() {
        assert_eq!(descendants(1, &[(2, 1), (3, 2), (4, 9), (1, 3)]), vec![1, 2, 3]);
    }

    #[test]
    fn stops_what_takes_too_long_with_its_children() {
        let begin = Instant::now();
        let mut command = Command::new("sh");
        command.args(["-c", "echo begun; sleep 30 & wait"]);
        let mut seen = Vec::new();
        let result = stream(&mut command, Duration::from_millis(400), |line| seen.push(line.to_owned()));
        assert!(matches!(result, Err(RunError::TimedOut { .. })), "{result:?}");
        assert_eq!(seen, ["begun"]);
        assert!(begin.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn reports_a_failure_status() {
        let result = stream(&mut Command::new("false"), Duration::from_secs(5), |_| {});
        assert!(matches!(result, Err(RunError::Failed { .. })), "{result:?}");
    }
}
