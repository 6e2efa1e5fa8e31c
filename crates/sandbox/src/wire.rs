//! What virga and a guest say to each other: frames of a kind, a length and bytes.
//!
//! The assignment comes over a blank's socket, and with it the ends of two pipes. Of these the guest reads requests from one
//! ([`REQUESTS`]) and writes answers into the other ([`ANSWERS`]); it has the socket no more. A pipe takes less than a socket does, on
//! on both sides and with every request.
//!
//! The guest's side of this is written again in each runtime's own language, so it stays this plain.

/// Bytes before a frame's payload: the payload's length (u32, little-endian), the kind, three zeros.
pub const HEADER: usize = 8;

/// The byte of an assignment's header that is 1 where the last mount that comes along is its `/tmp`.
pub const WITH_TMP: usize = 5;

/// The descriptor that a guest reads from.
pub const REQUESTS: i32 = 3;
/// The descriptor that it writes to.
pub const ANSWERS: i32 = 4;

/// Largest payload of an assignment: configuration and environment.
pub const ASSIGN_MAX: usize = 256 << 10;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// To the guest, first: become this function's instance. JSON; carries the guest's ends of its pipes and the
    /// code's mount.
    Assign = 1,
    /// To the guest: run. The request's id (16 bytes), then the event as JSON.
    Invoke = 2,
    /// The same as [`Self::Assign`], for a function that has no network but its loopback.
    AssignOffline = 3,
    /// From the guest: the handler is loaded, or could not be. A status (u16, little-endian), then JSON.
    Ready = 16,
    /// From the guest: the answer. A status (u16, little-endian), the request's id (16 bytes), then JSON.
    Answer = 17,
}

impl Kind {
    /// Reads a kind.
    pub fn from_byte(byte: u8) -> Option<Self> {
        [
            Self::Assign,
            Self::Invoke,
            Self::AssignOffline,
            Self::Ready,
            Self::Answer,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// Builds a frame's header. Payloads stay far below 4 GiB; every caller has bounded them.
pub fn header(kind: Kind, length: usize) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&(length as u32).to_le_bytes());
    header[4] = kind as u8;
    header
}

/// Reads a frame's header: the kind, if it is a known one, and the payload's length.
pub fn parse_header(header: &[u8; HEADER]) -> (Option<Kind>, usize) {
    let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    (Kind::from_byte(header[4]), length as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trips() {
        assert_eq!(
            parse_header(&header(Kind::Answer, 6 << 20)),
            (Some(Kind::Answer), 6 << 20)
        );
        assert_eq!(parse_header(&[1, 0, 0, 0, 99, 0, 0, 0]), (None, 1));
    }
}
