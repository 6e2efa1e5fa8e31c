//! Frames to and from a guest, see [`sandbox::wire`]. Everything read here is a guest's and not trusted.

use std::io;

use sandbox::wire::{self, Kind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A frame from a guest.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A status and what came with it.
    Answer { status: u16, body: Vec<u8> },
    /// More bytes than allowed were announced; they were not read.
    TooLarge,
}

/// Builds the frame of an invocation.
pub(crate) fn invoke(context: &[u8], event: &[u8]) -> Vec<u8> {
    let length = 4 + context.len() + event.len();
    let mut frame = Vec::with_capacity(wire::HEADER + length);
    frame.extend_from_slice(&wire::header(Kind::Invoke, length));
    frame.extend_from_slice(&(context.len() as u32).to_le_bytes());
    frame.extend_from_slice(context);
    frame.extend_from_slice(event);
    frame
}

/// Writes a whole frame.
pub(crate) async fn write(
    socket: &mut (impl AsyncWriteExt + Unpin),
    frame: &[u8],
) -> io::Result<()> {
    socket.write_all(frame).await
}

/// Reads one frame of the expected kind, its body at most `limit` bytes.
pub(crate) async fn read(
    socket: &mut (impl AsyncReadExt + Unpin),
    expected: Kind,
    limit: usize,
) -> io::Result<Incoming> {
    let mut head = [0; wire::HEADER + 2];
    socket.read_exact(&mut head).await?;
    let (header, status) = head.split_at(wire::HEADER);
    let header: &[u8; wire::HEADER] = header.try_into().map_err(io::Error::other)?;
    let (kind, length) = wire::parse_header(header);
    if kind != Some(expected) || length < 2 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "not the frame that was due",
        ));
    }
    if length - 2 > limit {
        return Ok(Incoming::TooLarge);
    }
    let mut body = vec![0; length - 2];
    socket.read_exact(&mut body).await?;
    Ok(Incoming::Answer {
        status: u16::from_le_bytes([status[0], status[1]]),
        body,
    })
}
