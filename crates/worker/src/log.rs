//! The log of one invocation, up to a limit.

/// Collects output up to a limit and counts the bytes beyond it.
#[derive(Debug)]
pub(crate) struct Log {
    text: Vec<u8>,
    limit: usize,
    dropped: u64,
}

impl Log {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            text: Vec::new(),
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            dropped: 0,
        }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let free = self.limit - self.text.len();
        let kept = bytes.len().min(free);
        self.text.extend_from_slice(&bytes[..kept]);
        self.dropped += (bytes.len() - kept) as u64;
    }

    /// Returns whether further output is only counted.
    pub(crate) fn is_full(&self) -> bool {
        self.text.len() == self.limit
    }

    /// Returns the text, with a note if it was truncated.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        if self.dropped > 0 {
            let note = format!(
                "\n[log truncated: {} bytes over the limit of {}]\n",
                self.dropped, self.limit
            );
            self.text.extend_from_slice(note.as_bytes());
        }
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_over_the_limit_is_truncated_and_counted() {
        let mut log = Log::new(4);
        log.push(b"abc");
        assert!(!log.is_full());
        log.push(b"def");
        assert!(log.is_full());
        assert_eq!(
            log.finish(),
            b"abcd\n[log truncated: 2 bytes over the limit of 4]\n"
        );
    }
}
