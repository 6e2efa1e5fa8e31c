//! The event document of a change, as in SCF. Source: SCF's page on the message structures of triggers. The
//! misspelling `unkown` is SCF's, and functions may compare it.

use std::collections::BTreeMap;

use bucket::Change;
use bytes::Bytes;
use model::RequestId;
use serde::Serialize;

use super::recipient::Recipient;

/// Builds the event document of a change.
pub(super) fn write(change: &Change, to: &Recipient, request: RequestId, region: &str) -> Bytes {
    let (bucket, app_id, key) = (&change.bucket, change.app_id, &change.key);
    let short = short(region);
    let host = format!("{bucket}-{app_id}.cos.{region}.myqcloud.com");
    let mut meta = BTreeMap::from([("x-cos-request-id", change.request.as_str())]);
    meta.insert(
        "Content-Type",
        change.content_type.as_deref().unwrap_or_default(),
    );
    // The key id is included, but no signature: a function could replay it.
    let authorization = match &change.by {
        Some(by) => format!("q-sign-algorithm=sha1&q-ak={by}"),
        None => String::new(),
    };
    let function = &to.function;
    let record = EventRecord {
        cos: Cos {
            schema_version: "1.0",
            object: Object {
                url: format!("http://{host}/{}", encoded(key)),
                meta,
                version: change.version.as_deref().unwrap_or_default(),
                key: format!("/{app_id}/{bucket}/{key}"),
                size: change.size,
            },
            bucket: Bucket {
                region: short,
                name: bucket,
                app_id: app_id.to_string(),
            },
            notification: "unkown",
        },
        event: CosEvent {
            name: change.kind.as_str(),
            version: "1.0",
            time: change.at_ms / 1000,
            source: "qcs::cos",
            request: Request {
                source_ip: &change.source_ip,
                headers: BTreeMap::from([("Authorization", authorization)]),
            },
            queue: format!(
                "qcs:0:lambda:{short}:appid/{app_id}:{}.{}.{}",
                function.namespace, function.name, to.qualifier
            ),
            reserved: "",
            request_id: number(request),
        },
    };
    let document = Document { records: [record] };
    // Serialization cannot fail.
    serde_json::to_vec(&document).unwrap_or_default().into()
}

/// Returns a region's short name, if it has one.
fn short(region: &str) -> &str {
    const SHORT: [(&str, &str); 16] = [
        ("ap-bangkok", "th"),
        ("ap-beijing", "bj"),
        ("ap-chengdu", "cd"),
        ("ap-chongqing", "cq"),
        ("ap-guangzhou", "gz"),
        ("ap-hongkong", "hk"),
        ("ap-mumbai", "in"),
        ("ap-nanjing", "nj"),
        ("ap-seoul", "kr"),
        ("ap-shanghai", "sh"),
        ("ap-singapore", "sg"),
        ("ap-tokyo", "jp"),
        ("eu-frankfurt", "ger"),
        ("na-ashburn", "use"),
        ("na-siliconvalley", "usw"),
        ("na-toronto", "ca"),
    ];
    let found = SHORT.iter().find(|(long, _)| *long == region);
    found.map_or(region, |(_, short)| short)
}

/// Encodes a key for a URL's path.
fn encoded(key: &str) -> String {
    let mut path = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                path.push(char::from(byte));
            }
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

/// Derives a number from the request id.
fn number(request: RequestId) -> u32 {
    let last = request.as_bytes().iter().rev().take(4);
    // 31 bits fit the integer type of every language.
    last.fold(0u32, |number, byte| number << 8 | u32::from(*byte)) >> 1
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "Records")]
    records: [EventRecord<'a>; 1],
}

#[derive(Serialize)]
struct EventRecord<'a> {
    cos: Cos<'a>,
    event: CosEvent<'a>,
}

#[derive(Serialize)]
struct Cos<'a> {
    #[serde(rename = "cosSchemaVersion")]
    schema_version: &'static str,
    #[serde(rename = "cosObject")]
    object: Object<'a>,
    #[serde(rename = "cosBucket")]
    bucket: Bucket<'a>,
    #[serde(rename = "cosNotificationId")]
    notification: &'static str,
}

