//! A machine for tests: accounts with balances, whose history shows each applied change with its time.

use std::sync::Arc;

use replica::{Apply, Durability, Machine};
use rusqlite::{Connection, OptionalExtension, params};

/// Changes a balance, unless it would become negative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Unique for each submission of a test.
    pub(crate) id: u64,
    pub(crate) account: u8,
    pub(crate) amount: i64,
    pub(crate) durability: Durability,
    pub(crate) padding: usize,
}

/// The answer to a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Balance(i64),
    Refused,
}

/// The machine.
#[derive(Debug, Default)]
pub(crate) struct Bank {
    /// Changes applied since it was opened.
    pub(crate) applied: u64,
}

impl Machine for Bank {
    type Command = Change;
    type Output = Outcome;
    type Held = Arc<()>;
    type Changes = u64;

    fn open(&mut self, connection: &mut Connection) -> rusqlite::Result<()> {
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS balance (account INTEGER PRIMARY KEY, value INTEGER NOT NULL);
             CREATE TABLE IF NOT EXISTS history (
                 number INTEGER PRIMARY KEY, id INTEGER NOT NULL, position INTEGER NOT NULL, time INTEGER NOT NULL, padding BLOB
             );",
        )
    }

    fn apply(
        &self,
        record: &Apply<'_>,
        change: &Change,
        applied: &mut u64,
    ) -> rusqlite::Result<Outcome> {
        *applied += 1;
        let transaction = record.transaction;
        transaction.execute(
            "INSERT INTO history (number, id, position, time, padding) VALUES (?, ?, ?, ?, zeroblob(?))",
            params![
                record.next_number() as i64,
                change.id as i64,
                record.position.0 as i64,
                record.time.0 as i64,
                change.padding as i64
            ],
        )?;
        let before: Option<i64> = transaction
            .query_row(
                "SELECT value FROM balance WHERE account = ?",
                [change.account],
                |row| row.get(0),
            )
            .optional()?;
        let after = before.unwrap_or(0) + change.amount;
        if after < 0 {
            return Ok(Outcome::Refused);
        }
        transaction.execute(
            "INSERT OR REPLACE INTO balance VALUES (?, ?)",
            params![change.account, after],
        )?;
        Ok(Outcome::Balance(after))
    }

    fn committed(&mut self, applied: u64) {
        self.applied += applied;
    }

    fn durability(change: &Change) -> Durability {
        change.durability
    }

    fn adds_work(change: &Change) -> bool {
        change.amount > 0
    }

    fn encode(change: &Change, bytes: &mut Vec<u8>) {
        bytes.extend(change.id.to_le_bytes());
        bytes.push(change.account);
        bytes.extend(change.amount.to_le_bytes());
        bytes.extend((change.padding as u64).to_le_bytes());
        bytes.resize(bytes.len() + change.padding, 0);
    }

    fn decode(bytes: &[u8]) -> Result<Change, String> {
        let number = |from: usize| {
            let bytes = bytes
                .get(from..from + 8)
                .and_then(|bytes| bytes.try_into().ok());
            bytes.map(u64::from_le_bytes).ok_or("too short")
        };
        Ok(Change {
            id: number(0)?,
            account: *bytes.get(8).ok_or("too short")?,
            amount: number(9)? as i64,
            durability: Durability::Sync,
            padding: number(17)? as usize,
        })
    }
}

/// A deposit.
pub(crate) fn deposit(id: u64, account: u8, amount: i64) -> Change {
    Change {
        id,
        account,
        amount,
        durability: Durability::Sync,
        padding: 0,
    }
}
