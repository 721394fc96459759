//! What the fields of a head say about framing and the connection (RFC 9112 sections 6 and 9). Pure.

/// Gathered field by field.
#[derive(Debug, Default)]
pub(super) struct Framing {
    /// Of `Content-Length`.
    pub(super) length: Option<u64>,
    /// More than one `Content-Length`, all the same.
    pub(super) length_repeated: bool,
    /// Of `Transfer-Encoding`.
    pub(super) coding: Option<Coding>,
    /// `Connection: close`.
    pub(super) close: bool,
    /// `Connection: keep-alive`.
    pub(super) keep_alive: bool,
    /// `Connection: upgrade`.
    pub(super) connection_upgrade: bool,
    /// An `Upgrade` field that offers something, and not h2c: inside that, requests would pass unseen.
    pub(super) upgrade: bool,
    /// `Upgrade: h2c` among others.
    pub(super) offers_h2c: bool,
    /// `Host` fields.
    pub(super) hosts: usize,
    /// `Expect: 100-continue`.
    pub(super) continues: bool,
}

/// Transfer codings as far as they matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// Exactly `chunked`.
    Chunked,
    /// Others that end in `chunked`: delimited, but not for us to undo.
    Unknown,
    /// The end cannot be told.
    Undelimited,
}

impl Framing {
    /// Notes one field.
    pub(super) fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        // The length tells most names apart without a comparison.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.hosts += 1,
            6 if name.eq_ignore_ascii_case(b"expect") => {
                self.continues |= value.eq_ignore_ascii_case(b"100-continue");
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.note_upgrade(value),
            10 if name.eq_ignore_ascii_case(b"connection") => self.note_connection(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => return self.note_length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.note_coding(value),
            _ => {}
        }
        Ok(())
    }

    fn note_length(&mut self, value: &[u8]) -> Result<(), &'static str> {
        for member in value.split(|byte| *byte == b',') {
            let length = parse_length(member.trim_ascii()).ok_or("invalid Content-Length")?;
            match self.length {
                Some(before) if before != length => return Err("differing Content-Length"),
                Some(_) => self.length_repeated = true,
                None => self.length = Some(length),
            }
        }
        Ok(())
    }

    fn note_coding(&mut self, value: &[u8]) {
        let coding = match tokens(value).last() {
            _ if value.eq_ignore_ascii_case(b"chunked") => Coding::Chunked,
            Some(last) if last.eq_ignore_ascii_case(b"chunked") => Coding::Unknown,
            _ => Coding::Undelimited,
        };
        // A second field makes a list, whose meaning hops disagree about.
        self.coding = Some(if self.coding.is_none() { coding } else { Coding::Undelimited });
    }

    fn note_connection(&mut self, value: &[u8]) {
        for option in tokens(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            self.connection_upgrade |= option.eq_ignore_ascii_case(b"upgrade");
        }
    }

    fn note_upgrade(&mut self, value: &[u8]) {
        for protocol in tokens(value) {
            self.upgrade = true;
            self.offers_h2c |= protocol.eq_ignore_ascii_case(b"h2c");
        }
    }

    /// Whether the connection may serve another message (RFC 9112 section 9.3).
    pub(super) fn keeps_alive(&self, minor_version: u8) -> bool {
        !self.close && (minor_version >= 1 || self.keep_alive)
    }
}

/// The members of a comma-separated list, without empty ones (RFC 9110 section 5.6.1).
pub(super) fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// Digits and nothing else; no sign, no overflow.
fn parse_length(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |length, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    })
}
