//! Brings the programs into the kernel: into hooks that an earlier agent pinned, in place, or into new ones.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use aya::{
    Ebpf, EbpfLoader,
    maps::MapData,
    programs::{CgroupAttachMode, CgroupSockAddr, Program, ProgramError, SkLookup, SockOps, links::FdLink},
};

use super::{
    CaptureConfig, CaptureError, events,
    link::{self, Updated},
    maps,
};

/// The programs, compiled by the build script.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/capture.o"));

/// The programs of the cgroup, in the order in which they are attached: what redirects comes last.
pub(super) const HOOKS: [&str; 7] = [
    "on_sock_ops",
    "on_getpeername4",
    "on_getpeername6",
    "on_sendmsg4",
    "on_sendmsg6",
    "on_connect4",
    "on_connect6",
];
/// The program of each pod.
pub(super) const INBOUND: &str = "on_sk_lookup";

/// Where the links of the cgroup are pinned.
pub(super) fn hook_pin(folder: &Path, program: &str) -> PathBuf {
    folder.join("hooks").join(program)
}

/// The pins of all of them, in that order.
pub(super) fn hook_pins(folder: &Path) -> impl DoubleEndedIterator<Item = PathBuf> {
    HOOKS.iter().map(|program| hook_pin(folder, program))
}

/// Where the links of the pods are pinned.
pub(super) fn pods_folder(folder: &Path) -> PathBuf {
    folder.join("pods")
}

/// The folder of one pod's links.
pub(super) fn pod_folder(folder: &Path, cookie: u64) -> PathBuf {
    pods_folder(folder).join(format!("{cookie:x}"))
}

/// Where the link of a pod's network namespace is pinned.
pub(super) fn pod_pin(folder: &Path, cookie: u64) -> PathBuf {
    pod_folder(folder, cookie).join("sk_lookup")
}

/// Makes the folders, checks what is pinned, and loads the programs of the cgroup, which makes the maps. [`attach_hooks`] brings them into
/// force.
pub(super) fn load_hooks(source: &mut Source) -> Result<Ebpf, CaptureError> {
    let config = Arc::clone(&source.config);
    for name in ["maps", "hooks", "pods"] {
        let folder = config.bpffs_dir.join(name);
        fs::create_dir_all(&folder).map_err(CaptureError::file("make the folder", &folder))?;
    }
    check_layouts(&config)?;
    let mut object = source.load(NO_POD)?;
    load_all(&mut object)?;
    Ok(object)
}

fn load_all(object: &mut Ebpf) -> Result<(), CaptureError> {
    for program in HOOKS {
        load(take(object, program)?)
            .map_err(|source| CaptureError::Program { program, source: Box::new(source) })?;
    }
    Ok(())
}

/// Puts the programs into the hooks of the cgroup. The object is not needed for them to stay there.
pub(super) fn attach_hooks(config: &CaptureConfig, object: &mut Ebpf) -> Result<(), CaptureError> {
    let cgroup = File::open(&config.cgroup_root).map_err(CaptureError::file("open", &config.cgroup_root))?;
    for program in HOOKS {
        let pin = hook_pin(&config.bpffs_dir, program);
        place(&pin, take(object, program)?, |loaded| attach(loaded, cgroup.as_fd()))?;
    }
    Ok(())
}

/// Loads an instance of the inbound program for one pod and puts it into the pinned link. The kernel keeps it.
pub(super) fn renew_pod(source: &mut Source, cookie: u64) -> Result<Updated, CaptureError> {
    let mut object = source.load(cookie)?;
    let program = load_inbound(&mut object)?;
    let pin = pod_pin(&source.config.bpffs_dir, cookie);
    update(&pin, program)
}

/// Loads an instance of the inbound program for one pod, attaches it to the network namespace and pins it.
pub(super) fn attach_pod(
    source: &mut Source,
    cookie: u64,
    netns: BorrowedFd<'_>,
) -> Result<(), CaptureError> {
    let folder = pod_folder(&source.config.bpffs_dir, cookie);
    fs::create_dir_all(&folder).map_err(CaptureError::file("make the folder", &folder))?;
    let mut object = source.load(cookie)?;
    let program = load_inbound(&mut object)?;
    place(&pod_pin(&source.config.bpffs_dir, cookie), program, |program| attach(program, netns))
}

