//! Reads the files of a folder, in the order of their names.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use super::{
    MAX_FILE,
    merge::{Folder, Source},
};
use crate::control::document::{self, Format};

/// What the folder holds now; each file on its own, so that one that fails hides no other.
pub(super) fn folder(folder: &Path) -> Folder {
    let names = match names(folder) {
        Ok(names) => names,
        Err(error) => return Folder::Unreadable(folder.display().to_string(), error.to_string()),
    };
    Folder::Files(
        names
            .into_iter()
            .filter_map(|(name, format)| {
                let content = match text(&folder.join(&name)) {
                    Ok(text) => Ok(document::parse(&name, &text, format)),
                    // Gone since it was listed.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
                    Err(error) => Err(error.to_string()),
                };
                Some(Source { name, content })
            })
            .collect(),
    )
}

fn names(folder: &Path) -> io::Result<Vec<(String, Format)>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(format) = format(&name) {
            names.push((name, format));
        }
    }
    names.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(names)
}

fn format(name: &str) -> Option<Format> {
    match name.rsplit_once('.') {
        _ if name.starts_with('.') => None,
        Some((_, "yaml" | "yml")) => Some(Format::Yaml),
        Some((_, "json")) => Some(Format::Json),
        _ => None,
    }
}

fn text(path: &Path) -> io::Result<String> {
    // A named pipe would be waited for without end: ask before opening.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("is not a regular file; move it out of the manifests folder"));
    }
    let mut text = String::new();
    let size = File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if size as u64 > MAX_FILE {
        let reason = format!("is larger than {} MiB; split it", MAX_FILE >> 20);
        return Err(io::Error::other(reason));
    }
    Ok(text)
}
