//! Join tokens: who may ask this CA in file mode. The file is read again when it changes.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use crate::tls::sha256;

/// Why the tokens cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error(
        "token file {path}: {reason}; make one with `(umask 077; openssl rand -hex 32 > {path})`, and give agents the same"
    )]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// Others may read or change it.
    #[error("token file {path} has mode {mode:04o}: others could read or change it; run `chmod 600 {path}`")]
    Mode {
        /// The file.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to someone else.
    #[error("token file {path} belongs to user {owner}; run `chown {us} {path}`")]
    Owner {
        /// The file.
        path: String,
        /// Its owner.
        owner: u32,
        /// Who we are.
        us: u32,
    },
    /// No token in it.
    #[error("token file {path} holds no token: write one a line, `token` or `node-name token`")]
    Empty {
        /// The file.
        path: String,
    },
    /// A token too short to be secret.
    #[error(
        "token file {path}, line {line}: a token needs at least 16 characters; try `openssl rand -hex 32`"
    )]
    Weak {
        /// The file.
        path: String,
        /// Line, from 1.
        line: usize,
    },
    /// More words than a name and a token.
    #[error("token file {path}, line {line}: expected `token` or `node-name token`")]
    Line {
        /// The file.
        path: String,
        /// Line, from 1.
        line: usize,
    },
}

/// One token as its hash, with the name of who holds it.
#[derive(Clone)]
struct Token {
    holder: String,
    hash: [u8; 32],
}

/// What tells one version of a file from another.
pub(crate) type Version = (u64, i64, i64, u64);

/// The version of a file by its metadata: inode, change of content in seconds and nanoseconds, length.
pub(crate) fn version(metadata: &std::fs::Metadata) -> Version {
    (metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len())
}

/// The token file with what was last read of it.
pub(crate) struct TokenFile {
    path: PathBuf,
    read: Mutex<(Version, Vec<Token>)>,
}

impl TokenFile {
    /// Reads the file; its permissions must keep others out.
    pub(crate) fn open(path: &Path) -> Result<Self, TokenError> {
        let read = read(path)?;
        Ok(Self { path: path.to_owned(), read: Mutex::new(read) })
    }

    /// Who holds `token`; `None` for nobody. Takes the same time wherever a wrong token differs.
    ///
    /// A file that became unreadable is an error and nobody is let in.
    pub(crate) fn holder(&self, token: &str) -> Result<Option<String>, TokenError> {
        let metadata = std::fs::metadata(&self.path).map_err(|error| unreadable(&self.path, &error))?;
        let mut known = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != version(&metadata) {
            *known = read(&self.path)?;
        }
        Ok(find(&known.1, token))
    }
}

/// Hashes before comparing, so that neither length nor first difference shows in the time; looks at every token.
fn find(tokens: &[Token], token: &str) -> Option<String> {
    let hash = sha256(token.as_bytes());
    let same = |known: &Token| {
        known.hash.iter().zip(hash).fold(0, |differs, (one, other)| differs | (one ^ other)) == 0
    };
    tokens.iter().filter(|known| same(known)).fold(None, |_, known| Some(known.holder.clone()))
}

fn unreadable(path: &Path, error: &std::io::Error) -> TokenError {
    TokenError::Read { path: path.display().to_string(), reason: error.to_string() }
}

fn read(path: &Path) -> Result<(Version, Vec<Token>), TokenError> {
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    let (shown, mode) = (path.display().to_string(), metadata.mode() & 0o777);
    if mode & 0o037 != 0 {
        return Err(TokenError::Mode { path: shown, mode });
    }
    let us = rustix::process::geteuid().as_raw();
    if metadata.uid() != us && metadata.uid() != 0 {
        return Err(TokenError::Owner { path: shown, owner: metadata.uid(), us });
    }
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    Ok((version(&metadata), parse(&shown, &text)?))
}

fn parse(path: &str, text: &str) -> Result<Vec<Token>, TokenError> {
    let mut tokens = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let (path, number) = (path.to_owned(), index + 1);
        let (holder, token) = match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            [] => continue,
            [token] => (format!("token on line {number}"), *token),
            [name, token] => ((*name).to_owned(), *token),
            _ => return Err(TokenError::Line { path, line: number }),
        };
        if token.len() < 16 {
            return Err(TokenError::Weak { path, line: number });
        }
        tokens.push(Token { holder, hash: sha256(token.as_bytes()) });
    }
    match tokens.is_empty() {
        true => Err(TokenError::Empty { path: path.to_owned() }),
        false => Ok(tokens),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_lines_and_says_what_is_wrong() {
        let tokens = parse("f", "# comment\n\nnode-a 0123456789abcdef\nfedcba9876543210 # spare\n").unwrap();
        assert_eq!(find(&tokens, "0123456789abcdef").as_deref(), Some("node-a"));
        assert_eq!(find(&tokens, "fedcba9876543210").as_deref(), Some("token on line 4"));
        for wrong in ["", "0123456789abcde", "0123456789abcdef0"] {
            assert_eq!(find(&tokens, wrong), None);
        }
        assert!(matches!(parse("f", "\n#\n"), Err(TokenError::Empty { .. })));
        assert!(matches!(parse("f", "short"), Err(TokenError::Weak { line: 1, .. })));
        assert!(matches!(parse("f", "a b c"), Err(TokenError::Line { line: 1, .. })));
    }
}
