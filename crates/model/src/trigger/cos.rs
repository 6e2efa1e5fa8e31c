//! Event filters of bucket triggers: by event type and object key.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use super::description::{EventSource, TriggerDescription};
use crate::names::text;
use crate::{AccountId, Field, Invalid};

/// Buckets. A trigger's name is its bucket's host, so that several triggers may share it.
pub(super) const COS: TriggerDescription = TriggerDescription {
    name: "cos",
    origin: "COS",
    shares_names: true,
    ..TriggerDescription::EVENTS
};

/// Maximum length of an object key, and so of a prefix or suffix (bytes).
const KEY_MAX: usize = 1024;
/// Suffix of bucket host names.
const HOSTS: &str = ".myqcloud.com";

/// The event filter of a bucket trigger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectEvents {
    /// Bucket, owned by the function's account.
    pub bucket: BucketName,
    /// Event type.
    pub event: ObjectEvent,
    /// Key prefix.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// Key suffix: empty, or text that starts with `.`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub suffix: String,
}

impl EventSource for ObjectEvents {}

impl ObjectEvents {
    /// Validates a filter.
    ///
    /// # Errors
    /// [`Invalid`] for [`Field::KeyPrefix`] and [`Field::KeySuffix`].
    pub fn new(
        bucket: BucketName,
        event: ObjectEvent,
        prefix: &str,
        suffix: &str,
    ) -> Result<Self, Invalid> {
        let allowed = format!("up to {KEY_MAX} bytes without control characters are");
        let fine = |text: &str| text.len() <= KEY_MAX && !text.chars().any(char::is_control);
        if !fine(prefix) {
            return Err(Invalid::new(Field::KeyPrefix, prefix, allowed));
        }
        if !fine(suffix) || !(suffix.is_empty() || suffix.starts_with('.')) {
            let allowed =
                format!("nothing, or text that begins with a '.', as .jpg, is; {allowed}");
            return Err(Invalid::new(Field::KeySuffix, suffix, allowed));
        }
        Ok(Self {
            bucket,
            event,
            prefix: prefix.to_owned(),
            suffix: suffix.to_owned(),
        })
    }

    /// Returns whether an event matches, by event name and object key.
    pub fn matches(&self, event: &str, key: &str) -> bool {
        self.event.covers(event) && key.starts_with(&self.prefix) && key.ends_with(&self.suffix)
    }

    /// Returns whether some event could match both filters.
    ///
    /// Source: SCF's page on COS triggers, which allows only one function per event.
    pub fn overlaps(&self, other: &Self) -> bool {
        let one_in_other =
            |found: &dyn Fn(&str, &str) -> bool, a: &str, b: &str| found(a, b) || found(b, a);
        self.bucket == other.bucket
            && self.event.overlaps(other.event)
            && one_in_other(&|a, b| a.starts_with(b), &self.prefix, &other.prefix)
            && one_in_other(&|a, b| a.ends_with(b), &self.suffix, &other.suffix)
    }
}

/// An object event type, or a wildcard for a group of types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct ObjectEvent(&'static str);

impl ObjectEvent {
    /// All types. Source: SCF's page on COS triggers.
    pub const ALL: [Self; 13] = [
        Self("cos:ObjectCreated:*"),
        Self("cos:ObjectCreated:Put"),
        Self("cos:ObjectCreated:Post"),
        Self("cos:ObjectCreated:Copy"),
        Self("cos:ObjectCreated:CompleteMultipartUpload"),
        Self("cos:ObjectCreated:Origin"),
        Self("cos:ObjectCreated:Replication"),
        Self("cos:ObjectRemove:*"),
        Self("cos:ObjectRemove:Delete"),
        Self("cos:ObjectRemove:DeleteMarkerCreated"),
        Self("cos:ObjectRestore:*"),
        Self("cos:ObjectRestore:Post"),
        Self("cos:ObjectRestore:Completed"),
    ];

    /// Parses a name.
    ///
    /// # Errors
    /// [`Invalid`] for [`Field::ObjectEvent`].
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let known = Self::ALL.into_iter().find(|event| event.0 == text);
        known.ok_or_else(|| {
            let names = Self::ALL.map(|event| event.0).join(", ");
            Invalid::new(Field::ObjectEvent, text, format!("{names} are"))
        })
    }

    /// Returns its name.
    pub fn as_str(self) -> &'static str {
        self.0
    }

    /// Returns whether it is, or includes, the named event type.
    pub fn covers(self, name: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(kind) => name.starts_with(kind),
            None => name == self.0,
        }
    }

    fn overlaps(self, other: Self) -> bool {
        self.covers(other.0) || other.covers(self.0)
    }
}

impl<'de> Deserialize<'de> for ObjectEvent {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// A bucket name without the AppId suffix: 1 to 50 lower-case letters, digits and `-`, no `-` at either end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BucketName(String);
text!(BucketName);

impl BucketName {
    /// Parses a name.
    ///
    /// # Errors
    /// [`Invalid`] for [`Field::BucketName`].
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let ends = text.starts_with('-') || text.ends_with('-');
        if (1..=50).contains(&text.len()) && text.bytes().all(allowed) && !ends {
            Ok(Self(text.to_owned()))
        } else {
            let allowed = "1 to 50 lower-case letters, digits and '-', no '-' at either end, are";
            Err(Invalid::new(Field::BucketName, text, allowed))
        }
    }

    /// Parses a name with or without the owner's AppId suffix.
    ///
    /// # Errors
    /// [`Invalid`] for [`Field::BucketName`].
    pub fn of(owner: AccountId, text: &str) -> Result<Self, Invalid> {
        Self::parse(text.strip_suffix(&format!("-{owner}")).unwrap_or(text))
    }

