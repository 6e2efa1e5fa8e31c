//! Protocol between virga and a guest, version 2: frames with a length, a kind, a version and a payload. Numbers are
//! little-endian.
//!
//! The assignment is sent over the socket of a pre-warmed sandbox, together with three descriptors. The guest reads
//! requests from a pipe ([`REQUESTS`]) and writes answers to another ([`ANSWERS`]); the socket is then closed. A pipe is
//! cheaper than a socket on both sides, for every request.
//!
//! The third is the start mark ([`START_MARK`]), a file of [`MARK`] bytes in memory that both sides share. The guest
//! copies a request's sequence number into it just before the user's code gets the event, and virga reads it only after
//! the instance has ended without an answer: if the number is another, the event did not start, and another instance
//! can run it. An acknowledgement in a pipe would wake virga once more for every request.
//!
//! A request has metadata before its event (see [`Invoke`]). A guest ignores names in it that it does not know, so
//! metadata can be added without another version.
//!
//! Each runtime implements the guest's side in its own language, so the protocol is kept simple.

/// Version of the protocol. Both sides refuse a frame of another version.
pub const VERSION: u8 = 2;

/// Length of a frame's header: payload length (u32), kind, version, flags, a zero byte.
pub const HEADER: usize = 8;

/// Index of the flags in a header. They are 1 if the last mount of an assignment is its `/tmp`.
pub const WITH_TMP: usize = 6;

/// Descriptor that a guest reads from.
pub const REQUESTS: i32 = 3;
/// Descriptor that a guest writes to.
pub const ANSWERS: i32 = 4;
/// Descriptor of the start mark.
pub const START_MARK: i32 = 5;

/// Length of the start mark: a sequence number.
pub const MARK: usize = 8;

/// Maximum payload of an assignment (configuration and environment), bytes.
pub const ASSIGN_MAX: usize = 256 << 10;

/// Kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// To the guest, first: the assignment of a function. JSON, with the guest's ends of its pipes and the mounts of
    /// the code.
    Assign = 1,
    /// To the guest: a request, see [`Invoke`].
    Invoke = 2,
    /// Like [`Self::Assign`], for a function without a public network.
    AssignInternal = 3,
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
            Self::AssignInternal,
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
    header[5] = VERSION;
    header
}

/// Decodes a frame's header: the kind, if it is known and of this version, and the payload's length.
pub fn parse_header(header: &[u8; HEADER]) -> (Option<Kind>, usize) {
    let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    let kind = Kind::from_byte(header[4]).filter(|_| header[5] == VERSION);
    (kind, length as usize)
}

/// The payload of a request: these fields in this order, with the length of the metadata (u32) before the metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invoke<'a> {
    /// Request id.
    pub request: [u8; 16],
    /// Number of this request on its instance (u64), as the guest copies it into the start mark.
    pub sequence: [u8; MARK],
    /// When its time is up, ms since the Unix epoch.
    pub deadline_ms: u64,
    /// Number of earlier attempts (u32).
    pub attempt: u32,
    /// Further metadata: a JSON object.
    pub metadata: &'a [u8],
    /// The event as JSON.
    pub event: &'a [u8],
}

/// Length of the fields before the metadata.
const FIXED: usize = 16 + MARK + 8 + 4 + 4;

impl<'a> Invoke<'a> {
    /// Encodes the frame of a request, with metadata in several parts instead of its own. Callers bound them far below
    /// 4 GiB.
    pub fn frame(&self, metadata: &[&[u8]]) -> Vec<u8> {
        let named = metadata.iter().map(|part| part.len()).sum::<usize>();
        let length = FIXED + named + self.event.len();
        let mut frame = Vec::with_capacity(HEADER + length);
        frame.extend_from_slice(&header(Kind::Invoke, length));
        frame.extend_from_slice(&self.request);
        frame.extend_from_slice(&self.sequence);
        frame.extend_from_slice(&self.deadline_ms.to_le_bytes());
        frame.extend_from_slice(&self.attempt.to_le_bytes());
        frame.extend_from_slice(&(named as u32).to_le_bytes());
        metadata
            .iter()
            .for_each(|part| frame.extend_from_slice(part));
        frame.extend_from_slice(self.event);
        frame
    }

    /// Decodes a payload. Returns `None` if it is too short for its parts.
    pub fn parse(payload: &'a [u8]) -> Option<Self> {
        let (request, rest) = payload.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (deadline, rest) = rest.split_first_chunk()?;
        let (attempt, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (metadata, event) =
            rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        Some(Self {
            request: *request,
            sequence: *sequence,
            deadline_ms: u64::from_le_bytes(*deadline),
            attempt: u32::from_le_bytes(*attempt),
            metadata,
            event,
        })
    }
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
        assert_eq!(
            parse_header(&[1, 0, 0, 0, 99, VERSION, 0, 0]),
            (None, 1),
            "unknown kind"
        );
        let other = [1, 0, 0, 0, Kind::Answer as u8, VERSION - 1, 0, 0];
        assert_eq!(parse_header(&other), (None, 1), "other version");
    }

    #[test]
    fn requests_round_trip_and_truncated_ones_are_refused() {
        let invoke = Invoke {
            request: [7; 16],
            sequence: 3_u64.to_le_bytes(),
            deadline_ms: 1 << 40,
            attempt: 2,
            metadata: b"{\"a\":1}",
            event: b"[1,2]",
        };
        let (first, second) = invoke.metadata.split_at(3);
        let frame = invoke.frame(&[first, second]);
        let payload = &frame[HEADER..];
        assert_eq!(Invoke::parse(payload), Some(invoke));
        for length in 0..FIXED + invoke.metadata.len() {
            assert_eq!(Invoke::parse(&payload[..length]), None, "{length}");
        }
        let mut huge = payload.to_vec();
        huge[FIXED - 4..FIXED].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Invoke::parse(&huge), None);
    }
}
