//! The server name in a TLS ClientHello (RFC 8446, section 4.1.2; RFC 6066, section 3). Pure.
//!
//! Reads a handshake message that is split over records. Refuses names that are no host names, so that what is logged is text.

/// A ClientHello beyond this is not read for its name.
pub const WINDOW: usize = 8 * 1024;

/// What a ClientHello says so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// The rest has not come yet.
    More,
    /// Its server name.
    Name(String),
    /// It has none, or is none.
    Nameless,
}

/// The server name of the first bytes of a TLS client, where they hold it.
#[must_use]
pub fn sni(client_hello: &[u8]) -> Option<String> {
    match read(client_hello) {
        Hello::Name(name) => Some(name),
        Hello::More | Hello::Nameless => None,
    }
}

/// Reads as far as the bytes go.
#[must_use]
pub fn read(bytes: &[u8]) -> Hello {
    let Some((message, whole)) = handshake(bytes) else { return Hello::Nameless };
    match name(&message) {
        Ok(Some(name)) => Hello::Name(name),
        Ok(None) => Hello::Nameless,
        // Ran out of bytes: of the message, or of what has come of it.
        Err(Short) if whole => Hello::Nameless,
        Err(Short) => Hello::More,
    }
}

/// The message ended before what it promised.
#[derive(Debug, PartialEq, Eq)]
struct Short;

/// The body of the handshake message of type 1 out of its records, and whether all of it is there; none where it is something else.
fn handshake(mut bytes: &[u8]) -> Option<(Vec<u8>, bool)> {
    let mut message = Vec::new();
    loop {
        match bytes {
            [0x16, 3, _, high, low, rest @ ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                if length == 0 {
                    return None;
                }
                let (fragment, behind) = rest.split_at(length.min(rest.len()));
                message.extend_from_slice(fragment);
                bytes = behind;
                if fragment.len() < length {
                    bytes = &[];
                }
            }
            // The head of a record is cut.
            [] | [0x16] | [0x16, 3] | [0x16, 3, _] | [0x16, 3, _, _] => bytes = &[],
            _ => return None,
        }
        match message.as_slice() {
            [1, a, b, c, body @ ..] => {
                let length = usize::try_from(u32::from_be_bytes([0, *a, *b, *c])).ok()?;
                if let Some(body) = body.get(..length) {
                    return Some((body.to_vec(), true));
                }
            }
            [kind, ..] if *kind != 1 => return None,
            _ => {}
        }
        if bytes.is_empty() {
            return Some((message.get(4..).unwrap_or_default().to_vec(), false));
        }
    }
}

/// Version, random, session, cipher suites, compression, extensions.
fn name(body: &[u8]) -> Result<Option<String>, Short> {
    let mut rest = Rest(body);
    rest.take(2 + 32)?;
    rest.vector(1)?;
    rest.vector(2)?;
    rest.vector(1)?;
    if rest.0.is_empty() {
        // A whole message without extensions, or one that is cut right here.
        return Err(Short);
    }
    let length = rest.number(2)?;
    let mut extensions = Rest(rest.0.get(..length).unwrap_or(rest.0));
    loop {
        let kind = extensions.number(2)?;
        let content = extensions.vector(2)?;
        if kind == 0 {
            return Ok(server_name(content));
        }
    }
}

/// The host name in a list of server names.
fn server_name(list: &[u8]) -> Option<String> {
    let mut list = Rest(Rest(list).vector(2).ok()?);
    loop {
        let kind = list.number(1).ok()?;
        let name = list.vector(2).ok()?;
        if kind == 0 {
            return host_name(name);
        }
    }
}

fn host_name(name: &[u8]) -> Option<String> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
    let fits = !name.is_empty() && name.len() <= 255 && name.iter().all(plain);
    fits.then(|| String::from_utf8_lossy(name).to_ascii_lowercase())
}

/// What is left to read.
struct Rest<'bytes>(&'bytes [u8]);

impl<'bytes> Rest<'bytes> {
    fn take(&mut self, count: usize) -> Result<&'bytes [u8], Short> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Short)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A number of one or two bytes.
    fn number(&mut self, bytes: usize) -> Result<usize, Short> {
        Ok(self.take(bytes)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    }

    /// Bytes behind their length.
    fn vector(&mut self, length_bytes: usize) -> Result<&'bytes [u8], Short> {
        let length = self.number(length_bytes)?;
        self.take(length)
    }
}

#[cfg(test)]
mod tests;
