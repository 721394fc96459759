//! Control groups as they come and go, told by raw tracepoints through a ring. Where the kernel has no such tracepoint, or the
//! ring cannot be read, the agent does without and looks by itself.

use std::{
    fs, io,
    os::fd::{AsRawFd, RawFd},
    path::Path,
};

use agent_common::cgroup_event::{CgroupChange, CgroupEvent};
use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
    programs::{Program, links::FdLink, raw_trace_point::RawTracePointLink},
};

use super::{CaptureError, load};
use crate::cgroup::path::is_kubepods;

/// The programs and the tracepoints that they are for.
const TRACEPOINTS: [(&str, &str); 3] = [
    ("on_cgroup_mkdir", "cgroup_mkdir"),
    ("on_cgroup_populated", "cgroup_notify_populated"),
    ("on_cgroup_rmdir", "cgroup_rmdir"),
];

/// The program that notes folders of all pods, and its tracepoint: the connect hooks go by it, so it stays as they do.
const FOLDERS: (&str, &str) = ("on_cgroup_folder", "cgroup_mkdir");

/// Something happened to a control group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupEvent {
    /// What.
    pub change: CgroupChange,
    /// When, nanoseconds of `CLOCK_MONOTONIC`.
    pub at_ns: u64,
    /// Path of the group in its hierarchy.
    pub path: String,
}

impl GroupEvent {
    /// The folder of all pods is new, or gone.
    #[must_use]
    pub fn is_of_all_pods(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        matches!(self.change, CgroupChange::Made | CgroupChange::Removed) && is_kubepods(name)
    }
}

/// The events, as long as this value lives; its descriptor is readable when there are some.
pub struct GroupEvents {
    ring: RingBuf<MapData>,
    _links: Vec<RawTracePointLink>,
}

impl GroupEvents {
    /// Attaches the tracepoints of the loaded object.
    pub(super) fn start(object: &mut Ebpf, ring: RingBuf<MapData>) -> Result<Self, CaptureError> {
        let mut links = Vec::new();
        for place in TRACEPOINTS {
            links.extend(attach(object, place)?);
        }
        Ok(Self { ring, _links: links })
    }

    /// What has happened since. An event of another release, or a path that is no text, is left out.
    pub fn drain(&mut self) -> Vec<GroupEvent> {
        let mut events = Vec::new();
        while let Some(item) = self.ring.next() {
            events.extend(read(&item));
        }
        events
    }
}

impl AsRawFd for GroupEvents {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

/// Folders of all pods are noted from now on, whether or not an agent lives. A link of a raw tracepoint takes no other program
/// (`bpf_raw_tp_link_lops`), so the new one comes beside that of an earlier agent before that goes.
pub(super) fn note_folders(object: &mut Ebpf, folder: &Path) -> Result<(), CaptureError> {
    let Some(link) = attach(object, FOLDERS)? else { return Ok(()) };
    let pin = load::hook_pin(folder, FOLDERS.0);
    load::absent_is_fine(fs::remove_file(&pin)).map_err(CaptureError::file("remove the pin", &pin))?;
    let pinned = FdLink::from(link).pin(&pin).map(drop).map_err(io::Error::other);
    pinned.map_err(CaptureError::file("pin", &pin))
}

fn attach(
    object: &mut Ebpf,
    (program, tracepoint): (&'static str, &str),
) -> Result<Option<RawTracePointLink>, CaptureError> {
    let failed = |source| CaptureError::Program { program, source: Box::new(source) };
    let Program::RawTracePoint(loaded) = load::take(object, program)? else { return Ok(None) };
    loaded.load().map_err(failed)?;
    let id = loaded.attach(tracepoint).map_err(failed)?;
    loaded.take_link(id).map(Some).map_err(failed)
}

/// Lets the kernel judge the programs, without attaching them.
pub(super) fn try_all(object: &mut Ebpf) -> Result<(), CaptureError> {
    for (program, _) in TRACEPOINTS.into_iter().chain([FOLDERS]) {
        if let Program::RawTracePoint(loaded) = load::take(object, program)? {
            loaded.load().map_err(|source| CaptureError::Program { program, source: Box::new(source) })?;
        }
    }
    Ok(())
}

/// Reads one record of the ring.
fn read(bytes: &[u8]) -> Option<GroupEvent> {
    const LENGTH: usize = std::mem::offset_of!(CgroupEvent, length);
    const AT: usize = std::mem::offset_of!(CgroupEvent, at_ns);
    const PATH: usize = std::mem::offset_of!(CgroupEvent, path);
    let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let at_ns = u64::from_ne_bytes(bytes.get(AT..AT + 8)?.try_into().ok()?);
    let length = word(LENGTH)? as usize;
    let path = bytes.get(PATH..PATH + length.saturating_sub(1))?;
    let path = std::str::from_utf8(path).ok()?.to_owned();
    Some(GroupEvent { change: CgroupChange::of(word(0)?)?, at_ns, path })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn record(change: u32, length: u32, path: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0_u8; size_of::<CgroupEvent>()];
        bytes[0..4].copy_from_slice(&change.to_ne_bytes());
        bytes[4..8].copy_from_slice(&length.to_ne_bytes());
        bytes[8..16].copy_from_slice(&77_u64.to_ne_bytes());
        bytes[16..16 + path.len()].copy_from_slice(path);
        bytes
    }

    #[test]
    fn records_are_read_and_nonsense_is_left_out() {
        let event = read(&record(2, 10, b"/kubepods\0garbage")).unwrap();
        let wanted = GroupEvent { change: CgroupChange::Populated, at_ns: 77, path: "/kubepods".to_owned() };
        assert_eq!(event, wanted);
        assert_eq!(read(&record(1, 0, b"")).unwrap().path, "");
        for bad in [
            record(9, 3, b"/a\0"),
            record(1, 3, b"/\xff\0"),
            record(1, 5000, b"/a\0"),
            vec![0; 3],
            Vec::new(),
        ] {
            assert_eq!(read(&bad), None);
        }
    }
}
