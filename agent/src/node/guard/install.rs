//! The boot guard as files of a node: the program, its settings, a unit of systemd and the link that enables it. Each is written beside and
//! renamed into place, the link last, and left alone where it is as it should be: a node may lose its power at any moment, and an init
//! container does this again and again.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::fs::{OpenOptionsExt, symlink},
    path::{Component, Path, PathBuf},
};

use crate::config::Place;

/// Name of the unit.
pub(super) const UNIT: &str = "posthaste-guard.service";
const UNIT_TEXT: &str = include_str!("../../../../deploy/host/posthaste-guard.service");
/// The folder that the text of the unit names.
const UNIT_FOLDER: &str = "/opt/posthaste";
const UNITS: &str = "/etc/systemd/system";
/// The folder of what the target starts that the unit's `WantedBy` names.
const WANTS: &str = "/etc/systemd/system/multi-user.target.wants";
const OWN_PROGRAM: &str = "/proc/self/exe";

/// A file of the node that cannot be written or removed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// What the kernel said.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// systemd would read something else.
    #[error("--folder {0} is no absolute path of plain words: give letters, digits and `-._/` alone")]
    Folder(PathBuf),
    /// The same.
    #[error("{name} has a line break in its value: leave it out")]
    Setting {
        /// The variable.
        name: &'static str,
    },
}

/// Where each file is.
struct Paths {
    folder: PathBuf,
    program: PathBuf,
    settings: PathBuf,
    unit: PathBuf,
    link: PathBuf,
}

impl Paths {
    fn of(place: &Place) -> Result<Self, InstallError> {
        let name = place.folder.to_str().unwrap_or_default();
        let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte));
        let is_up = place.folder.components().any(|part| part == Component::ParentDir);
        if !place.folder.is_absolute() || !is_plain || is_up {
            return Err(InstallError::Folder(place.folder.clone()));
        }
        let below = |path: &str| place.root.join(path.trim_start_matches('/'));
        let folder = below(name);
        Ok(Self {
            program: folder.join("posthaste"),
            settings: folder.join("guard.env"),
            unit: below(UNITS).join(UNIT),
            link: below(WANTS).join(UNIT),
            folder,
        })
    }
}