#[derive(Serialize)]
struct Object<'a> {
    url: String,
    meta: BTreeMap<&'static str, &'a str>,
    #[serde(rename = "vid")]
    version: &'a str,
    key: String,
    size: u64,
}

#[derive(Serialize)]
struct Bucket<'a> {
    region: &'a str,
    name: &'a str,
    #[serde(rename = "appid")]
    app_id: String,
}

#[derive(Serialize)]
struct CosEvent<'a> {
    #[serde(rename = "eventName")]
    name: &'static str,
    #[serde(rename = "eventVersion")]
    version: &'static str,
    #[serde(rename = "eventTime")]
    time: u64,
    #[serde(rename = "eventSource")]
    source: &'static str,
    #[serde(rename = "requestParameters")]
    request: Request<'a>,
    #[serde(rename = "eventQueue")]
    queue: String,
    #[serde(rename = "reservedInfo")]
    reserved: &'static str,
    #[serde(rename = "reqid")]
    request_id: u32,
}

#[derive(Serialize)]
struct Request<'a> {
    #[serde(rename = "requestSourceIP")]
    source_ip: &'a str,
    #[serde(rename = "requestHeaders")]
    headers: BTreeMap<&'static str, String>,
}

#[cfg(test)]
mod tests {
    use bucket::ChangeKind;
    use model::{AccountId, FunctionKey, FunctionName, Namespace, Qualifier};
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn event_document_matches_scf() {
        let change = Change {
            kind: ChangeKind::Put,
            bucket: "testpic".into(),
            app_id: 1_253_970_026,
            key: "in/a b+ü.jpg".into(),
            version: None,
            size: 1029,
            etag: "e".into(),
            content_type: Some("image/jpeg".into()),
            at_ms: 1_545_205_770_999,
            request: "NWMxOWY4".into(),
            source_ip: "192.168.15.101".into(),
            by: Some("AKID".into()),
            depth: 3,
        };
        let to = Recipient {
            function: FunctionKey {
                account: AccountId(1_253_970_026),
                namespace: Namespace::default(),
                name: FunctionName::parse("printevent").expect("a name"),
            },
            qualifier: Qualifier::Latest,
        };
        let request = RequestId::from_bytes([255; 16]);
        let written = write(&change, &to, request, "ap-chengdu");
        let read: Value = serde_json::from_slice(&written).expect("JSON");
        let expected = json!({"Records": [{
            "cos": {
                "cosSchemaVersion": "1.0",
                "cosObject": {
                    "url": "http://testpic-1253970026.cos.ap-chengdu.myqcloud.com/in/a%20b%2B%C3%BC.jpg",
                    "meta": {"x-cos-request-id": "NWMxOWY4", "Content-Type": "image/jpeg"},
                    "vid": "",
                    "key": "/1253970026/testpic/in/a b+ü.jpg",
                    "size": 1029,
                },
                "cosBucket": {"region": "cd", "name": "testpic", "appid": "1253970026"},
                "cosNotificationId": "unkown",
            },
            "event": {
                "eventName": "cos:ObjectCreated:Put",
                "eventVersion": "1.0",
                "eventTime": 1_545_205_770,
                "eventSource": "qcs::cos",
                "requestParameters": {
                    "requestSourceIP": "192.168.15.101",
                    "requestHeaders": {"Authorization": "q-sign-algorithm=sha1&q-ak=AKID"},
                },
                "eventQueue": "qcs:0:lambda:cd:appid/1253970026:default.printevent.$LATEST",
                "reservedInfo": "",
                "reqid": i32::MAX,
            },
        }]});
        assert_eq!(read, expected);
        let other_region = write(&change, &to, request, "my-cellar");
        let read: Value = serde_json::from_slice(&other_region).expect("JSON");
        assert_eq!(
            read["Records"][0]["cos"]["cosBucket"]["region"],
            "my-cellar"
        );
    }
}
