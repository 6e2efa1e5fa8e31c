//! Full buckets and truncated uploads: a refused object leaves nothing, stored objects stay readable, and freed space is usable
//! again.

use std::fs;
use std::path::Path;

use testkit::{Objects, Options, Server, eventually};

use crate::VIRGA;
use crate::disk::Disk;

const BUCKET: &str = "/photos-1250000000";
const MB: usize = 1 << 20;

fn path(key: &str) -> String {
    format!("{BUCKET}/{key}")
}

/// Puts an object. Returns whether it was accepted.
fn put(objects: &Objects, key: &str, body: &[u8]) -> bool {
    accepts(objects, "PUT", &path(key), body)
}

fn accepts(objects: &Objects, method: &str, path: &str, body: &[u8]) -> bool {
    let answer = objects.send(method, path, &[], body);
    let text = String::from_utf8_lossy(&answer.body);
    match answer.status {
        200..300 => true,
        status => {
            assert_eq!(status, 507, "{method} {path}: {text}");
            assert!(text.contains("<Code>InsufficientStorage</Code>"), "{text}");
            false
        }
    }
}

fn get(objects: &Objects, key: &str) -> Option<Vec<u8>> {
    let answer = objects.send("GET", &path(key), &[], b"");
    assert!(matches!(answer.status, 200 | 404), "{}", answer.status);
    (answer.status == 200).then_some(answer.body)
}

fn begin(objects: &Objects, key: &str) -> String {
    let begun = objects.ok("POST", &path(&format!("{key}?uploads")), &[], b"");
    let (_, rest) = begun.split_once("<UploadId>").expect("an id");
    rest.split_once('<').expect("its end").0.to_owned()
}

/// Files of bytes that a server keeps.
fn files(server: &Server) -> usize {
    fn below(directory: &Path) -> usize {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let counts = entries.map(|entry| match entry.path().is_dir() {
            true => below(&entry.path()),
            false => 1,
        });
        counts.sum()
    }
    below(&server.data().join("buckets/blobs"))
}

#[test]
fn exhausted_budget_refuses_new_objects_and_keeps_stored_ones() {
    let server = Server::flags(VIRGA, &["--bucket-store-mb", "16"]);
    let objects = server.objects();
    objects.ok("PUT", BUCKET, &[], b"");
    let body = vec![7; 4 * MB];
    for key in ["a", "b", "c"] {
        assert!(put(&objects, key, &body), "{key}");
    }
    assert!(!put(&objects, "d", &body));
    let id = begin(&objects, "e");
    let part = path(&format!("e?partNumber=1&uploadId={id}"));
    assert!(!accepts(&objects, "PUT", &part, &body));
    let append = path("f?append&position=0");
    assert!(!accepts(&objects, "POST", &append, &body));
    // A copy shares its bytes with the original.
    let source = format!("photos-1250000000.cos.ap-guangzhou.myqcloud.com{}", "/a");
    objects.ok("PUT", &path("copy"), &[("x-cos-copy-source", &source)], b"");
    for key in ["a", "b", "c", "copy"] {
        assert!(get(&objects, key).is_some_and(|got| got == body), "{key}");
    }
    for key in ["d", "e", "f"] {
        assert!(get(&objects, key).is_none(), "{key}");
    }
    let parts = objects.ok("GET", &path(&format!("e?uploadId={id}")), &[], b"");
    assert!(!parts.contains("<Part>"), "{parts}");
    eventually("nothing is left of the refused objects", || {
        files(&server) == 3
    });
    objects.ok("DELETE", &path("b"), &[], b"");
    eventually("there is free space again", || put(&objects, "d", &body));
    assert!(get(&objects, "d").is_some_and(|got| got == body));
}

