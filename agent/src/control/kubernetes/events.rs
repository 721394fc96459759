//! The events of one watch, line by line. kube's own reader does not look at the status of the answer, so that a kind that is not
//! installed (404, in plain text) would read like a broken line.

use bytes::BytesMut;
use http_body_util::BodyExt;
use kube::{
    Client,
    client::Body,
    core::{Status, WatchEvent},
};

use super::{
    seen::Seen,
    stream::{Trouble, whole},
};

/// See the head of this file.
pub(super) struct Events {
    body: Body,
    /// What came and is not yet a whole line.
    rest: BytesMut,
    /// So much of it holds no line's end.
    searched: usize,
}

impl Events {
    /// Sends the request; an answer that is none is what the server said.
    pub(super) async fn open(client: &Client, request: http::Request<Vec<u8>>) -> Result<Self, Trouble> {
        let answer = client.send(request.map(Body::from)).await?;
        let status = answer.status();
        let body = answer.into_body();
        if status.is_success() {
            return Ok(Self { body, rest: BytesMut::new(), searched: 0 });
        }
        let said = body.collect_bytes().await?;
        Err(Trouble::Status(Box::new(refusal(status.as_u16(), &said))))
    }

    /// The next event; `None` where the server ended the watch.
    pub(super) async fn next(&mut self) -> Result<Option<WatchEvent<Seen>>, Trouble> {
        loop {
            if let Some(line) = self.line() {
                let event = serde_json::from_slice(&line);
                return event.map(Some).map_err(|error| Trouble::Way(format!("it sent no event: {error}")));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    let frame = frame.map_err(|error| Trouble::Way(whole(&error)))?;
                    self.rest.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
                }
            }
        }
    }

    fn line(&mut self) -> Option<BytesMut> {
        let new = self.rest.get(self.searched..).unwrap_or_default();
        let Some(end) = memchr::memchr(b'\n', new) else {
            self.searched = self.rest.len();
            return None;
        };
        let line = self.rest.split_to(self.searched + end + 1);
        self.searched = 0;
        Some(line)
    }
}

/// What the server said, in its own form where it has it.
fn refusal(code: u16, said: &[u8]) -> Status {
    let status: Option<Status> = serde_json::from_slice(said).ok();
    let words = String::from_utf8_lossy(said);
    let made = || Status::failure(words.trim(), "").with_code(code);
    status.filter(|status| status.code == code).unwrap_or_else(made)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_refusal_is_told_by_its_status_whatever_is_in_it() {
        let table: [(u16, &str, &str); 4] = [
            (404, "404 page not found\n", "404 page not found"),
            (
                403,
                r#"{"kind":"Status","status":"Failure","message":"pods is forbidden","code":403}"#,
                "pods is forbidden",
            ),
            (502, "", ""),
            (500, r#"{"code":"none"}"#, r#"{"code":"none"}"#),
        ];
        for (code, said, message) in table {
            let status = refusal(code, said.as_bytes());
            assert_eq!((status.code, status.message.as_str()), (code, message));
        }
    }

    #[tokio::test]
    async fn events_are_whole_lines_however_they_are_cut() {
        let line = r#"{"type":"ADDED","object":{"metadata":{"name":"a"}}}"#;
        let text = format!("{line}\n{line}\n{{\"type\":\"ADD");
        let mut events = Events { body: Body::from(Vec::new()), rest: BytesMut::new(), searched: 0 };
        let mut count = 0;
        for byte in text.bytes() {
            events.rest.extend_from_slice(&[byte]);
            while let Some(whole) = events.line() {
                assert_eq!(whole.as_ref(), format!("{line}\n").as_bytes());
                count += 1;
            }
        }
        assert_eq!(count, 2);
        assert!(events.next().await.unwrap().is_none(), "what was cut off is no event");
    }
}
