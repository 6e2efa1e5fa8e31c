//! Frames to and from a guest, see [`sandbox::wire`]. Everything read here comes from a guest and is untrusted.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use sandbox::wire::{self, Kind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

/// Length of a header and the status after it.
const HEAD: usize = wire::HEADER + 2;
/// Bytes read at a time while a frame's length is unknown. Most frames are shorter.
const CHUNK: usize = 4096;

/// A frame from a guest.
#[derive(Debug)]
pub(crate) enum GuestFrame {
    /// A status and its body.
    Answer { status: u16, body: Vec<u8> },
    /// The guest announced more bytes than allowed. They were not read.
    TooLarge,
}

/// Virga's ends of a guest's pipes, and its start mark.
#[derive(Debug)]
pub(crate) struct Frames {
    requests: pipe::Sender,
    answers: pipe::Receiver,
    start_mark: File,
    /// Bytes read beyond the last frame.
    surplus: Vec<u8>,
    /// Sequence number of the last request.
    sequence: u64,
}

impl Frames {
    pub(crate) fn new(requests: OwnedFd, answers: OwnedFd, start_mark: File) -> io::Result<Self> {
        Ok(Self {
            requests: pipe::Sender::from_owned_fd(requests)?,
            answers: pipe::Receiver::from_owned_fd(answers)?,
            start_mark,
            surplus: Vec::new(),
            sequence: 0,
        })
    }

    /// Returns the sequence number of the next request.
    pub(crate) fn next_sequence(&mut self) -> [u8; wire::MARK] {
        self.sequence += 1;
        self.sequence.to_le_bytes()
    }