#[test]
fn full_disk_refuses_new_objects_and_keeps_stored_ones() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = Disk::mount(directory.path(), 64);
    let data = disk.0.join("data");
    let flags = [
        ["--data", data.to_str().expect("a path")],
        ["--isolation", "process"],
        ["--log-store-mb", "4"],
    ];
    let mut server = Server::with(
        VIRGA,
        Options {
            flags: flags.concat().into_iter().map(str::to_owned).collect(),
            // Others need the disk, too.
            errors: true,
            data: Some(data),
            ..Options::default()
        },
    );
    let objects = server.objects();
    objects.ok("PUT", BUCKET, &[], b"");
    let (large, small) = (vec![7; 4 * MB], vec![8; 8 << 10]);
    assert!(put(&objects, "large", &large) && put(&objects, "other", &large));
    let filler = disk.fill();
    // An acknowledged object is stored, however little free space is left.
    let mut kept = Vec::new();
    for number in 0.. {
        let key = format!("small/{number}");
        if !put(&objects, &key, &small) {
            assert!(get(&objects, &key).is_none());
            break;
        }
        kept.push(key);
    }
    assert!(!put(&objects, "more", &large));
    let id = try_begin(&objects, "parts");
    assert!(id.is_none(), "an upload is something new");
    assert!(get(&objects, "large").is_some_and(|got| got == large));
    assert!(get(&objects, "more").is_none());
    let listed = objects.ok("GET", BUCKET, &[], b"");
    assert!(listed.contains("<Key>large</Key>"), "{listed}");
    eventually("nothing is left of the refused objects", || {
        files(&server) == 2
    });
    // Deleting frees space.
    objects.ok("DELETE", &path("other"), &[], b"");
    assert!(get(&objects, "other").is_none());
    eventually("there is free space again", || {
        put(&objects, "after", &small)
    });
    drop(filler);
    eventually("there is much free space", || put(&objects, "more", &large));
    server.terminate();
    server.restart();
    let objects = server.objects();
    for key in ["large", "more"] {
        assert!(get(&objects, key).is_some_and(|got| got == large), "{key}");
    }
    kept.push("after".to_owned());
    for key in &kept {
        assert!(get(&objects, key).is_some_and(|got| got == small), "{key}");
    }
    assert!(get(&objects, "other").is_none());
    assert_eq!(files(&server), 2);
}

fn try_begin(objects: &Objects, key: &str) -> Option<String> {
    let path = path(&format!("{key}?uploads"));
    accepts(objects, "POST", &path, b"").then_some(path)
}

#[test]
fn truncated_upload_leaves_nothing() {
    let mut server = Server::start(VIRGA);
    let objects = server.objects();
    objects.ok("PUT", BUCKET, &[], b"");
    let id = begin(&objects, "parts");
    let part = path(&format!("parts?partNumber=1&uploadId={id}"));
    let body = vec![7; 4 * MB];
    for to in [&path("a"), &part] {
        objects.send_truncated("PUT", to, 8 * MB, &body);
    }
    objects.send_truncated("POST", &path("log?append&position=0"), 8 * MB, &body);
    eventually("nothing is left", || files(&server) == 0);
    let nothing = |server: &Server, objects: &Objects| {
        for key in ["a", "parts", "log"] {
            assert!(get(objects, key).is_none(), "{key}");
        }
        let parts = objects.ok("GET", &path(&format!("parts?uploadId={id}")), &[], b"");
        assert!(!parts.contains("<Part>"), "{parts}");
        // A file is away a moment before its bytes are free, and an answer says how many are in use.
        eventually("its bytes are free", || {
            assert!(get(objects, "a").is_none());
            let page = server.client().metric("virga_bucket_store_bytes");
            page.is_some_and(|bytes| bytes < MB as f64)
        });
    };
    nothing(&server, &objects);
    // Now it is virga that breaks off.
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let endless = vec![7; 256 * MB];
            objects.attempt("PUT", &path("a"), &[], &endless)
        });
        eventually("some of it has arrived", || files(&server) > 0);
        server.kill();
        assert!(sender.join().expect("it sent").is_none());
    });
    server.restart();
    eventually("nothing is left", || files(&server) == 0);
    nothing(&server, &server.objects());
}

/// The most memory that a process has used since it was last asked, bytes.
fn most_memory(process: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let words = line.expect("a number").split_whitespace().next();
    let most = words.and_then(|kb| kb.parse::<usize>().ok()).expect("kB");
    fs::write(format!("/proc/{process}/clear_refs"), "5").expect("begun again");
    most << 10
}

#[test]
fn a_large_object_does_not_pass_through_memory() {
    let server = Server::start(VIRGA);
    let objects = server.objects();
    objects.ok("PUT", BUCKET, &[], b"");
    objects.ok("PUT", &path("warm"), &[], &vec![7; MB]);
    most_memory(server.pid());
    let before = most_memory(server.pid());
    let body = vec![7; 256 * MB];
    assert!(put(&objects, "one", &body));
    let id = begin(&objects, "many");
    let mut parts = String::new();
    for (number, part) in (1..).zip(body.chunks(64 * MB)) {
        let to = path(&format!("many?partNumber={number}&uploadId={id}"));
        objects.ok("PUT", &to, &[], part);
    }
    let listed = objects.ok("GET", &path(&format!("many?uploadId={id}")), &[], b"");
    for (number, part) in (1..).zip(listed.split("<ETag>").skip(1)) {
        let etag = part.split_once('<').expect("its end").0;
        parts += &format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>");
    }
    let named = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    let whole = path(&format!("many?uploadId={id}"));
    objects.ok("POST", &whole, &[], named.as_bytes());
    for key in ["one", "many"] {
        assert!(get(&objects, key).is_some_and(|got| got == body), "{key}");
    }
    let grown = most_memory(server.pid()).saturating_sub(before);
    assert!(grown < 48 * MB, "{} MB more than before", grown / MB);
}
