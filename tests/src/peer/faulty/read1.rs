//! Reads HTTP/1.1 requests from a blocking socket. It takes what most servers take, and counts as ambiguous what
//! another server might read differently (RFC 9112 sections 2.2, 5 and 6): a mesh must never let such a request through.

use super::{answer::Asked, seen::Ledger};
use std::{
    io::{self, BufRead, BufReader, Read},
    net::TcpStream,
};

const LONGEST_LINE: u64 = 1 << 20;

/// A head and how its body is framed.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) asked: Asked,
    pub(super) keep_alive: bool,
    pub(super) expects_continue: bool,
    chunked: bool,
    length: usize,
}

#[derive(Debug)]
pub(super) struct Reader<'stream> {
    input: BufReader<&'stream TcpStream>,
}

impl<'stream> Reader<'stream> {
    pub(super) fn new(stream: &'stream TcpStream) -> Self {
        Self { input: BufReader::with_capacity(8 << 10, stream) }
    }

    /// The next request's head; `None` at an orderly end.
    pub(super) fn head(&mut self, ledger: &Ledger) -> io::Result<Option<Head>> {
        let Some((line, mut odd)) = self.line()? else { return Ok(None) };
        let mut words = line.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let version = if words.next() == Some("HTTP/1.0") { "1.0" } else { "1.1" };
        let mut asked =
            Asked { method: method.to_owned(), target: target.to_owned(), version, ..Asked::default() };
        odd |= words.next().is_some();
        odd |= self.fields(&mut asked.headers)?;
        let all = |name: &str| -> Vec<&str> {
            asked.headers.iter().filter(|(own, _)| own == name).map(|(_, value)| value.as_str()).collect()
        };
        let (lengths, codings, hosts) = (all("content-length"), all("transfer-encoding"), all("host"));
        odd |= lengths.len() + codings.len() > 1 || (version == "1.1" && hosts.len() != 1);
        odd |= lengths.iter().any(|text| text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()));
        odd |= codings.iter().any(|coding| !coding.eq_ignore_ascii_case("chunked"));
        if odd {
            ledger.ambiguous();
        }
        let length = lengths.first().and_then(|text| text.parse().ok()).unwrap_or(0);
        let connection = all("connection").join(",").to_ascii_lowercase();
        let keep_alive =
            if version == "1.0" { connection.contains("keep-alive") } else { !connection.contains("close") };
        let expects_continue =
            asked.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
        let chunked = !codings.is_empty();
        Ok(Some(Head { asked, keep_alive, expects_continue, chunked, length }))
    }

    /// The whole body, and the trailers.
    pub(super) fn body(&mut self, head: &mut Head) -> io::Result<()> {
        if !head.chunked {
            head.asked.body = vec![0; head.length];
            return self.input.read_exact(&mut head.asked.body);
        }
        loop {
            let (line, _) = self.line()?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let length = usize::from_str_radix(digits, 16).map_err(|_| io::ErrorKind::InvalidData)?;
            if length == 0 {
                self.fields(&mut head.asked.trailers)?;
                return Ok(());
            }
            let mut chunk = vec![0; length + 2];
            self.input.read_exact(&mut chunk)?;
            chunk.truncate(length);
            head.asked.body.append(&mut chunk);
        }
    }

    /// What was read beyond the head, for connections that switch to another protocol.
    pub(super) fn into_rest(self) -> Vec<u8> {
        self.input.buffer().to_vec()
    }

    /// Header lines up to the empty one; the answer is whether one was odd.
    fn fields(&mut self, into: &mut Vec<(String, String)>) -> io::Result<bool> {
        let mut odd = false;
        loop {
            let (line, odd_end) = self.line()?.ok_or(io::ErrorKind::UnexpectedEof)?;
            odd |= odd_end;
            if line.is_empty() {
                return Ok(odd);
            }
            match line.split_once(':') {
                Some((name, value)) => {
                    odd |= name.is_empty() || name.contains([' ', '\t']);
                    into.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
                }
                None => odd = true,
            }
        }
    }

    /// A line without its end, and whether that end or a control byte inside was odd. `None` at the end of the stream.
    fn line(&mut self) -> io::Result<Option<(String, bool)>> {
        let mut bytes = Vec::new();
        self.input.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut bytes)?;
        match bytes.as_slice() {
            [] => Ok(None),
            [text @ .., b'\r', b'\n'] => {
                Ok(Some((lossy(text), text.iter().any(|byte| *byte < 0x20 && *byte != b'\t'))))
            }
            [text @ .., b'\n'] => Ok(Some((lossy(text), true))),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
