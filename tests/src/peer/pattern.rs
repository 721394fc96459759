//! Bytes that both ends can compute from a seed, and their hash. Pure.

/// A stream of bytes from a seed (xorshift64*), with a hash over all that was produced.
#[derive(Debug, Clone)]
pub struct Pattern(u64);

impl Pattern {
    /// Starts at a seed; 0 counts as 1.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// Fills the whole of `buffer`, whose length is a multiple of 8.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_exact_mut(8) {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            chunk.copy_from_slice(&self.0.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
        }
    }
}

/// A hash over a stream that does not depend on how the stream was cut.
#[derive(Debug, Clone, Default)]
pub struct Hash {
    state: u64,
    part: Vec<u8>,
}

impl Hash {
    /// Adds bytes.
    pub fn add(&mut self, mut bytes: &[u8]) {
        if !self.part.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(8 - self.part.len()));
            self.part.extend_from_slice(now);
            bytes = later;
            if self.part.len() < 8 {
                return;
            }
            let whole = std::mem::take(&mut self.part);
            self.words(&whole);
        }
        let rest = bytes.len() % 8;
        let (words, rest) = bytes.split_at(bytes.len() - rest);
        self.words(words);
        self.part.extend_from_slice(rest);
    }

    fn words(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks_exact(8) {
            let word = chunk.try_into().map(u64::from_le_bytes).unwrap_or_default();
            self.state = (self.state.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
    }

    /// The hash of all bytes added.
    #[must_use]
    pub fn value(&self) -> String {
        let mut last = self.clone();
        last.part.clear();
        let mut tail = [0_u8; 16];
        tail.iter_mut().zip(&self.part).for_each(|(to, from)| *to = *from);
        tail[8] = self.part.len() as u8;
        last.words(&tail);
        format!("{:016x}", last.state)
    }
}

/// Hash of the first `length` bytes of the pattern of `seed`.
#[must_use]
pub fn expected(seed: u64, length: u64) -> String {
    let (mut pattern, mut hash) = (Pattern::new(seed), Hash::default());
    let mut buffer = vec![0_u8; 1 << 16];
    let mut left = length;
    while left > 0 {
        pattern.fill(&mut buffer);
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        hash.add(buffer.get(..take).unwrap_or_default());
        left -= take as u64;
    }
    hash.value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_does_not_depend_on_cuts() {
        let mut bytes = vec![0_u8; 4096];
        Pattern::new(7).fill(&mut bytes);
        let mut whole = Hash::default();
        whole.add(&bytes[..4001]);
        for step in [1, 3, 8, 13, 1000] {
            let mut parts = Hash::default();
            bytes[..4001].chunks(step).for_each(|part| parts.add(part));
            assert_eq!(parts.value(), whole.value(), "{step}");
        }
        assert_eq!(expected(7, 4001), whole.value());
        assert_ne!(expected(7, 4000), whole.value());
        assert_ne!(expected(8, 4001), whole.value());
    }
}