/// Removes the hook of one pod; one that is gone already is no error.
pub(super) fn detach_pod(config: &CaptureConfig, cookie: u64) -> Result<(), CaptureError> {
    remove_link(&pod_pin(&config.bpffs_dir, cookie))?;
    let folder = pod_folder(&config.bpffs_dir, cookie);
    absent_is_fine(fs::remove_dir(&folder)).map_err(CaptureError::file("remove the folder", &folder))
}

/// Detaches a pinned link at once (removing the pin alone would leave that to a later moment) and removes the pin.
pub(super) fn remove_link(pin: &Path) -> Result<(), CaptureError> {
    absent_is_fine(link::detach(pin)).map_err(CaptureError::file("detach the link", pin))?;
    absent_is_fine(fs::remove_file(pin)).map_err(CaptureError::file("remove the pin", pin))
}

/// Lets the kernel judge every program without attaching or pinning anything.
pub(super) fn try_all(config: &CaptureConfig) -> Result<(), CaptureError> {
    let mut object = Source::unpinned(config).load(NO_POD)?;
    load_all(&mut object)?;
    load_inbound(&mut object).map(drop)
}

/// The same for the programs that the agent can do without.
pub(super) fn try_events(config: &CaptureConfig) -> Result<(), CaptureError> {
    events::try_all(&mut Source::unpinned(config).load(NO_POD)?)
}

pub(super) fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// The cookie where no pod is meant.
const NO_POD: u64 = 0;

/// What is fixed in the programs when they are loaded, as they hold it.
struct Constants {
    mark: u32,
    port: u32,
    limit: u64,
}

impl Constants {
    fn of(config: &CaptureConfig) -> Self {
        let limit = u64::try_from(config.heartbeat_limit.as_nanos()).unwrap_or(u64::MAX);
        Self { mark: config.mark, port: u32::from(config.outbound_port), limit }
    }
}

/// Makes instances of the programs. Made once: a new pod waits for its instance, and aya parses the kernel's whole BTF (tens of
/// milliseconds) for each loader it makes, which these programs do not even need.
pub(super) struct Source {
    config: Arc<CaptureConfig>,
    loader: EbpfLoader<'static>,
}

impl Source {
    /// Of instances that share the pinned maps.
    pub(super) fn new(config: &Arc<CaptureConfig>) -> Self {
        Self { config: Arc::clone(config), loader: loader(config, true) }
    }

    /// Of instances with maps of their own.
    fn unpinned(config: &CaptureConfig) -> Self {
        Self { config: Arc::new(config.clone()), loader: loader(config, false) }
    }

    fn load(&mut self, cookie: u64) -> Result<Ebpf, CaptureError> {
        // The loader borrows its values for as long as it lives, which is as long as the agent: 8 bytes for each pod.
        let cookie: &'static u64 = Box::leak(Box::new(cookie));
        let loaded = self.loader.override_global("COOKIE", cookie, true).load(OBJECT);
        loaded.map_err(|error| CaptureError::Object(Box::new(error)))
    }
}

fn loader(config: &CaptureConfig, pinned: bool) -> EbpfLoader<'static> {
    let constants: &'static Constants = Box::leak(Box::new(Constants::of(config)));
    let mut loader = EbpfLoader::new();
    loader.btf(None);
    for shape in maps::shapes(config) {
        if pinned {
            loader.map_pin_path(shape.name, maps::pin(&config.bpffs_dir, shape.name));
        }
        if shape.entries > 0 {
            loader.map_max_entries(shape.name, shape.entries);
        }
    }
    loader
        .override_global("AGENT_MARK", &constants.mark, true)
        .override_global("OUTBOUND_PORT", &constants.port, true)
        .override_global("HEARTBEAT_LIMIT", &constants.limit, true);
    loader
}

