//! What a connection that came in speaks, where policies have to read it. The first bytes are taken and put back, since a stream of a
//! tunnel may bring them in pieces that cannot be looked at together.

use std::{pin::pin, time::Duration};

use bytes::Bytes;

use super::{Guess, Spoke, server_spoke, taken};
use crate::{
    http1::Source,
    path::{connect::Far, http::io::WireSource},
};

/// How long a caller that has begun may take to say enough. What says too little is not HTTP, and is refused.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits for the caller's first bytes as long as it takes, unless the application speaks before it: then it is not HTTP.
pub async fn incoming(mut source: WireSource, far: &mut Far) -> (WireSource, Guess) {
    let mut ahead = Bytes::new();
    let guess = {
        let mut caller = pin!(taken::until_known(&mut ahead, PATIENCE, |context| source.poll_read(context)));
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
    (source.with_ahead(ahead), guess)
}
