//! Protocol between virga and a guest: frames with a kind, a length and a payload.
//!
//! The assignment is sent over the socket of a pre-warmed sandbox, together with the ends of two pipes. The guest reads
//! requests from one ([`REQUESTS`]) and writes answers to the other ([`ANSWERS`]); the socket is then closed. A pipe is
//! cheaper than a socket on both sides, for every request.
//!
//! Each runtime implements the guest's side in its own language, so the protocol is kept simple.

/// Length of a frame's header: payload length (u32, little-endian), kind, three zero bytes.
pub const HEADER: usize = 8;

/// Index of the header byte that is 1 if the last mount of an assignment is its `/tmp`.
pub const WITH_TMP: usize = 5;

/// Descriptor that a guest reads from.
pub const REQUESTS: i32 = 3;
/// Descriptor that a guest writes to.
pub const ANSWERS: i32 = 4;

/// Maximum payload of an assignment (configuration and environment), bytes.
pub const ASSIGN_MAX: usize = 256 << 10;

/// Kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// To the guest, first: the assignment of a function. JSON, with the guest's ends of its pipes and the mounts of
    /// the code.
    Assign = 1,
    /// To the guest: a request. Its id (16 bytes), then the event as JSON.
    Invoke = 2,
    /// Like [`Self::Assign`], for a function without network except loopback.
    AssignOffline = 3,
    /// From the guest: the handler was loaded, or failed to load. A status (u16, little-endian), then JSON.
    Ready = 16,
    /// From the guest: the answer to a request. A status (u16, little-endian), the request's id (16 bytes), then JSON.
    Answer = 17,
}

impl Kind {
    /// Decodes a kind.
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

/// Encodes a frame's header. Callers bound the payload far below 4 GiB.
pub fn header(kind: Kind, length: usize) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&(length as u32).to_le_bytes());
    header[4] = kind as u8;
    header
}

/// Decodes a frame's header: the kind, if it is known, and the payload's length.
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