/// A pinned map of other key or value sizes is of another release. Another number of entries is kept as it is.
fn check_layouts(config: &CaptureConfig) -> Result<(), CaptureError> {
    for shape in maps::shapes(config) {
        let path = maps::pin(&config.bpffs_dir, shape.name);
        if !path.exists() {
            continue;
        }
        let data = MapData::from_pin(&path).map_err(CaptureError::map(shape.name))?;
        let info = data.info().map_err(CaptureError::map(shape.name))?;
        if (info.key_size() as usize, info.value_size() as usize) != (shape.key, shape.value) {
            return Err(CaptureError::Layout {
                path,
                key: info.key_size(),
                value: info.value_size(),
                wanted_key: shape.key as u32,
                wanted_value: shape.value as u32,
                folder: config.bpffs_dir.clone(),
            });
        }
    }
    Ok(())
}

pub(super) fn take<'a>(object: &'a mut Ebpf, program: &'static str) -> Result<&'a mut Program, CaptureError> {
    object.program_mut(program).ok_or_else(|| CaptureError::Program {
        program,
        source: Box::new(ProgramError::IOError(io::Error::other("it is not in the embedded object"))),
    })
}

fn load_inbound(object: &mut Ebpf) -> Result<&mut Program, CaptureError> {
    let program = take(object, INBOUND)?;
    load(program).map_err(|source| CaptureError::Program { program: INBOUND, source: Box::new(source) })?;
    Ok(program)
}

fn load(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::CgroupSockAddr(program) => program.load(),
        Program::SockOps(program) => program.load(),
        Program::SkLookup(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// Puts the program into the pinned link; makes and pins a new link where there is none, or where its target is gone.
fn place(
    pin: &Path,
    program: &mut Program,
    attach: impl FnOnce(&mut Program) -> Result<FdLink, ProgramError>,
) -> Result<(), CaptureError> {
    if pin.exists() {
        if update(pin, program)? == Updated::Yes {
            return Ok(());
        }
        remove_link(pin)?;
    }
    let failed = |action: &'static str| {
        let hook = pin.display().to_string();
        move |source: io::Error| CaptureError::Link { action, hook, source }
    };
    let link = attach(program).map_err(io::Error::other).map_err(failed("attach"))?;
    link.pin(pin).map(drop).map_err(io::Error::other).map_err(failed("pin"))
}

fn update(pin: &Path, program: &Program) -> Result<Updated, CaptureError> {
    let failed = |source| CaptureError::Link { action: "renew", hook: pin.display().to_string(), source };
    let program = program.fd().map_err(|error| failed(io::Error::other(error)))?;
    link::update(pin, program.as_fd()).map_err(failed)
}

fn attach(program: &mut Program, target: BorrowedFd<'_>) -> Result<FdLink, ProgramError> {
    match program {
        Program::CgroupSockAddr(program) => attach_sock_addr(program, target),
        Program::SockOps(program) => attach_sock_ops(program, target),
        Program::SkLookup(program) => attach_sk_lookup(program, target),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

// With a link the attach mode is no more than the link's flags, of which the kernel takes none; links of several agents
// live side by side.
fn attach_sock_addr(program: &mut CgroupSockAddr, cgroup: BorrowedFd<'_>) -> Result<FdLink, ProgramError> {
    let id = program.attach(cgroup, CgroupAttachMode::Single)?;
    FdLink::try_from(program.take_link(id)?).map_err(|error| ProgramError::IOError(io::Error::other(error)))
}

fn attach_sock_ops(program: &mut SockOps, cgroup: BorrowedFd<'_>) -> Result<FdLink, ProgramError> {
    let id = program.attach(cgroup, CgroupAttachMode::Single)?;
    FdLink::try_from(program.take_link(id)?).map_err(|error| ProgramError::IOError(io::Error::other(error)))
}

fn attach_sk_lookup(program: &mut SkLookup, netns: BorrowedFd<'_>) -> Result<FdLink, ProgramError> {
    let id = program.attach(netns)?;
    Ok(FdLink::from(program.take_link(id)?))
}
