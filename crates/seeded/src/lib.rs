//! Random inputs of tests. The same seed gives the same numbers on every machine, so a failing run can be repeated.
//!
//! The crate is a dependency of tests alone.
#![forbid(unsafe_code)]

/// A xorshift generator.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts the sequence of a seed. Neighbouring seeds have unlike sequences.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Returns the next number.
    pub fn next_number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Returns a number below `n`; 0 if `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next_number() % n.max(1)
    }

    /// Returns an index below `n`; 0 if `n` is 0.
    pub fn index(&mut self, n: usize) -> usize {
        self.below(n as u64) as usize
    }

    /// Returns true once in `n` times on average.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Returns one of these values.
    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.index(all.len())]
    }

    /// Returns up to `most` characters of an alphabet.
    pub fn text(&mut self, most: usize, of: &str) -> String {
        let letters: Vec<char> = of.chars().collect();
        (0..self.index(most + 1))
            .map(|_| letters[self.index(letters.len())])
            .collect()
    }

    /// Returns up to `most` bytes.
    pub fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.index(most + 1))
            .map(|_| self.index(256) as u8)
            .collect()
    }

    /// Returns a copy with a few bytes changed, removed, repeated or cut off.
    pub fn mutated(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.index(3) {
            let at = self.index(bytes.len());
            let end = (at + self.index(20)).min(bytes.len());
            match self.index(5) {
                0 if at < bytes.len() => bytes[at] = self.index(256) as u8,
                1 => drop(bytes.drain(at..end)),
                2 => {
                    let piece = bytes[at..end].to_vec();
                    bytes.splice(at..at, piece);
                }
                3 => bytes.truncate(end),
                _ => bytes.insert(at, b"\0\r\n%=&;\"{}[]-,/"[self.index(15)]),
            }
        }
        bytes
    }

    /// Returns a copy with a few characters changed.
    pub fn mutated_text(&mut self, text: &str) -> String {
        String::from_utf8_lossy(&self.mutated(text.as_bytes())).into_owned()
    }

    /// Splits bytes into pieces of random length.
    pub fn pieces(&mut self, bytes: &[u8], most: usize) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let (piece, others) = rest.split_at(1 + self.index(most.min(rest.len())));
            pieces.push(piece.to_vec());
            rest = others;
        }
        pieces
    }
}
