//! What the compiler in use is: its release, its LLVM, where its libraries lie. `rustc` is asked once;
//! understanding its answer is a plain function. Refuses a compiler whose answer lacks one of the facts.

use std::path::PathBuf;
use std::process::Command;

use crate::workspace;

/// The facts about rustc that decide which tools fit it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Compiler {
    /// Such as `1.95.0`.
    pub(crate) release: String,
    /// The first nine characters of the commit, or `unknown`.
    pub(crate) commit: String,
    /// LLVM's major version, such as 22.
    pub(crate) llvm: u32,
    /// The folder that holds `lib/rustlib`.
    pub(crate) sysroot: PathBuf,
    /// The target that it builds for by itself, such as `x86_64-unknown-linux-gnu`.
    pub(crate) host: String,
}

/// Why the compiler could not be understood.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompilerError {
    #[error("rustc could not be run: {0}. Install Rust with rustup; rust-toolchain.toml names the version")]
    NotRun(#[from] std::io::Error),
    #[error("rustc {arguments} failed: {message}")]
    Failed { arguments: String, message: String },
    #[error("the answer of rustc -vV has no line '{0}:', so the tools that fit it cannot be chosen")]
    Lacks(&'static str),
    #[error("rustc's 'LLVM version: {0}' does not start with a number")]
    LlvmVersion(String),
}

impl Compiler {
    /// Asks the rustc that cargo uses in this repository.
    pub(crate) fn ask() -> Result<Self, CompilerError> {
        let version = rustc(&["-vV"])?;
        let sysroot = rustc(&["--print", "sysroot"])?;
        Self::parse(&version, sysroot.trim())
    }

    /// Understands the text of `rustc -vV`.
    fn parse(version: &str, sysroot: &str) -> Result<Self, CompilerError> {
        let release = field(version, "release")?;
        let commit = field(version, "commit-hash")?.chars().take(9).collect();
        let llvm = field(version, "LLVM version")?;
        let major = llvm.split('.').next().and_then(|number| number.parse().ok());
        let llvm = major.ok_or_else(|| CompilerError::LlvmVersion(llvm.to_owned()))?;
        let host = field(version, "host")?.to_owned();
        Ok(Self { release: release.to_owned(), commit, llvm, sysroot: sysroot.into(), host })
    }

    /// The folder name under which this compiler's tools are kept: another compiler gets another one.
    pub(crate) fn key(&self) -> String {
        format!("rustc-{}-{}-llvm{}", self.release, self.commit, self.llvm)
    }
}

fn rustc(arguments: &[&str]) -> Result<String, CompilerError> {
    let program = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(program).args(arguments).current_dir(workspace::root()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(CompilerError::Failed { arguments: arguments.join(" "), message })
}

fn field<'a>(text: &'a str, name: &'static str) -> Result<&'a str, CompilerError> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.map(str::trim).ok_or(CompilerError::Lacks(name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    const ANSWER: &str = "rustc 1.95.0 (59807616e 2026-04-14)\nbinary: rustc\n\
        commit-hash: 59807616e1fa2540724bfbac14d7976d7e4a3860\nhost: x86_64-unknown-linux-gnu\n\
        release: 1.95.0\nLLVM version: 22.1.2\n";

    #[test]
    fn reads_release_commit_and_llvm() {
        let compiler = Compiler::parse(ANSWER, "/opt/rust").unwrap();
        assert_eq!(compiler.key(), "rustc-1.95.0-59807616e-llvm22");
        assert_eq!(compiler.sysroot, PathBuf::from("/opt/rust"));
    }

    #[test]
    fn names_the_missing_line() {
        let error = Compiler::parse("release: 1.95.0\ncommit-hash: unknown\n", "/").unwrap_err();
        assert!(error.to_string().contains("LLVM version"), "{error}");
    }
}
