//! Packages that are too long for a request.

use std::path::Path;

use serde_json::{Value, json};
use testkit::{Server, base64, zip};

use crate::{VIRGA, server};

const SOURCE: &str =
    "import os\ndef main_handler(event, context): return [WORD, os.path.getsize('noise')]\n";
const BUCKET: &str = "/photos-1250000000";

/// An archive of a function and of so many bytes that cannot be made shorter.
fn archive(word: &str, bytes: usize) -> Vec<u8> {
    let mut random = testkit::Random::new(0x9e37_79b9_7f4a_7c15);
    let mut noise = Vec::with_capacity(bytes + 8);
    while noise.len() < bytes {
        noise.extend_from_slice(&random.next_number().to_le_bytes());
    }
    noise.truncate(bytes);
    let source = SOURCE.replace("WORD", &format!("{word:?}"));
    zip(&[("index.py", source.as_bytes()), ("noise", &noise)])
}

/// Deploys an archive as `large`.
fn deploy(server: &Server, archive: &Path, more: &[&str]) -> std::process::Output {
    let path = archive.to_str().expect("text");
    let args = ["deploy", path, "--name", "large", "--yes", "--json"];
    server.cli(&[&args, more].concat())
}

fn deployed(output: &std::process::Output) -> Value {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn deploy_uploads_packages_too_large_for_a_request_to_a_bucket() {
    let server = server();
    let (client, objects) = (server.client(), server.objects());
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("large.zip");
    let size = 51 << 20;
    let buckets = ["--buckets", &objects.endpoint];
    for word in ["created", "updated"] {
        let package = archive(word, size);
        std::fs::write(&path, &package).expect("written");
        let function = deployed(&deploy(&server, &path, &buckets));
        assert_eq!(function["CodeSize"], package.len());
        assert_eq!(client.answer("large", &json!({})), json!([word, size]));
        // It can be had again, whole.
        let address = client.ok("GetFunctionAddress", &json!({"FunctionName": "large"}));
        let address = address["Url"].as_str().expect("a URL").to_owned();
        let at = address.find("/packages/").expect("a path");
        let answer = client.get(&address[at..]);
        assert!(
            answer.status == 200 && answer.body == package,
            "{}",
            answer.status
        );
    }
    // A bucket of one's choice is for packages of any size.
    std::fs::write(&path, archive("small", 10)).expect("written");
    let photos = [&buckets[..], &["--bucket", "photos"]].concat();
    deployed(&deploy(&server, &path, &photos));
    assert_eq!(client.answer("large", &json!({})), json!(["small", 10]));
    // Nothing stays there.
    for bucket in [BUCKET, "/virga-packages-1250000000"] {
        let listed = objects.ok("GET", bucket, &[], b"");
        assert!(!listed.contains("<Key>"), "{listed}");
    }
    // Without a reachable bucket the error says what to do.
    let nowhere = ["--bucket", "photos", "--buckets", "http://127.0.0.1:1"];
    let refused = deploy(&server, &path, &nowhere);
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(3), "{error}");
    for word in ["50 MB", "photos at http://127.0.0.1:1", "--buckets"] {
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn package_size_limits_differ_for_requests_and_buckets() {
    let limits = "package_bytes=2000,unpacked_bytes=20000";
    let server = Server::flags(VIRGA, &["--limits", limits]);
    let (client, objects) = (server.client(), server.objects());
    objects.ok("PUT", BUCKET, &[], b"");
    let create = |name: &str, code: Value| {
        let request = json!({"FunctionName": name, "Runtime": "Python3.9", "Code": code});
        client.call("CreateFunction", &request)
    };
    let direct = |bytes: usize| json!({"ZipFile": base64(&archive("x", bytes))});
    create("fits", direct(1000)).expect("made");
    let refused = create("long", direct(1750)).expect_err("refused");
    assert_eq!(refused.code, "InvalidParameterValue.ZipFile");
    for word in ["up to 2000", "CosBucketName"] {
        assert!(refused.message.contains(word), "{refused:?}");
    }
    let stored = |bytes: usize| {
        let key = format!("{bytes}.zip");
        objects.ok("PUT", &format!("{BUCKET}/{key}"), &[], &archive("x", bytes));
        json!({"CosBucketName": "photos", "CosObjectName": key})
    };
    create("long", stored(15_000)).expect("made");
    assert_eq!(client.answer("long", &json!({})), json!(["x", 15_000]));
    let layer = json!({"LayerName": "long", "CompatibleRuntimes": ["Python3.9"], "Content": stored(16_000)});
    client.ok("PublishLayerVersion", &layer);
    let refused = create("longer", stored(21_000)).expect_err("refused");
    assert_eq!(refused.code, "InvalidParameterValue.ZipFile");
    for word in ["up to 20000", "unpacked_bytes"] {
        assert!(refused.message.contains(word), "{refused:?}");
    }
}
