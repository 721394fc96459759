//! What was taken out of a tunnel and cannot be passed on yet. Pure.
//!
//! Left in the tunnel, each frame would cost what is noted of it as well (`Settings::small_frames`), and small messages to few readers that
//! stopped would be too many for the tunnel, which ends then with all that it carries. Here small ones lie together. The window is not
//! given back before bytes are passed on, so it bounds what lies here.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// A piece below this costs more for what is noted of it than for its bytes.
const SMALL: usize = 256;

/// Pieces in their order.
#[derive(Default)]
pub(super) struct Ahead {
    pieces: VecDeque<Bytes>,
    /// Small ones, behind all others.
    gathered: BytesMut,
}

impl Ahead {
    pub(super) fn put(&mut self, piece: Bytes) {
        if piece.len() < SMALL {
            self.gathered.extend_from_slice(&piece);
            return;
        }
        if !self.gathered.is_empty() {
            self.pieces.push_back(self.gathered.split().freeze());
        }
        self.pieces.push_back(piece);
    }

    /// The next one; empty where there is none.
    pub(super) fn take(&mut self) -> Bytes {
        self.pieces.pop_front().unwrap_or_else(|| std::mem::take(&mut self.gathered).freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_lie_together_and_all_keep_their_order() {
        let mut ahead = Ahead::default();
        let large = Bytes::from(vec![b'x'; SMALL]);
        for piece in ["a", "b"] {
            ahead.put(piece.into());
        }
        ahead.put(large.clone());
        for piece in ["c", "d"] {
            ahead.put(piece.into());
        }
        let taken: Vec<Bytes> =
            std::iter::from_fn(|| Some(ahead.take()).filter(|piece| !piece.is_empty())).collect();
        assert_eq!(taken, [Bytes::from("ab"), large, Bytes::from("cd")]);
        ahead.put("e".into());
        assert_eq!((ahead.take(), ahead.take()), (Bytes::from("e"), Bytes::new()));
    }
}
