//! Takes what a client says first, as much as each read gives. A client that has said nothing costs no buffer.

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::time::timeout;

use super::{Guess, classify, first::WINDOW};

/// Takes with `read` into `ahead` until it is known what the client speaks. Waits for the first bytes as long as it takes, for more
/// of them as long as `patience`. `Other` also where the client ends or breaks first, `More` where it falls silent in the middle of a word.
pub(super) async fn until_known(
    ahead: &mut Bytes,
    patience: Duration,
    mut read: impl FnMut(&mut Context<'_>) -> Poll<io::Result<Bytes>>,
) -> Guess {
    loop {
        let more = poll_fn(&mut read);
        let data = if ahead.is_empty() {
            more.await
        } else {
            match timeout(patience, more).await {
                Ok(data) => data,
                Err(_) => return Guess::More,
            }
        };
        match data {
            Ok(data) if !data.is_empty() => *ahead = joined(std::mem::take(ahead), data),
            _ => return Guess::Other,
        }
        match classify(ahead) {
            Guess::More if ahead.len() < WINDOW => {}
            guess => return guess,
        }
    }
}

fn joined(first: Bytes, more: Bytes) -> Bytes {
    if first.is_empty() {
        return more;
    }
    let mut all = BytesMut::from(first);
    all.extend_from_slice(&more);
    all.freeze()
}
