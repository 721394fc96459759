//! What can go wrong with capture as a whole. Each error names the object and what to do.

use std::{io, path::PathBuf};

/// Why capture could not start or stop.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// No BPF file system where the pins should go.
    #[error(
        "{path} is not on a BPF file system ({reason}); mount one with `mount -t bpf bpf /sys/fs/bpf` or name another folder"
    )]
    NoBpffs {
        /// The configured folder.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// A folder or pin could not be made, read or removed.
    #[error(
        "cannot {action} {path}: {source}; the agent needs to be root with CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN"
    )]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The embedded object was not taken by the kernel.
    #[error("the kernel does not take the eBPF object: {0}; `posthaste check` tells what this kernel lacks")]
    Object(#[source] Box<aya::EbpfError>),
    /// One program was not taken by the kernel.
    #[error(
        "the kernel does not take the eBPF program {program}: {source}; `posthaste check` tells what it lacks"
    )]
    Program {
        /// Name of the program.
        program: &'static str,
        /// The kernel's answer, with the verifier's log.
        source: Box<aya::programs::ProgramError>,
    },
    /// A program could not be attached or a pinned link could not be given a new program.
    #[error("cannot {action} {hook}: {source}; `posthaste check` tells what this kernel lacks")]
    Link {
        /// What was tried.
        action: &'static str,
        /// The hook and where.
        hook: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A pinned map is of another release.
    #[error(
        "the pinned map {path} has keys of {key} and values of {value} bytes, this release needs {wanted_key} and \
         {wanted_value}: stop the other release cleanly or remove the folder {folder}"
    )]
    Layout {
        /// The map's pin.
        path: PathBuf,
        /// Its key size.
        key: u32,
        /// Its value size.
        value: u32,
        /// Needed key size.
        wanted_key: u32,
        /// Needed value size.
        wanted_value: u32,
        /// What to remove.
        folder: PathBuf,
    },
    /// Without it the node itself would be taken for a pod.
    #[error(
        "the cookie of the node's network namespace cannot be read ({0}): every process of the node would be held; \
         `posthaste check` tells what this kernel lacks"
    )]
    Home(io::Error),
    /// A map could not be opened, read or written.
    #[error("cannot use the eBPF map {map}: {source}")]
    Map {
        /// Name of the map.
        map: &'static str,
        /// The kernel's answer.
        source: Box<aya::maps::MapError>,
    },
}

impl CaptureError {
    /// For `map_err` on work with a map.
    pub(super) fn map(map: &'static str) -> impl Fn(aya::maps::MapError) -> Self {
        move |source| Self::Map { map, source: Box::new(source) }
    }

    /// For `map_err` on work with a file.
    pub(super) fn file(action: &'static str, path: &std::path::Path) -> impl Fn(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { action, path: path.clone(), source }
    }
}
