//! The write-ahead journal of usage entries, so that killing virga loses none.
//!
//! An entry is appended before its call is answered. It is not fsynced: the page cache survives the process. Entries are numbered,
//! and the ledger has the highest number of each journal that it includes. So after a kill exactly the entries beyond that are counted. Two files alternate: one is filled while the commits catch up with the other, which is then overwritten from its
//! start.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::entry::{JournalId, UsageEntry};

/// Size at which the journal switches to the other file, if that is free. This much is preallocated, so that a full disk seldom
/// matters.
const ROTATE_BYTES: u64 = 1 << 20;
/// Maximum size of a file. It is only reached when the ledger has not been written for long.
const MAX_BYTES: u64 = 64 << 20;
/// The two files.
const FILES: [&str; 2] = ["usage-0.journal", "usage-1.journal"];
/// The file with the journal's id. A node that is restored or copied must have neither it nor the two journals, or their entries would be
/// counted again.
const ID_FILE: &str = "usage.id";
const PAGE: usize = 4096;
/// Bytes of a record's header: length and checksum.
const HEADER_BYTES: usize = 8;

/// The two journal files and the position of the next entry.
#[derive(Debug)]
pub(crate) struct UsageJournal {
    id: JournalId,
    files: [JournalFile; 2],
    current: usize,
    /// Number of the last entry.
    last: u64,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct JournalFile {
    file: File,
    end: u64,
    /// Number of its last entry.
    last: u64,
}

impl UsageJournal {
    /// Returns the id of the journal in a directory. A directory without one gets one.
    ///
    /// # Errors
    /// The id's file cannot be read or written.
    pub(crate) fn id_of(directory: &Path) -> io::Result<JournalId> {
        let path = directory.join(ID_FILE);
        match fs::read(&path) {
            Ok(bytes) => {
                let bytes = bytes.try_into().map_err(|_| {
                    let message = format!(
                        "{} is damaged: it must have 16 bytes; remove it, and the two usage journals with it",
                        path.display()
                    );
                    io::Error::new(io::ErrorKind::InvalidData, message)
                })?;
                Ok(JournalId(bytes))
            }
            // Journals of an earlier version have no id, and the ledger knows them as this one.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let earlier = FILES.iter().any(|name| directory.join(name).exists());
                let id = if earlier {
                    [0; 16]
                } else {
                    *clock::new_request_id().as_bytes()
                };
                let new = directory.join(format!("{ID_FILE}.new"));
                fs::write(&new, id)?;
                fs::rename(&new, &path)?;
                Ok(JournalId(id))
            }
            Err(error) => Err(error),
        }
    }

    /// Opens or creates the files in a directory. Also returns the entries with numbers above `committed`, which the ledger lacks.
    ///
    /// # Errors
    /// The files cannot be created or read.
    pub(crate) fn open(
        directory: &Path,
        id: JournalId,
        committed: u64,
    ) -> io::Result<(Self, Vec<UsageEntry>)> {
        let mut uncommitted = Vec::new();
        let files = [
            JournalFile::open(&directory.join(FILES[0]), committed, &mut uncommitted)?,
            JournalFile::open(&directory.join(FILES[1]), committed, &mut uncommitted)?,
        ];
        let newest = files[0].last.max(files[1].last);
        let journal = Self {
            id,
            current: usize::from(files[1].last > files[0].last),
            files,
            last: newest.max(committed),
            buffer: Vec::new(),
        };
        Ok((journal, uncommitted))
    }

    pub(crate) fn id(&self) -> JournalId {
        self.id
    }

    /// Returns the entries with numbers above `committed`.
    ///
    /// # Errors
    /// The files cannot be read.
    pub(crate) fn after(&self, committed: u64) -> io::Result<Vec<UsageEntry>> {
        let mut entries = Vec::new();
        for part in &self.files {
            let mut bytes = vec![0; part.end as usize];
            part.file.read_exact_at(&mut bytes, 0)?;
            read(&bytes, committed, &mut entries);
        }
        Ok(entries)
    }

