//! CPU time and memory of processes, from `/proc`.

use crate::{Doing, Fault};
use std::{fs, thread::sleep, time::Duration};

/// Of some processes together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// User and system time of all their threads, seconds.
    pub cpu_seconds: f64,
    /// Resident memory, KiB.
    pub rss_kib: f64,
}

/// What Linux counts in towards programs (`USER_HZ`, proc(5)): 100 on all architectures but one long gone.
const TICKS_PER_SECOND: f64 = 100.0;

/// Sums over processes.
///
/// # Errors
/// One of them has ended.
pub fn of(pids: &[u32]) -> Result<Usage, Fault> {
    let mut sum = Usage::default();
    for pid in pids {
        let stat =
            fs::read_to_string(format!("/proc/{pid}/stat")).doing(format!("process {pid} has ended"))?;
        let status =
            fs::read_to_string(format!("/proc/{pid}/status")).doing(format!("process {pid} has ended"))?;
        sum.cpu_seconds += cpu_seconds(&stat);
        sum.rss_kib += rss_kib(&status);
    }
    Ok(sum)
}

/// Fields 14 and 15 of `/proc/PID/stat`, counted behind the name, which may hold spaces.
fn cpu_seconds(stat: &str) -> f64 {
    let behind = stat.rsplit_once(") ").map_or("", |(_, behind)| behind);
    let ticks: f64 = behind.split(' ').skip(11).take(2).filter_map(|word| word.parse::<f64>().ok()).sum();
    ticks / TICKS_PER_SECOND
}

fn rss_kib(status: &str) -> f64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()).and_then(|word| word.parse().ok()).unwrap_or(0.0)
}

/// Share of the machine's CPU that is busy over a second, 0 to 1: other work makes every number worthless.
///
/// # Errors
/// `/proc/stat` cannot be read.
pub fn machine_busy() -> Result<f64, Fault> {
    let read = || fs::read_to_string("/proc/stat").doing("read /proc/stat").map(|text| idle_and_total(&text));
    let before = read()?;
    sleep(Duration::from_secs(1));
    let after = read()?;
    let (idle, total) = (after.0 - before.0, after.1 - before.1);
    Ok(if total > 0.0 { 1.0 - idle / total } else { 0.0 })
}

fn idle_and_total(text: &str) -> (f64, f64) {
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    (ticks.iter().skip(3).take(2).sum(), ticks.iter().take(8).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_proc() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 30 12 0 0 20 0 1 0 5 1 1";
        assert_eq!(cpu_seconds(stat), 0.42);
        assert_eq!(rss_kib("Name:\tx\nVmRSS:\t   1234 kB\n"), 1234.0);
        assert_eq!(idle_and_total("cpu  1 2 3 4 5 6 7 8 9 9\n"), (9.0, 36.0));
    }
}
