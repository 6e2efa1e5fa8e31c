//! The bytes of a record: a header, and the commands of a batch or a [`Control`].

use std::fmt;

use bytes::{Buf, BufMut, Bytes};
use seal::{SealError, Seals};
use thiserror::Error;

use crate::control::Control;
use crate::time::Time;

/// Maximum size of a record (bytes). NATS takes messages of 1 MB unless it is configured otherwise.
pub const MAX_RECORD: usize = 512 * 1024;

/// The format of a record of commands.
const COMMANDS: u8 = 1;
/// The format of a record with a control.
const CONTROL: u8 = 2;
/// Is added to the format of a record whose contents are encrypted.
const SEALED: u8 = 0x80;
/// Bytes of a header, with the format before it.
const HEADER: usize = 1 + 16 + 8 + 8 + 8;

/// A process that appends records: random, made anew at each start.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WriterId(pub [u8; 16]);

impl WriterId {
    /// Draws one.
    ///
    /// # Errors
    /// Fails if the system has no random numbers.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }
}

impl fmt::Debug for WriterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Describes a batch of commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The writer.
    pub writer: WriterId,
    /// The record's number, consecutive for its writer, from 1.
    pub number: u64,
    /// The lowest number that the writer waited for when it made this record.
    pub base: u64,
    /// The writer's clock.
    pub time: Time,
}

impl Header {
    /// Reads the header of a record, encrypted or not, and leaves the contents.
    ///
    /// # Errors
    /// Fails if the bytes are no record, or one of a later format.
    pub fn decode(bytes: &mut Bytes) -> Result<Self, RecordError> {
        let format = *bytes.first().ok_or(RecordError::Truncated)?;
        if !matches!(format & !SEALED, COMMANDS | CONTROL) {
            return Err(RecordError::Format(format));
        }
        if bytes.len() < HEADER {
            return Err(RecordError::Truncated);
        }
        bytes.advance(1);
        let mut writer = [0; 16];
        bytes.copy_to_slice(&mut writer);
        Ok(Self {
            writer: WriterId(writer),
            number: bytes.get_u64_le(),
            base: bytes.get_u64_le(),
            time: Time(bytes.get_u64_le()),
        })
    }

    fn encode(&self, format: u8, bytes: &mut Vec<u8>) {
        bytes.put_u8(format);
        bytes.put_slice(&self.writer.0);
        bytes.put_u64_le(self.number);
        bytes.put_u64_le(self.base);
        bytes.put_u64_le(self.time.0);
    }
}

/// A record as it was read.
#[derive(Clone, Debug)]
pub struct Record {
    /// The header.
    pub header: Header,
    /// What it has.
    pub contents: Contents,
}

/// The contents of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// The stored forms of commands.
    Commands(Vec<Bytes>),
    /// A message between replicas.
    Control(Control),
}

impl Record {
    /// Returns the bytes of a record with some commands.
    pub fn encode(header: &Header, commands: &[Vec<u8>]) -> Bytes {
        let size = HEADER
            + commands
                .iter()
                .map(|command| framed(command.len()))
                .sum::<usize>();
        let mut bytes = Vec::with_capacity(size);
        header.encode(COMMANDS, &mut bytes);
        for command in commands {
            bytes.put_u32_le(command.len() as u32);
            bytes.put_slice(command);
        }
        bytes.into()
    }

    /// Returns the bytes of a record with a control.
    pub fn encode_control(header: &Header, control: &Control) -> Bytes {
        let mut bytes = Vec::new();
        header.encode(CONTROL, &mut bytes);
        bytes.extend(control.encode());
        bytes.into()
    }

    /// Reads a record.
    ///
    /// # Errors
    /// Fails if the bytes are no record, one of a later format, or one that is encrypted.
    pub fn decode(mut bytes: Bytes) -> Result<Self, RecordError> {
        let format = bytes.first().copied().unwrap_or_default();
        let header = Header::decode(&mut bytes)?;
        let contents = match format {
            COMMANDS => Contents::Commands(Self::commands(bytes)?),
            CONTROL => Contents::Control(Control::decode(&bytes).map_err(RecordError::Control)?),
            _ => return Err(RecordError::Sealed),
        };
        Ok(Self { header, contents })
    }

    fn commands(mut bytes: Bytes) -> Result<Vec<Bytes>, RecordError> {
        let mut commands = Vec::new();
        while bytes.has_remaining() {
            let length = bytes.try_get_u32_le().map_err(|_| RecordError::Truncated)? as usize;
            if bytes.len() < length {
                return Err(RecordError::Truncated);
            }
            commands.push(bytes.split_to(length));
        }
        Ok(commands)
    }
}

