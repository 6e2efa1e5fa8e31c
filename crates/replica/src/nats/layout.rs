//! Which streams there are, and which log is in which.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};

/// Number of shards. It is fixed when a cluster is made: what belongs to which shard follows from it.
pub const SHARDS: u16 = 32;
/// Number of streams that the shards share, so that their leaders spread over the servers.
const SHARD_STREAMS: u16 = 4;
/// How long JetStream recognizes a repeated record. Later duplicates are dropped when they are applied.
const DUPLICATE_WINDOW: Duration = Duration::from_mins(2);
/// Maximum size of the stream of the logs' states, of which each has one small message (bytes).
const STATE_BYTES: u64 = 16 << 20;

/// The streams of an installation.
#[derive(Clone, Debug)]
pub struct Layout {
    /// First tokens of all subjects. Installations that share servers and an account differ in it.
    pub prefix: String,
    /// Servers that store each record: 3, or 1 for trying it out.
    pub replicas: usize,
    /// Maximum size of the stream of the log `cluster` (bytes). A full stream refuses records; none is dropped for it.
    pub cluster_bytes: u64,
    /// Maximum size of all streams of shards together (bytes).
    pub shard_bytes: u64,
}

/// The place of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Index of its stream in [`Layout::streams`].
    pub(crate) stream: usize,
    /// Subject of its records.
    pub(crate) records: String,
    /// Subject of its state, in the stream of states.
    pub(crate) state: String,
}

/// Index of the stream of states.
pub(crate) const STATES: usize = 0;
const CLUSTER: usize = 1;

impl Layout {
    /// Returns the streams: states, `cluster`, and those of the shards.
    pub(crate) fn streams(&self) -> Vec<Config> {
        let mut states = self.stream("states", STATE_BYTES);
        states.discard = DiscardPolicy::Old;
        states.max_messages_per_subject = 1;
        let mut streams = vec![states, self.stream("cluster", self.cluster_bytes)];
        let bytes = self.shard_bytes / u64::from(SHARD_STREAMS);
        streams.extend((0..SHARD_STREAMS).map(|n| self.stream(&format!("shards-{n}"), bytes)));
        streams
    }

    fn stream(&self, name: &str, max_bytes: u64) -> Config {
        Config {
            name: format!("{}-{name}", self.prefix.replace('.', "-")),
            subjects: vec![format!("{}.{name}.>", self.prefix)],
            num_replicas: self.replicas,
            max_bytes: i64::try_from(max_bytes).unwrap_or(i64::MAX),
            max_messages: -1,
            max_messages_per_subject: -1,
            retention: RetentionPolicy::Limits,
            storage: StorageType::File,
            discard: DiscardPolicy::New,
            duplicate_window: DUPLICATE_WINDOW,
            deny_delete: true,
            ..Config::default()
        }
    }

    pub(crate) fn cluster(&self) -> Place {
        self.place(CLUSTER, "cluster", "cluster")
    }

    /// Returns the place of a shard, below [`SHARDS`].
    pub(crate) fn shard(&self, shard: u16) -> Place {
        let stream = shard % SHARD_STREAMS;
        let log = format!("shard-{shard:02}");
        self.place(
            CLUSTER + 1 + usize::from(stream),
            &format!("shards-{stream}"),
            &log,
        )
    }

    fn place(&self, stream: usize, name: &str, log: &str) -> Place {
        Place {
            stream,
            records: format!("{}.{name}.{log}", self.prefix),
            state: format!("{}.states.{log}", self.prefix),
        }
    }
}

/// Compares a stream that is there with the one that is wanted. Returns its configuration as it is to be, if it has to be changed.
///
/// # Errors
/// Fails with the reason if it cannot be changed: then records could be lost in it.
pub(crate) fn reconcile(found: &Config, wanted: &Config) -> Result<Option<Config>, String> {
    let fixed = [
        ("retention", found.retention == wanted.retention),
        ("storage", found.storage == wanted.storage),
        ("discard", found.discard == wanted.discard),
        ("max_age", found.max_age.is_zero()),
        ("max_msgs", found.max_messages <= 0),
        (
            "max_msgs_per_subject",
            found.max_messages_per_subject == wanted.max_messages_per_subject,
        ),
        ("deny_delete", found.deny_delete == wanted.deny_delete),
        ("sealed", !found.sealed),
        ("no_ack", !found.no_ack),
        ("subjects", found.subjects == wanted.subjects),
    ];
    if let Some((setting, _)) = fixed.iter().find(|(_, equal)| !equal) {
        return Err(format!(
            "its setting {setting} was changed, or it was not made by virga: rename or remove it, or choose another subject prefix"
        ));
    }
    let grown = Config {
        // A stream that has more replicas than are asked for keeps them.
        num_replicas: found.num_replicas.max(wanted.num_replicas),
        max_bytes: wanted.max_bytes,
        ..found.clone()
    };
    let same = grown.num_replicas == found.num_replicas && grown.max_bytes == found.max_bytes;
    Ok((!same).then_some(grown))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn layout(replicas: usize) -> Layout {
        Layout {
            prefix: "acme.virga".to_owned(),
            replicas,
            cluster_bytes: 1 << 30,
            shard_bytes: 4 << 30,
        }
    }

    #[test]
    fn every_log_has_subjects_of_its_own_in_a_stream_that_takes_them() {
        let layout = layout(3);
        let streams = layout.streams();
        let places: Vec<_> = std::iter::once(layout.cluster())
            .chain((0..SHARDS).map(|shard| layout.shard(shard)))
            .collect();
        let takes = |stream: &Config, subject: &str| {
            let [pattern] = stream.subjects.as_slice() else {
                panic!("one pattern")
            };
            subject.starts_with(pattern.trim_end_matches('>'))
        };
        for place in &places {
            let takers: Vec<_> = (0..streams.len())
                .filter(|index| takes(&streams[*index], &place.records))
                .collect();
            assert_eq!(takers, [place.stream], "{place:?}");
            assert!(takes(&streams[STATES], &place.state), "{place:?}");
        }
        let subjects: HashSet<_> = places
            .iter()
            .flat_map(|place| [&place.records, &place.state])
            .collect();
        assert_eq!(subjects.len(), places.len() * 2);
        let alone = places.iter().filter(|place| place.stream == CLUSTER);
        assert_eq!(alone.count(), 1, "`cluster` has a stream of its own");
        assert!(streams.iter().all(|stream| !stream.name.contains('.')));
    }

    #[test]
    fn a_stream_grows_and_one_that_may_lose_records_is_refused() {
        let (small, large) = (layout(1).streams(), layout(3).streams());
        assert!(reconcile(&large[1], &large[1]).unwrap().is_none());
        let grown = reconcile(&small[1], &large[1]).unwrap().unwrap();
        assert_eq!(grown.num_replicas, 3);
        assert!(
            reconcile(&large[1], &small[1]).unwrap().is_none(),
            "it keeps its replicas"
        );
        let damaged: [fn(&mut Config); 6] = [
            |stream| stream.discard = DiscardPolicy::Old,
            |stream| stream.max_age = Duration::from_secs(60),
            |stream| stream.max_messages = 5,
            |stream| stream.storage = StorageType::Memory,
            |stream| stream.retention = RetentionPolicy::WorkQueue,
            |stream| stream.deny_delete = false,
        ];
        for damage in damaged {
            let mut found = large[1].clone();
            damage(&mut found);
            assert!(reconcile(&found, &large[1]).is_err(), "{found:?}");
        }
    }
}
