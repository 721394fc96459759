//! What a connection that came in speaks, where policies have to read it. The first bytes are taken and put back, since a stream of a
//! tunnel may bring them in pieces that cannot be looked at together.

use std::{future::poll_fn, pin::pin, time::Duration};

use bytes::BytesMut;
use tokio::time::timeout;

use super::{Guess, Spoke, classify, first::WINDOW, server_spoke};
use crate::{
    http1::Source,
    path::{connect::Far, http::io::WireSource},
};

/// How long a caller that has begun may take to say enough. What says too little is not HTTP, and is refused.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits for the caller's first bytes as long as it takes, unless the application speaks before it: then it is not HTTP.
pub async fn incoming(mut source: WireSource, far: &mut Far) -> (WireSource, Guess) {
    let mut ahead = BytesMut::new();
    let guess = {
        let mut caller = pin!(listen(&mut source, &mut ahead));
        let first = tokio::select! {
            biased;
            guess = &mut caller => Ok(guess),
            spoke = server_spoke(far) => Err(spoke),
        };
        match first {
            Ok(guess) => guess,
            // The caller's preface is still to come.
            Err(Spoke::Http2) => caller.await,
            Err(Spoke::Http1 | Spoke::Other | Spoke::Ended) => Guess::Other,
        }
    };
    (source.with_ahead(ahead.freeze()), guess)
}

async fn listen(source: &mut WireSource, ahead: &mut BytesMut) -> Guess {
    loop {
        let read = poll_fn(|context| source.poll_read(context));
        let read = if ahead.is_empty() { Ok(read.await) } else { timeout(PATIENCE, read).await };
        match read {
            Ok(Ok(data)) if !data.is_empty() => ahead.extend_from_slice(&data),
            // The end, a reset, or silence.
            _ => return Guess::Other,
        }
        match classify(ahead) {
            Guess::More if ahead.len() < WINDOW => {}
            guess => return guess,
        }
    }
}