/// Encrypts the contents of a record. The header stays as it is, and is the cipher's associated data with `context`.
pub(crate) fn seal(seals: &Seals, context: &str, record: &[u8]) -> Result<Bytes, SealError> {
    let (header, contents) = record.split_at_checked(HEADER).ok_or(SealError::Damaged)?;
    let mut sealed = header.to_vec();
    sealed[0] |= SEALED;
    let contents = seals.wrap(&associated(context, &sealed), contents)?;
    sealed.extend(contents);
    Ok(sealed.into())
}

/// Decrypts what [`seal`] returned for the same context.
pub(crate) fn unseal(seals: &Seals, context: &str, record: &[u8]) -> Result<Bytes, SealError> {
    let (header, contents) = record.split_at_checked(HEADER).ok_or(SealError::Damaged)?;
    if header[0] & SEALED == 0 {
        return Err(SealError::Plain);
    }
    let contents = seals.unwrap(&associated(context, header), contents)?;
    let mut plain = header.to_vec();
    plain[0] &= !SEALED;
    plain.extend(contents);
    Ok(plain.into())
}

fn associated(context: &str, header: &[u8]) -> Vec<u8> {
    [context.as_bytes(), &[0], header].concat()
}

/// Returns the bytes that a command takes in a record.
pub(crate) fn framed(command: usize) -> usize {
    command + 4
}

/// Returns the bytes that are there for commands in a record.
pub(crate) const fn capacity() -> usize {
    MAX_RECORD - HEADER
}

/// Why bytes are not a record.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RecordError {
    /// They end too early.
    #[error("a record is cut short")]
    Truncated,
    /// The record was written by a later version.
    #[error(
        "a record has format {0}, which this version does not read (it reads {COMMANDS} and {CONTROL}); update this node"
    )]
    Format(u8),
    /// The record is encrypted.
    #[error(
        "a record is encrypted, and this node has no master key; give it the key of the other nodes"
    )]
    Sealed,
    /// The control cannot be read.
    #[error("a control record cannot be read ({0}); update this node")]
    Control(String),
    /// The machine cannot read a command.
    #[error("a command of record {number} of writer {writer:?} cannot be read: {reason}")]
    Command {
        /// The writer.
        writer: WriterId,
        /// The record's number.
        number: u64,
        /// Why.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use seeded::Random;

    use super::*;

    fn header() -> Header {
        Header {
            writer: WriterId([7; 16]),
            number: 3,
            base: 2,
            time: Time(5),
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let commands = [b"one".to_vec(), Vec::new(), vec![0; 100_000]];
        let bytes = Record::encode(&header(), &commands);
        assert_eq!(
            bytes.len(),
            HEADER
                + commands
                    .iter()
                    .map(|command| framed(command.len()))
                    .sum::<usize>()
        );
        let record = Record::decode(bytes).unwrap();
        assert_eq!(record.header, header());
        let commands = commands.map(Bytes::from);
        assert_eq!(record.contents, Contents::Commands(commands.to_vec()));
    }

    #[test]
    fn whatever_bytes_a_log_has_are_read_or_refused() {
        let mut random = Random::new(1);
        let (control, commands) = (Control::Founded, [b"one".to_vec(), Vec::new()]);
        let records = [
            Record::encode(&header(), &commands),
            Record::encode_control(&header(), &control),
        ];
        let key = seal::Key {
            id: "key".to_owned(),
            bytes: [1; 32],
        };
        let seals = Seals::new(key, []);
        for record in records {
            let sealed = seal(&seals, "log", &record).unwrap();
            assert_eq!(unseal(&seals, "log", &sealed).unwrap(), record);
            assert_eq!(
                Record::decode(sealed.clone()).unwrap_err(),
                RecordError::Sealed
            );
            for _ in 0..20_000 {
                let bytes = random.mutated(&record);
                if let Ok(read) = Record::decode(bytes.clone().into()) {
                    let again = match &read.contents {
                        Contents::Commands(commands) => {
                            let commands: Vec<_> = commands.iter().map(|c| c.to_vec()).collect();
                            Record::encode(&read.header, &commands)
                        }
                        Contents::Control(control) => Record::encode_control(&read.header, control),
                    };
                    let again = Record::decode(again).unwrap();
                    assert_eq!((again.header, again.contents), (read.header, read.contents));
                }
                let bytes = random.mutated(&sealed);
                let opened = unseal(&seals, "log", &bytes);
                assert!(opened.is_err() || bytes == sealed, "{bytes:?}");
            }
        }
    }

    #[test]
    fn every_cut_of_a_record_is_refused_or_a_record_of_fewer_commands() {
        let commands = [b"one".to_vec(), b"three".to_vec()];
        let bytes = Record::encode(&header(), &commands);
        let ends = [HEADER, HEADER + framed(3), bytes.len()];
        for length in 0..=bytes.len() {
            let read = Record::decode(bytes.slice(..length));
            assert_eq!(read.is_ok(), ends.contains(&length), "cut to {length}");
        }
        assert_eq!(
            Record::decode(Bytes::from_static(&[9, 0])).unwrap_err(),
            RecordError::Format(9)
        );
    }
}