    /// Returns the full COS name, with the owner's AppId suffix.
    pub fn full(&self, owner: AccountId) -> String {
        format!("{self}-{owner}")
    }

    /// Returns its host name, which bucket triggers use as their name.
    pub fn host(&self, owner: AccountId, region: &str) -> String {
        format!("{self}-{owner}.cos.{region}{HOSTS}")
    }

    /// Parses a bucket host name into the bucket, its owner and its region.
    pub fn of_host(host: &str) -> Option<(Self, AccountId, &str)> {
        let (full, region) = host.strip_suffix(HOSTS)?.split_once(".cos.")?;
        let (name, owner) = full.rsplit_once('-')?;
        let owner = AccountId(owner.parse().ok()?);
        Some((Self::parse(name).ok()?, owner, region))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(event: &str, prefix: &str, suffix: &str) -> ObjectEvents {
        let bucket = BucketName::parse("photos").expect("a name");
        let event = ObjectEvent::parse(event).expect("an event");
        ObjectEvents::new(bucket, event, prefix, suffix).expect("fine")
    }

    #[test]
    fn event_matches_by_type_prefix_and_suffix() {
        const ANY: &str = "cos:ObjectCreated:*";
        const PUT: &str = "cos:ObjectCreated:Put";
        let rows = [
            (ANY, "", "", PUT, "a", true),
            (PUT, "", "", PUT, "a", true),
            ("cos:ObjectCreated:Post", "", "", PUT, "a", false),
            ("cos:ObjectRemove:*", "", "", PUT, "a", false),
            (ANY, "in/", "", PUT, "in/a.jpg", true),
            (ANY, "in/", "", PUT, "out/a.jpg", false),
            (ANY, "in/", ".jpg", PUT, "in/a.jpg", true),
            (ANY, "in/", ".jpg", PUT, "in/a.png", false),
            // Prefix and suffix may overlap in the key.
            (ANY, ".a.", ".a.", PUT, ".a.", true),
        ];
        for (event, prefix, suffix, name, key, expected) in rows {
            let found = events(event, prefix, suffix).matches(name, key);
            assert_eq!(found, expected, "{event} {prefix} {suffix}: {name} {key}");
        }
    }

    #[test]
    fn filters_overlap_if_one_event_can_match_both() {
        const ANY: &str = "cos:ObjectCreated:*";
        let rows = [
            ((ANY, "", ""), (ANY, "", ""), true),
            (
                (ANY, "", ""),
                ("cos:ObjectCreated:Put", "in/", ".jpg"),
                true,
            ),
            ((ANY, "", ""), ("cos:ObjectRemove:*", "", ""), false),
            (
                ("cos:ObjectCreated:Put", "", ""),
                ("cos:ObjectCreated:Post", "", ""),
                false,
            ),
            ((ANY, "in/", ""), (ANY, "in/a/", ""), true),
            ((ANY, "in/", ""), (ANY, "out/", ""), false),
            ((ANY, "in/", ".jpg"), (ANY, "in/", ".png"), false),
            ((ANY, "", ".gz"), (ANY, "", ".tar.gz"), true),
            ((ANY, "in/", ".jpg"), (ANY, "out/", ".jpg"), false),
            ((ANY, "in/", ""), (ANY, "", ".jpg"), true),
        ];
        for (one, other, expected) in rows {
            let (a, b) = (
                events(one.0, one.1, one.2),
                events(other.0, other.1, other.2),
            );
            assert_eq!(a.overlaps(&b), expected, "{one:?} {other:?}");
            assert_eq!(b.overlaps(&a), expected, "{other:?} {one:?}");
        }
        let mut other_bucket = events(ANY, "", "");
        other_bucket.bucket = BucketName::parse("papers").expect("a name");
        assert!(!other_bucket.overlaps(&events(ANY, "", "")));
    }

    #[test]
    fn invalid_names_events_and_filters_are_rejected() {
        let owner = AccountId(1_250_000_000);
        let photos = BucketName::parse("photos").expect("a name");
        let host = "photos-1250000000.cos.ap-guangzhou.myqcloud.com";
        assert_eq!(photos.host(owner, "ap-guangzhou"), host);
        let read = BucketName::of_host(host);
        assert_eq!(read, Some((photos.clone(), owner, "ap-guangzhou")));
        for text in ["photos", "photos-1250000000"] {
            assert_eq!(BucketName::of(owner, text), Ok(photos.clone()));
        }
        for bad in [
            "photos.cos.ap-guangzhou.myqcloud.com",
            "photos-x.cos.ap-guangzhou.myqcloud.com",
            "-1250000000.cos.ap-guangzhou.myqcloud.com",
            "photos-1250000000.ap-guangzhou.myqcloud.com",
            "photos-1250000000.cos.ap-guangzhou.example.com",
        ] {
            assert_eq!(BucketName::of_host(bad), None, "{bad}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", &"a".repeat(51)] {
            assert!(BucketName::parse(bad).is_err(), "{bad}");
        }
        for bad in ["", "*", "cos:ObjectCreated", "s3:ObjectCreated:*"] {
            assert!(ObjectEvent::parse(bad).is_err(), "{bad}");
        }
        let event = ObjectEvent::parse("cos:ObjectCreated:*").expect("an event");
        let long = "a".repeat(1025);
        for (prefix, suffix) in [("", "jpg"), (long.as_str(), ""), ("a\n", "")] {
            assert!(ObjectEvents::new(photos.clone(), event, prefix, suffix).is_err());
        }
    }
}