    /// Returns the number of the last entry.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// Appends an entry and returns its number. `committed` is the highest number that the ledger includes.
    ///
    /// # Errors
    /// The write failed; the journal is unchanged.
    pub(crate) fn append(&mut self, entry: &UsageEntry, committed: u64) -> io::Result<u64> {
        let other = 1 - self.current;
        if self.files[self.current].end >= ROTATE_BYTES && self.files[other].last <= committed {
            self.files[other].end = 0;
            self.current = other;
        }
        let part = &mut self.files[self.current];
        if part.end >= MAX_BYTES {
            let full = "the journal is full: the ledger has not been written for long";
            return Err(io::Error::new(io::ErrorKind::StorageFull, full));
        }
        let number = self.last + 1;
        self.buffer.clear();
        self.buffer.resize(HEADER_BYTES, 0);
        self.buffer.extend_from_slice(&number.to_le_bytes());
        serde_json::to_writer(&mut self.buffer, entry)?;
        let length = (self.buffer.len() - HEADER_BYTES) as u32;
        let sum = checksum(&self.buffer[HEADER_BYTES..]);
        self.buffer[..4].copy_from_slice(&length.to_le_bytes());
        self.buffer[4..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
        part.file.write_all_at(&self.buffer, part.end)?;
        part.end += self.buffer.len() as u64;
        part.last = number;
        self.last = number;
        Ok(number)
    }
}

impl JournalFile {
    fn open(path: &Path, committed: u64, uncommitted: &mut Vec<UsageEntry>) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let length = file.metadata()?.len();
        // Page by page: a single large write makes one large folio in the page cache, which every later append would walk.
        for at in (length..ROTATE_BYTES).step_by(PAGE) {
            let page = (ROTATE_BYTES - at).min(PAGE as u64) as usize;
            if file.write_all_at(&[0; PAGE][..page], at).is_err() {
                // The disk is full; appending may fail later.
                break;
            }
        }
        let mut bytes = Vec::new();
        file.by_ref().take(2 * MAX_BYTES).read_to_end(&mut bytes)?;
        let (end, last) = read(&bytes, committed, uncommitted);
        Ok(Self { file, end, last })
    }
}

/// Reads the records of a file. Adds the entries with numbers above `committed`, and returns where the records end and the number of the
/// last one.
fn read(bytes: &[u8], committed: u64, uncommitted: &mut Vec<UsageEntry>) -> (u64, u64) {
    let (mut end, mut last) = (0, 0);
    while let Some((number, entry, length)) = record(&bytes[end..]) {
        // Records left from before the last switch have lower numbers.
        if last != 0 && number != last + 1 {
            break;
        }
        if number > committed {
            uncommitted.push(entry);
        }
        last = number;
        end += length;
    }
    (end as u64, last)
}

/// Returns the CRC-32 of a record.
fn checksum(payload: &[u8]) -> u32 {
    crc_fast::crc32_iso_hdlc(payload)
}

/// Parses the record at the start of `bytes`: its number, its entry and its length. Returns `None` if it is torn or corrupt.
fn record(bytes: &[u8]) -> Option<(u64, UsageEntry, usize)> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    let payload = rest.get(..length)?;
    let (number, entry) = payload.split_first_chunk::<8>()?;
    if checksum(payload) != u32::from_le_bytes(*sum) {
        return None;
    }
    let entry = serde_json::from_slice(entry).ok()?;
    Some((u64::from_le_bytes(*number), entry, HEADER_BYTES + length))
}

#[cfg(test)]
mod tests {
    use model::{AccountId, FunctionKey, FunctionName, Namespace, Version};

    use super::super::entry::{UsageKey, UsageTotals};
    use super::*;

    const ID: JournalId = JournalId([1; 16]);

    fn entry(hour: i64) -> UsageEntry {
        let function = FunctionKey {
            account: AccountId(1),
            namespace: Namespace::default(),
            name: FunctionName::parse("fun").expect("a name"),
        };
        let key = UsageKey {
            function,
            version: Version::Latest,
            hour,
        };
        let totals = UsageTotals {
            invocations: 1,
            ..UsageTotals::default()
        };
        UsageEntry { key, totals }
    }

    fn hours(entries: &[UsageEntry]) -> Vec<i64> {
        let mut hours: Vec<_> = entries.iter().map(|entry| entry.key.hour).collect();
        hours.sort_unstable();
        hours
    }

