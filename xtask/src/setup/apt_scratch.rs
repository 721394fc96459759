//! Downloads one Debian package of a newer suite without installing it: apt with lists, cache and sources of its own in a
//! scratch folder. The mirror is the machine's own, signatures are checked with the machine's own key ring, and the
//! machine's lists and packages stay as they are. Needs no root.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::apt_sources::{self, Source};
use crate::run;

/// Small lists first; each is asked only when the ones before it lack the version.
const SUITES: [&str; 5] = ["trixie-backports", "forky-backports", "trixie", "forky", "sid"];
const DEFAULT_KEY_RING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Why the package was not had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DownloadError {
    #[error("this machine has no apt, so Debian's packages are out of reach")]
    NoApt,
    #[error("no source in /etc/apt serves Debian {0:?} itself, so there is no mirror to ask")]
    NoMirror(String),
    #[error("the key ring {0} is missing: apt-get install debian-archive-keyring")]
    NoKeyRing(String),
    #[error("cannot write {0}: {1}")]
    Folder(String, std::io::Error),
    #[error("no suite of the mirror has {wanted}:\n  {}", tried.join("\n  "))]
    NoVersion { wanted: String, tried: Vec<String> },
    #[error("{0}")]
    Command(String),
}

/// One package and which of its versions will do.
pub(crate) struct Wanted<'wanted> {
    /// Name of the package.
    pub(crate) package: &'wanted str,
    /// The version in words, for the error.
    pub(crate) version: &'wanted str,
    /// Whether a Debian version will do.
    pub(crate) fits: &'wanted dyn Fn(&str) -> bool,
}

/// Unpacks `library` of rust-src of this release as `ours/rust-src/library`; answers with the package's version.
pub(crate) fn download_rust_src(release: &str, ours: &Path) -> Result<String, DownloadError> {
    let fits = |version: &str| upstream(version) == release;
    let wanted = Wanted { package: "rust-src", version: release, fits: &fits };
    let part = Part { folder: &format!("./usr/src/rustc-{release}/library"), strip: 4 };
    download(&wanted, &part, ours, &ours.join("rust-src"))
}

/// What is taken out of a package.
pub(crate) struct Part<'part> {
    /// A path as the package has it, as `./usr/bin/name`.
    pub(crate) folder: &'part str,
    /// How many leading parts of the path are left out.
    pub(crate) strip: usize,
}

/// Downloads a package, unpacks one part of it as `place`, answers with its version. The scratch folder is `ours/apt`.
pub(crate) fn download(
    wanted: &Wanted<'_>,
    part: &Part<'_>,
    ours: &Path,
    place: &Path,
) -> Result<String, DownloadError> {
    let scratch = Scratch::prepare(&ours.join("apt"))?;
    let version = scratch.find_version(wanted)?;
    let name = format!("{}={version}", wanted.package);
    run::output(scratch.apt("apt-get").args(["download", &name])).map_err(DownloadError::Command)?;
    unpack(&scratch.folder, part, place)?;
    let _ = std::fs::remove_dir_all(&scratch.folder);
    Ok(version)
}

/// A folder in which apt finds everything it would write to.
struct Scratch {
    folder: PathBuf,
    mirror: String,
    key_ring: String,
    codename: String,
}

impl Scratch {
    fn prepare(folder: &Path) -> Result<Self, DownloadError> {
        if crate::workspace::find_program("apt-get").is_none() {
            return Err(DownloadError::NoApt);
        }
        let codename = codename(&std::fs::read_to_string("/etc/os-release").unwrap_or_default());
        let found = apt_sources::debian_mirror(&machine_sources(), &codename);
        let (mirror, key_ring) = found.ok_or_else(|| DownloadError::NoMirror(codename.clone()))?;
        let key_ring = key_ring.unwrap_or_else(|| DEFAULT_KEY_RING.to_owned());
        if !Path::new(&key_ring).is_file() {
            return Err(DownloadError::NoKeyRing(key_ring));
        }
        let _ = std::fs::remove_dir_all(folder);
        for part in ["state/lists/partial", "cache/archives/partial"] {
            let path = folder.join(part);
            std::fs::create_dir_all(&path)
                .map_err(|error| DownloadError::Folder(path.display().to_string(), error))?;
        }
        Ok(Self { folder: folder.to_path_buf(), mirror, key_ring, codename })
    }

    /// The first suite that has a version that will do.
    fn find_version(&self, wanted: &Wanted<'_>) -> Result<String, DownloadError> {
        let own = format!("{}-backports", self.codename);
        let suites = std::iter::once(own.as_str()).chain(SUITES.into_iter().filter(|suite| *suite != own));
        let mut tried = Vec::new();
        for suite in suites {
            match self.ask(suite, wanted) {
                Ok(version) => return Ok(version),
                Err(reason) => tried.push(format!("{suite}: {reason}")),
            }
        }
        let wanted = format!("{} {}", wanted.package, wanted.version);
        Err(DownloadError::NoVersion { wanted, tried })
    }

