//! `cargo xtask ebpf`: builds the eBPF programs alone, in the way the agent's build does it, and shows how large each
//! program is. The agent's build script is what compiles them, so there is one way only; this reads its result.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{run, setup, workspace};

/// Bytes of one eBPF instruction (RFC 9669, section 3).
const INSTRUCTION: u64 = 8;

/// Builds and prints a table: program, instructions.
pub(crate) fn run() -> Result<(), String> {
    setup::ensure().map_err(|error| error.to_string())?;
    let mut build = Command::new("cargo");
    build.args(["check", "--quiet", "-p", "posthaste", "--lib"]).current_dir(workspace::root());
    run::run(&mut build).map_err(|error| error.to_string())?;
    let object = newest_object()?;
    let bytes = std::fs::read(&object).map_err(|error| format!("{}: {error}", object.display()))?;
    let sections =
        program_sections(&bytes).ok_or_else(|| format!("{} is no 64-bit ELF object", object.display()))?;
    println!("{} ({} bytes)", workspace::shown(&object), bytes.len());
    let mut total = 0;
    for (name, size) in &sections {
        println!("  {name:<28} {:>6} instructions", size / INSTRUCTION);
        total += size / INSTRUCTION;
    }
    println!("  {:<28} {total:>6} instructions", "together");
    Ok(())
}

/// Profiles share one build of the programs, in `ebpf` of the target folder.
fn newest_object() -> Result<PathBuf, String> {
    let object = workspace::target().join("ebpf/bpfel-unknown-none/release/agent-ebpf");
    if Path::new(&object).is_file() {
        return Ok(object);
    }
    Err(format!("the build left no object at {}", workspace::shown(&object)))
}

/// (name, size in bytes) of every section that holds instructions. ELF-64, little endian (System V ABI, chapter 4).
fn program_sections(elf: &[u8]) -> Option<Vec<(String, u64)>> {
    if elf.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let table = usize::try_from(number(elf, 0x28, 8)?).ok()?;
    let size = usize::try_from(number(elf, 0x3a, 2)?).ok()?;
    let count = usize::try_from(number(elf, 0x3c, 2)?).ok()?;
    let names = usize::try_from(number(elf, 0x3e, 2)?).ok()?;
    let header = |index: usize| elf.get(table.checked_add(index.checked_mul(size)?)?..);
    let strings = usize::try_from(number(header(names)?, 0x18, 8)?).ok()?;
    let section = |index: usize| {
        let header = header(index)?;
        let name = elf.get(strings.checked_add(usize::try_from(number(header, 0, 4)?).ok()?)?..)?;
        let name = String::from_utf8_lossy(name.split(|&byte| byte == 0).next()?).into_owned();
        let (kind, flags, length) = (number(header, 4, 4)?, number(header, 8, 8)?, number(header, 0x20, 8)?);
        // SHT_PROGBITS with SHF_EXECINSTR.
        (kind == 1 && flags & 4 != 0 && length > 0).then_some((name, length))
    };
    Some((0..count).filter_map(section).collect())
}

fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(length)?)?;
    Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn reads_the_sections_of_this_very_program() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let sections = program_sections(&own).unwrap();
        assert!(sections.iter().any(|(name, size)| name == ".text" && *size > 1000), "{sections:?}");
    }

    #[test]
    fn refuses_what_is_no_object_without_a_panic() {
        assert_eq!(program_sections(b"nothing"), None);
        assert_eq!(program_sections(&[0x7f, b'E', b'L', b'F', 2, 1, 0, 0, 9]), None);
    }
}
