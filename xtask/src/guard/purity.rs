//! Rule: a file whose header says `Pure` (or `pure`, as a word of its own) does no I/O, reads no clock, draws no
//! random number and logs nothing; its tests may. Pure. Not meant: a sentence such as "not pure".

use super::Finding;
use super::header::text_of;
use super::source::{SourceFile, has_word};

/// (what must not occur, what it is).
const FORBIDDEN: [(&str, &str); 31] = [
    ("std::fs", "files"),
    ("fs::read", "files"),
    ("File::open", "files"),
    ("std::env", "the environment"),
    ("std::process", "processes"),
    ("std::thread", "threads"),
    ("TcpStream", "sockets"),
    ("TcpListener", "sockets"),
    ("UdpSocket", "sockets"),
    ("UnixStream", "sockets"),
    ("UnixListener", "sockets"),
    ("socket2", "sockets"),
    ("rustix", "system calls"),
    ("libc", "system calls"),
    ("tokio", "the event loop"),
    ("Instant::now", "the clock"),
    ("SystemTime", "the clock"),
    ("now_utc", "the clock"),
    ("clock_gettime", "the clock"),
    ("fastrand", "chance"),
    ("rand::", "chance"),
    ("getrandom", "chance"),
    ("SystemRandom", "chance"),
    ("println!", "printing"),
    ("eprintln!", "printing"),
    ("print!", "printing"),
    ("stdout()", "printing"),
    ("tracing", "logging"),
    ("aya", "the kernel"),
    ("kube", "the cluster"),
    ("reqwest", "sockets"),
];

pub(super) fn purity(file: &SourceFile) -> Vec<Finding> {
    if !file.is_rust() || !declares_purity(file) {
        return Vec::new();
    }
    let hits = FORBIDDEN.iter().flat_map(|(word, what)| {
        file.lines_with(word).into_iter().map(move |line| {
            (line, format!("declares itself pure but uses {word} ({what}); pass it as an argument"))
        })
    });
    hits.map(|(line, what)| Finding::new(file, line, what)).collect()
}

/// The declaration is the word `Pure` with a capital, as the style asks for.
fn declares_purity(file: &SourceFile) -> bool {
    let header = text_of(file);
    let denied = ["Not Pure", "Not pure", "not Pure"];
    has_word(&header, "Pure") && !denied.iter().any(|text| header.contains(text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn pure_file(code: &str) -> SourceFile {
        SourceFile::new("agent/src/x.rs", &format!("//! Decides something. Pure.\n{code}\n"))
    }

    #[test]
    fn each_forbidden_thing_is_found() {
        for (word, _) in FORBIDDEN {
            assert!(!purity(&pure_file(&format!("let x = {word};"))).is_empty(), "{word}");
        }
    }

    #[test]
    fn tests_comments_and_other_files_are_free() {
        assert!(purity(&pure_file("// Instant::now\n#[cfg(test)]\nmod tests { use std::fs; }")).is_empty());
        assert!(purity(&SourceFile::new("a.rs", "//! Edge: draws numbers.\nuse std::fs;\n")).is_empty());
        assert!(
            purity(&pure_file("use std::net::SocketAddr; use std::time::{Duration, Instant};")).is_empty()
        );
    }
}
