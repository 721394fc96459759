//! Whether a client stands still within the head of a request. `h2` tells nobody of a head that it has not read whole, so that is seen
//! among the frames that come (RFC 9113, sections 4.1 and 6.2). Pure.

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
/// Bytes before the first frame (RFC 9113, section 3.4), and of a frame's own head.
const PREFACE: usize = 24;
const FRAME: usize = 9;

/// Where in what a client sends we are.
pub(super) struct Heads {
    /// Bytes that are still to come of the present payload, at first of the preface.
    payload: usize,
    /// What is known of the next frame's own head.
    frame: [u8; FRAME],
    known: usize,
    /// A head has begun.
    open: bool,
    /// The present payload is its end.
    ends: bool,
}

impl Heads {
    pub(super) fn new() -> Self {
        Self { payload: PREFACE, frame: [0; FRAME], known: 0, open: false, ends: false }
    }

    /// Goes on by these bytes.
    pub(super) fn pass(&mut self, mut data: &[u8]) {
        loop {
            let skipped = self.payload.min(data.len());
            self.payload -= skipped;
            if self.payload == 0 && self.ends {
                (self.open, self.ends) = (false, false);
            }
            let wanted = if self.payload > 0 { 0 } else { FRAME - self.known };
            let Some((_, rest)) = data.split_at_checked(skipped).filter(|(_, rest)| !rest.is_empty()) else {
                return;
            };
            let (now, rest) = rest.split_at(wanted.min(rest.len()));
            if let Some(place) = self.frame.get_mut(self.known..self.known + now.len()) {
                place.copy_from_slice(now);
            }
            self.known += now.len();
            data = rest;
            if self.known == FRAME {
                self.begin();
            }
        }
    }

    /// A frame's own head is whole.
    fn begin(&mut self) {
        let [high, middle, low, kind, flags, ..] = self.frame;
        self.known = 0;
        self.payload = u32::from_be_bytes([0, high, middle, low]) as usize;
        if matches!(kind, HEADERS | CONTINUATION) {
            (self.open, self.ends) = (true, flags & END_HEADERS != 0);
        }
    }

    /// Whether a head has begun and is not whole, or a frame that may be one.
    pub(super) fn is_within(&self) -> bool {
        self.open || self.known > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 7], payload].concat()
    }

    fn within(pieces: &[Vec<u8>]) -> bool {
        let mut heads = Heads::new();
        heads.pass(&[0; PREFACE]);
        pieces.iter().for_each(|piece| heads.pass(piece));
        heads.is_within()
    }

    #[test]
    fn only_heads_are_waited_for() {
        let settings = frame(4, 0, &[]);
        let head = frame(HEADERS, END_HEADERS, b"head");
        let cut = |frame: &[u8]| frame.split_last().map(|(_, all)| all.to_vec()).unwrap_or_default();
        let table = [
            (vec![], false),
            (vec![settings.clone()], false),
            (vec![cut(&settings)], true),
            (vec![settings.clone(), head.clone()], false),
            (vec![cut(&head)], true),
            (vec![frame(HEADERS, 0, b"head")], true),
            (vec![frame(HEADERS, 0, b"he"), frame(CONTINUATION, 0, b"ad")], true),
            (vec![frame(HEADERS, 0, b"he"), frame(CONTINUATION, END_HEADERS, b"ad")], false),
            (vec![frame(HEADERS, END_HEADERS, b""), settings], false),
            (vec![head.clone(), cut(&frame(0, 0, b"body"))], false),
            (vec![head.clone(), frame(0, 0, b"body"), cut(&head)], true),
        ];
        for (pieces, expected) in table {
            assert_eq!(within(&pieces), expected, "{pieces:?}");
        }
        assert!(!Heads::new().is_within(), "the preface is for who looks what is spoken");
    }

    proptest! {
        #[test]
        fn however_they_are_cut(kinds in proptest::collection::vec(0_u8..10, 0..20), size in 1_usize..40, last in any::<bool>()) {
            let frames = kinds.iter().map(|kind| frame(*kind, END_HEADERS, &vec![*kind; usize::from(*kind) * 9]));
            let end = if last { vec![] } else { frame(HEADERS, 0, b"x") };
            let bytes = frames.chain([end]).collect::<Vec<_>>().concat();
            let pieces: Vec<Vec<u8>> = bytes.chunks(size).map(<[u8]>::to_vec).collect();
            prop_assert_eq!(within(&pieces), !last);
        }
    }
}
