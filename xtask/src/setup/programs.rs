//! The programs that the build, the tests, the demo and the benchmark call, each with the Debian package that has
//! it. Only the build's are required; a test ring that lacks one fails by itself and names it.

use crate::workspace::find_program;

/// What needs a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing can be compiled without it.
    Build,
    /// The demo, and the tests that run whole nodes.
    Demo,
    /// Tests with real clients and servers.
    Test,
    /// `cargo xtask bench`.
    Bench,
}

/// (program, Debian package, what for).
pub(crate) const PROGRAMS: [(&str, &str, Need); 20] = [
    ("cc", "gcc", Need::Build),
    ("make", "make", Need::Build),
    ("git", "git", Need::Build),
    ("tar", "tar", Need::Build),
    ("ip", "iproute2", Need::Demo),
    ("python3", "python3", Need::Demo),
    ("curl", "curl", Need::Test),
    ("openssl", "openssl", Need::Test),
    ("redis-server", "redis-server", Need::Test),
    ("redis-cli", "redis-tools", Need::Test),
    ("aiosmtpd", "python3-aiosmtpd", Need::Test),
    ("iperf3", "iperf3", Need::Test),
    ("nginx", "nginx-light", Need::Test),
    ("nft", "nftables", Need::Test),
    ("iptables", "iptables", Need::Test),
    ("promtool", "prometheus", Need::Test),
    ("chromium", "chromium", Need::Test),
    ("chromedriver", "chromium-driver", Need::Test),
    ("haproxy", "haproxy", Need::Bench),
    ("wrk", "wrk", Need::Bench),
];

/// Fails with the one command that brings what the build lacks.
pub(crate) fn require_for_build() -> Result<(), String> {
    let packages = missing(|need| need == Need::Build, |program| find_program(program).is_some());
    if packages.is_empty() { Ok(()) } else { Err(install_line(&packages)) }
}

/// Says what the demo, the tests and the benchmark would lack; the build does not need it.
pub(crate) fn report_for_tests() {
    for (need, what) in [(Need::Demo, "the demo"), (Need::Test, "all tests"), (Need::Bench, "the benchmark")]
    {
        let packages = missing(|other| other == need, |program| find_program(program).is_some());
        if !packages.is_empty() {
            println!("  not needed to build, but for {what}: {}", install_line(&packages));
        }
    }
}

fn missing(wanted: impl Fn(Need) -> bool, is_there: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let absent = PROGRAMS.iter().filter(|(program, _, need)| wanted(*need) && !is_there(program));
    absent.map(|(_, package, _)| *package).collect()
}

fn install_line(packages: &[&str]) -> String {
    format!("apt-get install {}", packages.join(" "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn names_the_package_not_the_program() {
        assert_eq!(missing(|need| need == Need::Build, |program| program != "cc"), ["gcc"]);
        assert_eq!(install_line(&["gcc", "git"]), "apt-get install gcc git");
    }
}
