//! Stored bytes: a version and a record, so that an upgrade can read what its predecessor wrote.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The version that is written.
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

/// A record's bytes.
pub(crate) fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Written { v: VERSION, record })
}

/// Reads a record of this or an earlier version.
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

    /// As version 1 wrote it. Never edit: it stands for what is on users' disks.
    const V1: &str = include_str!("../tests/function-v1.json");

    #[test]
    fn version_1_is_read_and_written_back_the_same() {
        let function: Function = decode(V1.trim().as_bytes()).expect("a function");
        assert_eq!(function.key.name.as_str(), "hello");
        assert_eq!(
            String::from_utf8(encode(&function).expect("bytes")).expect("text"),
            V1.trim()
        );
    }

    #[test]
    fn a_newer_version_is_refused_with_a_way_out() {
        let refused = decode::<Function>(br#"{"v":2,"record":{}}"#).expect_err("a newer version");
        assert!(refused.starts_with("written by a newer virga"), "{refused}");
    }
}
