//! Compiles the eBPF programs (`agent-ebpf`, for `bpfel-unknown-none`) with the tools that `cargo xtask setup` brought,
//! and leaves the object where `bpf::load` embeds it. Changes nothing in the toolchain: `core` is compiled from the
//! library source in the tools folder. Refuses to guess: without the tools it names the one command to run.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, exit},
};

/// Separates flags in `CARGO_ENCODED_RUSTFLAGS`.
const SEPARATOR: char = '\u{1f}';

fn main() {
    if let Err(reason) = build() {
        eprintln!("\nerror: the eBPF programs were not built: {reason}\n");
        exit(1);
    }
}

fn build() -> Result<(), String> {
    let workspace = workspace()?;
    for source in [
        "agent-ebpf/src",
        "agent-ebpf/Cargo.toml",
        "agent-ebpf/Cargo.lock",
        "agent-common/src",
        "agent/build.rs",
    ] {
        println!("cargo:rerun-if-changed={}", workspace.join(source).display());
    }
    println!("cargo:rerun-if-env-changed=POSTHASTE_TOOLS");
    let out = PathBuf::from(variable("OUT_DIR")?);
    let tools = Tools::find(&workspace)?;
    let target = target_folder(&out).unwrap_or_else(|| out.clone()).join("ebpf");
    compile(&workspace.join("agent-ebpf"), &tools, &target)?;
    let object = target.join("bpfel-unknown-none/release/agent-ebpf");
    fs::copy(&object, out.join("capture.o"))
        .map(drop)
        .map_err(|error| format!("cannot copy {}: {error}", object.display()))
}

fn workspace() -> Result<PathBuf, String> {
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    manifest.parent().map(Path::to_path_buf).ok_or_else(|| format!("{} has no parent", manifest.display()))
}

fn variable(name: &str) -> Result<OsString, String> {
    env::var_os(name).ok_or_else(|| format!("cargo did not set {name}"))
}

/// What `cargo xtask setup` leaves.
struct Tools {
    linker: PathBuf,
    library: PathBuf,
}

impl Tools {
    /// `POSTHASTE_TOOLS`, else `tools` in the target folder.
    fn find(workspace: &Path) -> Result<Self, String> {
        let folders: Vec<PathBuf> = match env::var_os("POSTHASTE_TOOLS") {
            Some(folder) => vec![folder.into()],
            None => env::var_os("CARGO_TARGET_DIR")
                .map(|target| workspace.join(target).join("tools"))
                .into_iter()
                .chain([workspace.join("target/tools")])
                .collect(),
        };
        for folder in &folders {
            let tools =
                Self { linker: folder.join("bin/bpf-linker"), library: folder.join("rust-src/library") };
            if tools.linker.exists() && tools.library.join("core").exists() {
                return Ok(tools);
            }
        }
        let places: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
        Err(format!(
            "bpf-linker or the source of `core` is not in {}. Run:\n\n    cargo xtask setup\n",
            places.join(" nor ")
        ))
    }
}

/// The folder that holds all build output, so that profiles share one build of the programs.
fn target_folder(out: &Path) -> Option<PathBuf> {
    out.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists()).map(Path::to_path_buf)
}

fn compile(package: &Path, tools: &Tools, target: &Path) -> Result<(), String> {
    let architecture = variable("CARGO_CFG_TARGET_ARCH")?;
    let flags = [
        "-Cdebuginfo=2".to_owned(),
        format!("-Clinker={}", tools.linker.display()),
        "-Clink-arg=--btf".to_owned(),
        format!("--cfg=bpf_target_arch=\"{}\"", architecture.to_string_lossy()),
    ];
    let mut cargo = Command::new(variable("CARGO")?);
    cargo
        .current_dir(package)
        .args(["build", "--release", "--locked", "--target", "bpfel-unknown-none", "-Zbuild-std=core"])
        .arg("--target-dir")
        .arg(target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join(&SEPARATOR.to_string()))
        // `core` for this target is not in the stable toolchain: build it here, with the features stable hides.
        .env("RUSTC_BOOTSTRAP", "1")
        // Cargo looks for the library source in the sysroot only; this variable of its own tests is the one way to
        // show it another folder without writing into the user's toolchain.
        .env("__CARGO_TESTS_ONLY_SRC_ROOT", &tools.library);
    // What belongs to the host build (clippy's driver, coverage flags) must not reach this one.
    for name in
        ["RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET", "RUSTC_LINKER"]
    {
        cargo.env_remove(name);
    }
    let status = cargo.status().map_err(|error| format!("cannot run cargo: {error}"))?;
    status.success().then_some(()).ok_or_else(|| {
        "the compiler refused (see above). If the toolchain has changed, run:\n\n    cargo xtask setup\n"
            .to_owned()
    })
}