    #[test]
    fn uncommitted_entries_are_recovered() {
        let directory = tempfile::tempdir().expect("a directory");
        let (mut journal, uncommitted) =
            UsageJournal::open(directory.path(), ID, 0).expect("opened");
        assert_eq!(uncommitted, []);
        for n in 1..=5 {
            assert_eq!(journal.append(&entry(n), 0).expect("appended"), n as u64);
        }
        drop(journal);
        for (committed, left) in [(0, vec![1, 2, 3, 4, 5]), (3, vec![4, 5]), (5, vec![])] {
            let (_, uncommitted) =
                UsageJournal::open(directory.path(), ID, committed).expect("opened");
            assert_eq!(hours(&uncommitted), left, "beyond {committed}");
        }
        let (mut journal, _) = UsageJournal::open(directory.path(), ID, 3).expect("opened");
        assert_eq!(journal.append(&entry(6), 3).expect("appended"), 6);
        let (_, uncommitted) = UsageJournal::open(directory.path(), ID, 3).expect("opened");
        assert_eq!(hours(&uncommitted), [4, 5, 6]);
        assert_eq!(hours(&journal.after(5).expect("read")), [6]);
    }

    #[test]
    fn journal_keeps_its_id_and_one_of_an_earlier_version_has_the_id_that_the_ledger_knows() {
        let directory = tempfile::tempdir().expect("a directory");
        let id = UsageJournal::id_of(directory.path()).expect("an id");
        assert_ne!(id, JournalId([0; 16]));
        drop(UsageJournal::open(directory.path(), id, 0).expect("opened"));
        assert_eq!(UsageJournal::id_of(directory.path()).expect("an id"), id);
        let other = tempfile::tempdir().expect("a directory");
        assert_ne!(UsageJournal::id_of(other.path()).expect("an id"), id);
        fs::remove_file(directory.path().join(ID_FILE)).expect("removed");
        let earlier = UsageJournal::id_of(directory.path()).expect("an id");
        assert_eq!(earlier, JournalId([0; 16]));
        fs::write(directory.path().join(ID_FILE), b"short").expect("written");
        let damaged = UsageJournal::id_of(directory.path()).expect_err("damaged");
        assert!(damaged.to_string().contains("16 bytes"), "{damaged}");
    }

    #[test]
    fn journal_file_is_reused_once_all_of_it_is_committed() {
        let directory = tempfile::tempdir().expect("a directory");
        let (mut journal, _) = UsageJournal::open(directory.path(), ID, 0).expect("opened");
        let (mut last, behind) = (0_u64, 100);
        while last < 100_000 {
            let committed = last.saturating_sub(behind);
            last = journal
                .append(&entry(last as i64 + 1), committed)
                .expect("appended");
        }
        drop(journal);
        let size = |name: &str| {
            fs::metadata(directory.path().join(name))
                .expect("a file")
                .len()
        };
        assert!(size("usage-0.journal") < ROTATE_BYTES + 1000);
        assert!(size("usage-1.journal") < ROTATE_BYTES + 1000);
        let (_, uncommitted) =
            UsageJournal::open(directory.path(), ID, last - behind).expect("opened");
        let expected: Vec<_> = (last - behind + 1..=last).map(|n| n as i64).collect();
        assert_eq!(hours(&uncommitted), expected);
    }

    #[test]
    fn torn_or_corrupt_record_ends_the_journal_and_is_overwritten() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("usage-0.journal");
        let (mut journal, _) = UsageJournal::open(directory.path(), ID, 0).expect("opened");
        for n in 1..=3 {
            journal.append(&entry(n), 0).expect("appended");
        }
        let end = journal.files[0].end;
        drop(journal);
        let mut bytes = fs::read(&path).expect("read");
        bytes[end as usize - 4] ^= 1;
        fs::write(&path, &bytes).expect("written");
        let (mut journal, uncommitted) =
            UsageJournal::open(directory.path(), ID, 0).expect("opened");
        assert_eq!(hours(&uncommitted), [1, 2]);
        assert_eq!(journal.append(&entry(7), 0).expect("appended"), 3);
        let (_, uncommitted) = UsageJournal::open(directory.path(), ID, 0).expect("opened");
        assert_eq!(hours(&uncommitted), [1, 2, 7]);
        for strange in [
            &b""[..],
            b"\xff\xff\xff\xff",
            &[0xff; 4096],
            b"not a journal at all",
        ] {
            fs::write(&path, strange).expect("written");
            let (_, uncommitted) = UsageJournal::open(directory.path(), ID, 0).expect("opened");
            assert_eq!(uncommitted, []);
        }
    }
}
