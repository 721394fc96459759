//! The only layer of the image: the binary, the folders that are mounted over, and the few files that a C library looks for.
//! Pure: the same program and time give the same bytes.

use std::io::{self, Write};

use flate2::{Compression, GzBuilder, write::GzEncoder};
use tar::{Builder, EntryType, Header};

use super::layout::digest;

/// Where the program is, without the slash at the front.
pub(super) const PROGRAM: &str = "usr/local/bin/posthaste";

const FOLDERS: [&str; 8] =
    ["etc/", "run/", "usr/", "usr/local/", "usr/local/bin/", "var/", "var/lib/", "var/lib/posthaste/"];

/// Names for the two users that the manifests run as, and the order of look-ups: files first.
const FILES: [(&str, &str); 3] = [
    ("etc/passwd", "root:x:0:0:root:/:/sbin/nologin\nposthaste:x:65532:65532:posthaste:/:/sbin/nologin\n"),
    ("etc/group", "root:x:0:\nposthaste:x:65532:\n"),
    ("etc/nsswitch.conf", "hosts: files dns\n"),
];

/// A layer, compressed, with the two digests that an image names it by.
pub(super) struct Layer {
    /// gzip of a tar.
    pub(super) content: Vec<u8>,
    /// Digest of the tar.
    pub(super) diff_id: String,
}

/// Packs the layer.
pub(super) fn write(program: &[u8], epoch: u64) -> io::Result<Layer> {
    let mut archive = Builder::new(Vec::new());
    for folder in FOLDERS {
        archive.append(&header(folder, EntryType::Directory, 0o755, 0, epoch)?, io::empty())?;
    }
    for (path, text) in FILES {
        archive.append(&header(path, EntryType::Regular, 0o644, text.len(), epoch)?, text.as_bytes())?;
    }
    archive.append(&header(PROGRAM, EntryType::Regular, 0o755, program.len(), epoch)?, program)?;
    let tar = archive.into_inner()?;
    // No name and no time in the head of the gzip.
    let mut encoder: GzEncoder<_> = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    encoder.write_all(&tar)?;
    Ok(Layer { content: encoder.finish()?, diff_id: digest(&tar) })
}

/// The head of one entry, owned by root.
pub(super) fn header(path: &str, kind: EntryType, mode: u32, size: usize, epoch: u64) -> io::Result<Header> {
    let mut header = Header::new_ustar();
    header.set_path(path)?;
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(epoch);
    header.set_size(size as u64);
    header.set_cksum();
    Ok(header)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeMap;
    use std::io::Read;

    #[test]
    fn the_same_program_gives_the_same_bytes() {
        let (one, two) =
            (write(b"program", 1_700_000_000).unwrap(), write(b"program", 1_700_000_000).unwrap());
        assert_eq!((&one.content, &one.diff_id), (&two.content, &two.diff_id));
        assert_ne!(write(b"Program", 1_700_000_000).unwrap().diff_id, one.diff_id);
    }

    #[test]
    fn holds_the_program_and_little_else_all_of_it_roots() {
        let layer = write(b"program", 1_700_000_000).unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(layer.content.as_slice()));
        let mut found = BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let head = entry.header().clone();
            assert_eq!(
                (head.uid().unwrap(), head.gid().unwrap(), head.mtime().unwrap()),
                (0, 0, 1_700_000_000)
            );
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            found.insert(entry.path().unwrap().display().to_string(), (head.mode().unwrap(), content));
        }
        assert_eq!(found.get(PROGRAM), Some(&(0o755, "program".to_owned())));
        assert_eq!(found.len(), FOLDERS.len() + FILES.len() + 1);
        assert!(found.values().all(|(mode, _)| mode & 0o022 == 0), "nobody else may write");
    }
}