/// Writes what is missing or different; says what.
///
/// # Errors
/// A file cannot be written; those before it are.
pub(super) fn install(place: &Place, settings: &[(&'static str, String)]) -> Result<String, InstallError> {
    let paths = Paths::of(place)?;
    let settings = environment(settings)?;
    let unit = UNIT_TEXT.replace(UNIT_FOLDER, place.folder.to_str().unwrap_or(UNIT_FOLDER));
    let mut said = Vec::new();
    let mut note = |path: &Path, result: io::Result<bool>| {
        let is_new = result.map_err(failed("write", path))?;
        said.extend(is_new.then(|| format!("wrote {}", path.display())));
        Ok::<(), InstallError>(())
    };
    let open = || File::open(OWN_PROGRAM);
    note(&paths.program, open().and_then(|own| put(&paths.program, 0o755, own, open()?)))?;
    for (path, text) in [(&paths.settings, &settings), (&paths.unit, &unit)] {
        note(path, put(path, 0o644, text.as_bytes(), text.as_bytes()))?;
    }
    note(&paths.link, enable(&paths.link))?;
    Ok(if said.is_empty() { "the boot guard is there already".to_owned() } else { said.join("\n") })
}

/// Removes what is there; says what.
///
/// # Errors
/// A file cannot be removed; those before it are.
pub(super) fn uninstall(place: &Place) -> Result<String, InstallError> {
    let paths = Paths::of(place)?;
    let mut said = Vec::new();
    for path in [&paths.link, &paths.unit, &paths.settings, &paths.program] {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => {
                removed.map_err(failed("remove", path))?;
                said.push(format!("removed {}", path.display()));
            }
        }
    }
    // Somebody else's files, or a mount, may keep it.
    let _kept = fs::remove_dir(&paths.folder);
    Ok(if said.is_empty() { "there was no boot guard".to_owned() } else { said.join("\n") })
}

/// Whether it starts at the next boot of the machine whose files are below `root`.
pub(super) fn is_enabled(root: &Path) -> bool {
    // The link's target is a path of the node.
    root.join(WANTS.trim_start_matches('/')).join(UNIT).is_symlink()
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    move |source| InstallError::File { action, path: path.to_owned(), source }
}

/// As systemd reads it (systemd.exec(5), `EnvironmentFile`).
fn environment(settings: &[(&'static str, String)]) -> Result<String, InstallError> {
    let mut text =
        "# Written by `posthaste guard install`: flags of `posthaste guard` in their environment form.\n"
            .to_owned();
    for (name, value) in settings {
        if value.contains(['\n', '\r']) {
            return Err(InstallError::Setting { name });
        }
        let value = value.replace('\\', r"\\").replace('"', r#"\""#);
        text.push_str(&format!("{name}=\"{value}\"\n"));
    }
    Ok(text)
}

/// Writes `content` unless the file has it (`same` reads the same once more); whether it wrote.
fn put(path: &Path, mode: u32, same: impl Read, mut content: impl Read) -> io::Result<bool> {
    if File::open(path).and_then(|old| are_equal(old, same)).unwrap_or(false) {
        return Ok(false);
    }
    let fresh = path.with_extension("new");
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // One that a run before left may have another mode.
    let _absent = fs::remove_file(&fresh);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
    io::copy(&mut content, &mut file)?;
    file.flush()?;
    file.sync_all()?;
    fs::rename(&fresh, path).map(|()| true)
}

fn are_equal(left: impl Read, right: impl Read) -> io::Result<bool> {
    let (mut left, mut right) = (BufReader::new(left), BufReader::new(right));
    loop {
        let (ours, theirs) = (left.fill_buf()?, right.fill_buf()?);
        let length = ours.len().min(theirs.len());
        if length == 0 {
            return Ok(ours.is_empty() && theirs.is_empty());
        }
        if ours.get(..length) != theirs.get(..length) {
            return Ok(false);
        }
        left.consume(length);
        right.consume(length);
    }
}

fn enable(link: &Path) -> io::Result<bool> {
    let target = Path::new("..").join(UNIT);
    if fs::read_link(link).is_ok_and(|old| old == target) {
        return Ok(false);
    }
    let fresh = link.with_extension("new");
    if let Some(folder) = link.parent() {
        fs::create_dir_all(folder)?;
    }
    let _absent = fs::remove_file(&fresh);
    symlink(&target, &fresh)?;
    fs::rename(&fresh, link).map(|()| true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use std::{
        os::unix::fs::{MetadataExt, PermissionsExt},
        process::Command,
    };

    use super::*;

    fn place(root: &Path) -> Place {
        Place { root: root.to_owned(), folder: PathBuf::from(UNIT_FOLDER) }
    }

    fn settings(mtls: &str) -> Vec<(&'static str, String)> {
        vec![("POSTHASTE_MTLS", mtls.to_owned())]
    }

    /// Every file and folder below, with its inode.
    fn files(root: &Path) -> Vec<(PathBuf, u64)> {
        let mut found = Vec::new();
        for entry in fs::read_dir(root).unwrap().flatten() {
            let path = entry.path();
            found.push((path.clone(), fs::symlink_metadata(&path).unwrap().ino()));
            if entry.file_type().unwrap().is_dir() {
                found.extend(files(&path));
            }
        }
        found.sort();
        found
    }

    #[test]
    fn what_is_there_is_not_written_again_and_all_of_it_goes() {
        let node = tempfile::tempdir().unwrap();
        let root = node.path();
        fs::create_dir_all(root.join("etc/systemd/system/multi-user.target.wants")).unwrap();
        let bare = files(root);
        let said = install(&place(root), &settings("strict")).unwrap();
        assert_eq!(said.lines().count(), 4, "{said}");
        let program = root.join("opt/posthaste/posthaste");
        assert_eq!(fs::read(&program).unwrap(), fs::read(OWN_PROGRAM).unwrap());
        assert_eq!(fs::metadata(&program).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(
            fs::read_to_string(root.join("etc/systemd/system/posthaste-guard.service")).unwrap(),
            UNIT_TEXT
        );
        assert!(
            is_enabled(root)
                && fs::metadata(root.join("etc/systemd/system/multi-user.target.wants").join(UNIT)).is_ok()
        );
        let written = files(root);
        assert_eq!(install(&place(root), &settings("strict")).unwrap(), "the boot guard is there already");
        assert_eq!(files(root), written, "the same files");
        let said = install(&place(root), &settings("permissive")).unwrap();
        assert_eq!(said, format!("wrote {}", root.join("opt/posthaste/guard.env").display()));
        assert!(
            fs::read_to_string(root.join("opt/posthaste/guard.env"))
                .unwrap()
                .contains("POSTHASTE_MTLS=\"permissive\"\n")
        );
        // A file that was spoilt, and one that a run left which died.
        fs::write(&program, "half").unwrap();
        fs::write(root.join("opt/posthaste/posthaste.new"), "half").unwrap();
        install(&place(root), &settings("permissive")).unwrap();
        assert_eq!(fs::metadata(&program).unwrap().len(), fs::metadata(OWN_PROGRAM).unwrap().len());
        assert_eq!(uninstall(&place(root)).unwrap().lines().count(), 4);
        assert!(!is_enabled(root));
        let left: Vec<_> = files(root).into_iter().filter(|found| !bare.contains(found)).collect();
        assert_eq!(left, [(root.join("opt"), fs::metadata(root.join("opt")).unwrap().ino())]);
        assert_eq!(uninstall(&place(root)).unwrap(), "there was no boot guard");
    }

    #[test]
    fn another_folder_is_named_in_the_unit() {
        let node = tempfile::tempdir().unwrap();
        let place = Place { folder: PathBuf::from("/var/lib/guard-1.0"), ..place(node.path()) };
        install(&place, &settings("strict")).unwrap();
        let unit = fs::read_to_string(node.path().join("etc/systemd/system").join(UNIT)).unwrap();
        assert!(unit.contains("ExecStart=/var/lib/guard-1.0/posthaste guard\n"), "{unit}");
        assert!(
            unit.contains("EnvironmentFile=-/var/lib/guard-1.0/guard.env\n") && !unit.contains(UNIT_FOLDER),
            "{unit}"
        );
        for folder in ["opt/posthaste", "/opt/my mesh", "/opt/../etc", "/opt/a%b"] {
            let place = Place { folder: PathBuf::from(folder), ..place.clone() };
            assert!(matches!(install(&place, &[]), Err(InstallError::Folder(_))), "{folder}");
        }
    }

    #[test]
    fn settings_are_written_as_systemd_reads_them() {
        let text = environment(&[("A", r#"a "b" \c $d"#.to_owned())]).unwrap();
        assert!(text.ends_with("\nA=\"a \\\"b\\\" \\\\c $d\"\n"), "{text}");
        assert!(matches!(environment(&[("A", "a\nb".to_owned())]), Err(InstallError::Setting { name: "A" })));
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let node = tempfile::tempdir().unwrap();
        fs::write(node.path().join("opt"), "").unwrap();
        let error = install(&place(node.path()), &[]).unwrap_err().to_string();
        assert!(error.contains("opt/posthaste/posthaste"), "{error}");
    }

    /// Where systemd is at hand it reads the unit itself: unknown words, wrong values and a program that is not there are errors.
    #[test]
    fn systemd_takes_the_unit() {
        if Command::new("systemd-analyze").arg("--version").output().is_err() {
            return;
        }
        let node = tempfile::tempdir().unwrap();
        let unit = node.path().join(UNIT);
        fs::write(&unit, UNIT_TEXT.replace("/opt/posthaste/posthaste", "/bin/true")).unwrap();
        let said = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output().unwrap();
        let text = String::from_utf8_lossy(&said.stderr);
        assert!(said.status.success() && !text.contains(UNIT), "{text}");
    }

    /// The unit's own words, systemd or not.
    #[test]
    fn the_unit_holds_before_kubelet_and_never_keeps_it_from_starting() {
        let lines: Vec<&str> = UNIT_TEXT.lines().collect();
        let of = |key: &str| lines.iter().filter_map(|line| line.strip_prefix(key)).collect::<Vec<_>>();
        assert!(of("Before=")[0].split(' ').any(|unit| unit == "kubelet.service"));
        assert_eq!(of("Type="), ["oneshot"]);
        assert_eq!(of("RemainAfterExit="), ["yes"]);
        assert_eq!(of("ExecStart="), [format!("{UNIT_FOLDER}/posthaste guard")]);
        assert_eq!(of("WantedBy="), [WANTS.rsplit('/').next().unwrap().trim_end_matches(".wants")]);
        for never in ["RequiredBy=", "PrivateNetwork=", "ProtectKernelTunables=", "JoinsNamespaceOf="] {
            assert!(of(never).is_empty(), "{never}");
        }
    }
}