    /// Writes a whole frame.
    pub(crate) async fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        self.requests.write_all(frame).await
    }

    /// Returns whether the guest has started the last request. If it has ended and did not, another instance can run the
    /// event. A mark that cannot be read counts as a start, since no event may run twice.
    pub(crate) fn has_started(&self) -> bool {
        let mut mark = [0; wire::MARK];
        match self.start_mark.read_exact_at(&mut mark, 0) {
            Ok(()) => u64::from_le_bytes(mark) == self.sequence,
            Err(_) => true,
        }
    }

    /// Reads one frame of the expected kind, with a body of at most `limit` bytes.
    pub(crate) async fn read(&mut self, expected: Kind, limit: usize) -> io::Result<GuestFrame> {
        let mut frame = std::mem::take(&mut self.surplus);
        while frame.len() < HEAD {
            frame.reserve(CHUNK);
            if self.answers.read_buf(&mut frame).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let (kind, length) = match frame.first_chunk::<{ wire::HEADER }>() {
            Some(header) => wire::parse_header(header),
            None => (None, 0),
        };
        if kind != Some(expected) || length < 2 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "not the expected frame",
            ));
        }
        let (body, status) = (length - 2, [frame[wire::HEADER], frame[wire::HEADER + 1]]);
        if body > limit {
            return Ok(GuestFrame::TooLarge);
        }
        let status = u16::from_le_bytes(status);
        if frame.len() < HEAD + body {
            let body = self.read_rest(&frame[HEAD..], body).await?;
            return Ok(GuestFrame::Answer { status, body });
        }
        self.surplus = frame.split_off(HEAD + body);
        frame.drain(..HEAD);
        // The body may be kept for long, among many others.
        frame.shrink_to_fit();
        Ok(GuestFrame::Answer {
            status,
            body: frame,
        })
    }

    /// Reads the rest of a body that begins with `start`. Its memory is touched piece by piece as the body arrives.
    /// Clearing 5 MB at once blocks the other tasks of this thread for 7 ms, most of it page faults (2 cores, Linux 6.18).
    async fn read_rest(&mut self, start: &[u8], length: usize) -> io::Result<Vec<u8>> {
        let mut body = Vec::with_capacity(length);
        body.extend_from_slice(start);
        let mut rest = (&mut self.answers).take((length - start.len()) as u64);
        while body.len() < length {
            if rest.read_buf(&mut body).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};

    use super::*;

    /// Returns a guest's ends (requests, answers) and virga's.
    fn pipes() -> (File, File, Frames) {
        let pipe = || sandbox::close_on_exec_pipe().expect("a pipe");
        let ((requests, ours), (answers, theirs)) = (pipe(), pipe());
        let mark = sandbox::start_mark().expect("a file");
        let frames = Frames::new(ours, answers, mark).expect("watched");
        (requests.into(), theirs.into(), frames)
    }

    fn answer(status: u16, body: &[u8]) -> Vec<u8> {
        let mut frame = wire::header(Kind::Answer, 2 + body.len()).to_vec();
        frame.extend_from_slice(&status.to_le_bytes());
        frame.extend_from_slice(body);
        frame
    }

    async fn body(frames: &mut Frames) -> io::Result<Vec<u8>> {
        match frames.read(Kind::Answer, 1 << 20).await? {
            GuestFrame::Answer { status: 200, body } => Ok(body),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn frames_are_delimited_however_they_are_split() {
        let (_requests, mut guest, mut own) = pipes();
        let large = vec![7; 300_000];
        guest
            .write_all(&[answer(200, b"one"), answer(200, b""), answer(200, b"three")].concat())
            .expect("written");
        for expected in [b"one".as_slice(), b"", b"three"] {
            assert_eq!(body(&mut own).await.expect("a frame"), expected);
        }
        let piecemeal = answer(200, &large);
        let writer = std::thread::spawn(move || {
            for piece in [&piecemeal[..3], &piecemeal[3..9], &piecemeal[9..]] {
                guest.write_all(piece).expect("written");
            }
        });
        assert_eq!(body(&mut own).await.expect("a frame"), large);
        writer.join().expect("written");
        let end = body(&mut own).await.expect_err("the guest has gone");
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn unexpected_and_oversized_frames_are_refused() {
        let (_requests, mut guest, mut own) = pipes();
        guest.write_all(&answer(200, b"12345")).expect("written");
        let read = own.read(Kind::Answer, 4).await.expect("a header");
        assert!(matches!(read, GuestFrame::TooLarge), "{read:?}");
        guest.write_all(&answer(200, b"12345")).expect("written");
        let other = own.read(Kind::Ready, 99).await.expect_err("an answer");
        assert_eq!(other.kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn a_request_has_started_when_the_guest_has_copied_its_number() {
        let pipe = || sandbox::close_on_exec_pipe().expect("a pipe");
        let ((_requests, ours), (answers, _theirs)) = (pipe(), pipe());
        let mark = sandbox::start_mark().expect("a file");
        let guests = mark.try_clone().expect("a descriptor");
        let mut frames = Frames::new(ours, answers, mark).expect("watched");
        for _ in 0..3 {
            let number = frames.next_sequence();
            assert!(!frames.has_started());
            guests.write_all_at(&number, 0).expect("written");
            assert!(frames.has_started());
        }
        let full = guests.write_all_at(&[0; 2 * wire::MARK], 0);
        assert!(full.is_err(), "its size is fixed");
    }

    #[tokio::test]
    async fn a_frame_larger_than_the_pipe_waits_for_its_reader() {
        let (mut guest, _answers, mut own) = pipes();
        let frame = vec![3; 4 << 20];
        let reader = std::thread::spawn(move || {
            let mut got = vec![0; 4 << 20];
            guest.read_exact(&mut got).map(|()| got)
        });
        own.write(&frame).await.expect("written");
        assert_eq!(reader.join().expect("read").expect("all"), frame);
    }

    #[test]
    fn fuzzed_frames_are_read_within_their_limit_or_refused() {
        const LIMIT: usize = 1000;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        fuzzer::run("frame", 5000, |input| {
            // What a pipe holds without a reader.
            let input = &input[..input.len().min(16 << 10)];
            runtime.block_on(async {
                let (_requests, mut guest, mut own) = pipes();
                guest.write_all(input).expect("written");
                drop(guest);
                let mut found = Vec::new();
                let mut total = 0;
                for kind in [Kind::Ready, Kind::Answer].into_iter().cycle() {
                    match own.read(kind, LIMIT).await {
                        Ok(GuestFrame::Answer { status, body }) => {
                            assert!(body.len() <= LIMIT);
                            total += HEAD + body.len();
                            assert!(total <= input.len());
                            found.push((status / 100).to_string());
                        }
                        Ok(GuestFrame::TooLarge) => {
                            found.push("too large".to_owned());
                            break;
                        }
                        Err(refused) => {
                            found.push(refused.kind().to_string());
                            break;
                        }
                    }
                }
                found
            })
        });
    }
}