    fn ask(&self, suite: &str, wanted: &Wanted<'_>) -> Result<String, String> {
        let list = format!("deb [signed-by={}] {} {suite} main\n", self.key_ring, self.mirror);
        std::fs::write(self.folder.join("sources.list"), list).map_err(|error| error.to_string())?;
        run::output(self.apt("apt-get").args(["update", "--error-on=any"]))
            .map_err(|error| first_error(&error))?;
        let answer = run::output(self.apt("apt-cache").args(["madison", wanted.package]))?;
        matching_version(&answer, wanted.fits).ok_or_else(|| "has other versions only".to_owned())
    }

    fn apt(&self, program: &str) -> Command {
        let folder = self.folder.display();
        let mut command = Command::new(program);
        command.current_dir(&self.folder).env("LC_ALL", "C").stdin(Stdio::null());
        for option in [
            format!("Dir::Etc::sourcelist={folder}/sources.list"),
            "Dir::Etc::sourceparts=-".to_owned(),
            format!("Dir::State::lists={folder}/state/lists"),
            format!("Dir::Cache={folder}/cache"),
            "Acquire::Languages=none".to_owned(),
            "APT::Update::Post-Invoke::=true".to_owned(),
            // Root's apt would hand the download to a user who cannot enter this folder.
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        command
    }
}

/// What the machine itself takes packages from; files that cannot be read count as absent.
fn machine_sources() -> Vec<Source> {
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let mut sources = apt_sources::parse_lines(&read(Path::new("/etc/apt/sources.list")));
    let entries = std::fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("list") => sources.extend(apt_sources::parse_lines(&read(&path))),
            Some("sources") => sources.extend(apt_sources::parse_paragraphs(&read(&path))),
            _ => {}
        }
    }
    sources
}

fn codename(os_release: &str) -> String {
    let value = os_release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    value.unwrap_or("sid").trim_matches('"').to_owned()
}

/// From lines `rust-src | 1.95.0+dfsg1-2~bpo13+1 | address suite`, the first version that fits.
fn matching_version(madison: &str, fits: impl Fn(&str) -> bool) -> Option<String> {
    let mut versions = madison.lines().filter_map(|line| line.split('|').nth(1)).map(str::trim);
    versions.find(|version| fits(version)).map(str::to_owned)
}

/// The upstream part of a Debian version: what stands before the revision and what Debian added; without the epoch.
pub(crate) fn upstream(version: &str) -> &str {
    let version = version.split_once(':').map_or(version, |(_, rest)| rest);
    version.split(['+', '-', '~']).next().unwrap_or(version)
}

fn first_error(text: &str) -> String {
    let lines = || text.lines().map(str::trim);
    lines().find(|line| line.contains("E: ")).or_else(|| lines().next()).unwrap_or("failed").to_owned()
}

/// Takes one part out of the package. Put in place in one step at the end.
fn unpack(scratch: &Path, part: &Part<'_>, folder: &Path) -> Result<(), DownloadError> {
    let package = std::fs::read_dir(scratch).into_iter().flatten().flatten().map(|entry| entry.path());
    let package =
        package.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "deb"));
    let package =
        package.ok_or_else(|| DownloadError::Command("apt-get download left no package".to_owned()))?;
    let inner = scratch.join("inner");
    std::fs::create_dir_all(&inner)
        .map_err(|error| DownloadError::Folder(inner.display().to_string(), error))?;
    let mut reader = Command::new("dpkg-deb");
    reader.arg("--fsys-tarfile").arg(package).stdout(Stdio::piped());
    let mut reader = reader.spawn().map_err(|error| DownloadError::Command(format!("dpkg-deb: {error}")))?;
    let mut writer = Command::new("tar");
    writer.args(["-x", &format!("--strip-components={}", part.strip), "-C"]).arg(&inner).arg(part.folder);
    if let Some(stdout) = reader.stdout.take() {
        writer.stdin(stdout);
    }
    let written = run::output(&mut writer);
    let _ = reader.wait();
    written.map_err(DownloadError::Command)?;
    std::fs::rename(&inner, folder)
        .map_err(|error| DownloadError::Folder(folder.display().to_string(), error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn takes_exactly_the_release() {
        let answer = "  rust-src | 1.96.0+dfsg1-1 | http://m.test/debian trixie-backports/main\n  \
            rust-src | 1.95.0+dfsg1-2~bpo13+1 | http://m.test/debian trixie-backports/main\n";
        let of =
            |answer: &str, release: &str| matching_version(answer, |version| upstream(version) == release);
        assert_eq!(of(answer, "1.95.0").as_deref(), Some("1.95.0+dfsg1-2~bpo13+1"));
        assert_eq!(of(answer, "1.9"), None);
        assert_eq!(of("", "1.95.0"), None);
        assert_eq!(upstream("1:1.33.4+ds-1+b2"), "1.33.4");
    }

    #[test]
    fn reads_the_codename() {
        assert_eq!(codename("NAME=\"Debian\"\nVERSION_CODENAME=bookworm\n"), "bookworm");
    }
}
