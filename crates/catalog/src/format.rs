//! The stored record format: a version and a record, so that a new release reads the records of an older one.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Format version of new records.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Written<'a, T> {
    v: u32,
    record: &'a T,
}

#[derive(Deserialize)]
struct Read<'a> {
    v: u32,
    #[serde(borrow)]
    record: &'a RawValue,
}

/// Encodes a record.
pub(crate) fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Written { v: VERSION, record })
}

/// Decodes a record of this or an earlier format version.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let read: Read<'_> = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if read.v > VERSION {
        let version = read.v;
        return Err(format!(
            "written by a newer virga (format {version}, this one reads up to {VERSION}); upgrade"
        ));
    }
    serde_json::from_str(read.record.get()).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Function;

    /// A record written in format 1. Never edit it: it represents data on users' disks.
    const V1: &str = include_str!("../tests/function-v1.json");

    #[test]
    fn format_1_record_round_trips() {
        let function: Function = decode(V1.trim().as_bytes()).expect("a function");
        assert_eq!(function.key.name.as_str(), "hello");
        assert_eq!(
            String::from_utf8(encode(&function).expect("bytes")).expect("text"),
            V1.trim()
        );
    }

    #[test]
    fn newer_format_is_rejected_with_advice() {
        let refused = decode::<Function>(br#"{"v":2,"record":{}}"#).expect_err("a newer version");
        assert!(refused.starts_with("written by a newer virga"), "{refused}");
    }
}
