//! Whether a replica starts from its own database or from a snapshot.

use crate::log::{LogIdentity, Position};

/// What a database has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Local {
    /// The last position applied.
    pub(crate) position: Position,
    /// The log that was applied; none for an embedded one, or before the first record.
    pub(crate) log: Option<LogIdentity>,
}

/// From what a replica starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// From its own database, or an empty one.
    Own,
    /// From a snapshot.
    Snapshot,
    /// It does not, until the operator has acted.
    Refuse(String),
}

/// Chooses. A database that is ahead of its log is found out later, by a write: what a server answers may be out of date.
pub(crate) fn choose(local: Option<&Local>, log: &LogIdentity, trimmed: Position) -> Choice {
    match local {
        None => Choice::Snapshot,
        Some(Local { position: Position(0), .. }) => Choice::Snapshot,
        Some(Local { log: None, .. }) => Choice::Refuse(
            "the database was used without a log, so its contents are not in this one: restore a backup of it into the cluster, or move it away"
                .to_owned(),
        ),
        Some(Local { log: Some(known), .. }) if known != log => Choice::Refuse(format!(
            "the database belongs to the log {}, and this log is {}: it was made anew, or another one is configured. Configure the right log, \
             or restore a backup",
            known.0, log.0
        )),
        Some(Local { position, .. }) if *position < trimmed => Choice::Snapshot,
        Some(_) => Choice::Own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_used_if_it_is_the_logs_and_reaches_to_its_beginning() {
        let log = |name: &str| LogIdentity(name.to_owned());
        let local = |position, of: Option<&str>| {
            Some(Local {
                position: Position(position),
                log: of.map(log),
            })
        };
        let choose = |local: Option<Local>, trimmed| {
            super::choose(local.as_ref(), &log("a"), Position(trimmed))
        };
        assert_eq!(choose(None, 0), Choice::Snapshot);
        assert_eq!(choose(local(0, None), 5), Choice::Snapshot);
        assert_eq!(choose(local(4, Some("a")), 5), Choice::Snapshot);
        assert_eq!(choose(local(5, Some("a")), 5), Choice::Own);
        assert_eq!(choose(local(9, Some("a")), 0), Choice::Own);
        for (local, reason) in [
            (local(9, Some("b")), "made anew"),
            (local(4, Some("b")), "made anew"),
            (local(9, None), "without a log"),
        ] {
            let choice = choose(local, 5);
            assert!(
                matches!(&choice, Choice::Refuse(why) if why.contains(reason)),
                "{choice:?}"
            );
        }
    }
}
