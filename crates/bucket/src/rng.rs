//! Reproducible random inputs for tests.

/// A seeded generator (xorshift).
#[derive(Debug)]
pub(crate) struct TestRng(u64);

impl TestRng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }

    pub(crate) fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    /// Returns up to `most` characters of an alphabet.
    pub(crate) fn text(&mut self, most: usize, of: &str) -> String {
        let letters: Vec<char> = of.chars().collect();
        (0..self.below(most + 1))
            .map(|_| letters[self.below(letters.len())])
            .collect()
    }

    /// Returns up to `most` bytes.
    pub(crate) fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1))
            .map(|_| self.below(256) as u8)
            .collect()
    }

    /// Returns a copy with a few bytes changed, removed, repeated or cut off.
    pub(crate) fn mutated(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            let end = (at + self.below(20)).min(bytes.len());
            match self.below(5) {
                0 if at < bytes.len() => bytes[at] = self.below(256) as u8,
                1 => drop(bytes.drain(at..end)),
                2 => {
                    let piece = bytes[at..end].to_vec();
                    bytes.splice(at..at, piece);
                }
                3 => bytes.truncate(end),
                _ => bytes.insert(at, b"\0\r\n%=&;\"{}[]-,/"[self.below(15)]),
            }
        }
        bytes
    }

    /// Returns a copy with a few characters changed.
    pub(crate) fn mutated_text(&mut self, text: &str) -> String {
        String::from_utf8_lossy(&self.mutated(text.as_bytes())).into_owned()
    }

    /// Splits bytes into pieces of random length.
    pub(crate) fn pieces(&mut self, bytes: &[u8], most: usize) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let (piece, others) = rest.split_at(1 + self.below(most.min(rest.len())));
            pieces.push(piece.to_vec());
            rest = others;
        }
        pieces
    }
}
