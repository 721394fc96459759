//! Pieces that were taken out before their reader asked for them. Pure.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// A piece below this costs more for what is noted of it than for its bytes.
const SMALL: usize = 256;
/// How many bytes of small pieces lie together.
const GATHERED: usize = 16 << 10;

/// Pieces in their order.
#[derive(Default)]
pub(super) struct Ahead {
    pieces: VecDeque<Bytes>,
    /// Small ones, behind all others.
    gathered: BytesMut,
}

impl Ahead {
    pub(super) fn put(&mut self, piece: Bytes) {
        let small = piece.len() < SMALL;
        if !self.gathered.is_empty() && (!small || self.gathered.len() + piece.len() > GATHERED) {
            self.pieces.push_back(self.gathered.split().freeze());
        }
        if small {
            self.gathered.extend_from_slice(&piece);
        } else {
            self.pieces.push_back(piece);
        }
    }

    /// The next one; empty where there is none.
    pub(super) fn take(&mut self) -> Bytes {
        self.pieces.pop_front().unwrap_or_else(|| std::mem::take(&mut self.gathered).freeze())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.gathered.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(ahead: &mut Ahead) -> Vec<Bytes> {
        std::iter::from_fn(|| Some(ahead.take()).filter(|piece| !piece.is_empty())).collect()
    }

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
        assert!(!ahead.is_empty());
        assert_eq!(all(&mut ahead), [Bytes::from("ab"), large, Bytes::from("cd")]);
        assert!(ahead.is_empty());
        ahead.put("e".into());
        assert_eq!((ahead.take(), ahead.take()), (Bytes::from("e"), Bytes::new()));
    }

    #[test]
    fn not_all_that_is_small_is_one_piece() {
        let mut ahead = Ahead::default();
        let sent: Vec<u8> = (0..3 * GATHERED).map(|at| u8::try_from(at % 251).unwrap_or_default()).collect();
        sent.chunks(100).for_each(|piece| ahead.put(Bytes::copy_from_slice(piece)));
        let taken = all(&mut ahead);
        assert!(taken.len() == 4 && taken.iter().all(|piece| piece.len() <= GATHERED), "{}", taken.len());
        assert_eq!(taken.concat(), sent);
    }
}
