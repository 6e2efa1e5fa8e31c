//! Temporary files: a bounded disk of an instance's own, whatever its memory, that leaves nothing.

use std::fs;
use std::path::Path;
use std::thread;

use serde_json::{Value, json};
use testkit::{Client, Options, Server, eventually};

use crate::disk::Disk;
use crate::{VIRGA, server};

/// Does what its event says: writes so many megabytes of one byte, or as many as fit, reads them, lists.
const TMP: &str = r#"
import errno, hashlib, os, time
def write(name, mb, byte):
    block, done = bytes([byte]) * (1 << 20), 0
    with open(name, "wb", 0) as file:
        while mb is None or done < mb << 20:
            try:
                done += file.write(block)
            except OSError as e:
                return [done, errno.errorcode[e.errno]]
    return [done, None]
def main_handler(event, context):
    said = {"before": sorted(os.listdir("/tmp")), "pid": os.getpid()}
    if "name" in event:
        name = "/tmp/" + event["name"]
        said["written"] = write(name, event.get("mb"), event.get("byte", 7))
        if "until" in event:
            time.sleep(event["until"])
        sums = hashlib.md5()
        with open(name, "rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                sums.update(block)
        said["sum"] = sums.hexdigest()
    if event.get("deep"):
        os.makedirs("/tmp/deep", exist_ok=True)
        os.chdir("/tmp/deep")
        for _ in range(3000):
            os.mkdir("d")
            os.chdir("d")
        os.chdir("/")
    status = os.stat("/tmp")
    said["mode"] = status.st_mode & 0o7777
    said["own"] = status.st_uid == os.getuid() and os.access("/tmp", os.W_OK)
    return said
"#;

const MB: u64 = 1 << 20;

fn small(client: &Client, name: &str) {
    let settings = json!({"MemorySize": 128, "Timeout": 60});
    client.create(name, TMP, settings);
}

fn written(answer: &Value) -> (u64, &Value) {
    let bytes = answer["written"][0].as_u64().expect("a number");
    (bytes, &answer["written"][1])
}

/// MD5 of so many megabytes of one byte.
fn sum(client: &Client, mb: u64, byte: u8) -> Value {
    let source = "import hashlib\ndef main_handler(e, c):\n    s = hashlib.md5()\n    for _ in range(e['mb']): s.update(bytes([e['byte']]) * (1 << 20))\n    return s.hexdigest()\n";
    if client.code("GetFunction", &json!({"FunctionName": "sum"})) == "ResourceNotFound.Function" {
        client.create("sum", source, json!({"Timeout": 60}));
    }
    client.answer("sum", &json!({"mb": mb, "byte": byte}))
}

/// Loop devices whose files lie, or lay, below a directory.
fn devices(directory: &Path) -> Vec<String> {
    let all = fs::read_dir("/sys/block").expect("/sys").flatten();
    let files =
        all.filter_map(|device| fs::read_to_string(device.path().join("loop/backing_file")).ok());
    let below = directory.to_string_lossy().into_owned();
    files.filter(|file| file.contains(&below)).collect()
}

#[test]
fn small_function_has_512_mb_of_tmp() {
    let mut server = server();
    let client = server.client();
    small(&client, "tmp");
    let answer = client.answer("tmp", &json!({"name": "a", "mb": 200, "byte": 65}));
    assert_eq!(written(&answer), (200 * MB, &Value::Null));
    assert_eq!(answer["sum"], sum(&client, 200, 65));
    assert_eq!(answer["mode"], 0o700);
    assert_eq!(answer["own"], true);
    // The same file again, and then as many as fit.
    let answer = client.answer("tmp", &json!({"name": "a"}));
    assert_eq!(answer["before"], json!(["a"]));
    let (bytes, error) = written(&answer);
    assert_eq!(error, "ENOSPC");
    assert!((512 * MB..513 * MB).contains(&bytes), "{bytes}");
    // It goes on, and others have not noticed.
    let answer = client.answer("tmp", &json!({"name": "a", "mb": 1, "byte": 66}));
    assert_eq!(answer["sum"], sum(&client, 1, 66));
    small(&client, "other");
    assert_eq!(client.answer("other", &json!({}))["before"], json!([]));
    assert!(!devices(&server.data()).is_empty());
    assert!(server.terminate().success());
    eventually("no device is left", || devices(&server.data()).is_empty());
}

#[test]
fn tmp_of_a_new_instance_is_empty() {
    let server = server();
    let client = server.client();
    for round in 0..8 {
        let name = format!("tmp-{round}");
        small(&client, &name);
        let event = json!({"name": "secret", "mb": 1 + 20 * (round % 2), "deep": round % 3 == 0});
        let answer = client.answer(&name, &event);
        assert_eq!(answer["before"], json!([]), "{round}");
        client.ok("DeleteFunction", &json!({"FunctionName": name}));
    }
}

#[test]
fn concurrent_instances_have_separate_tmp() {
    let server = server();
    let client = server.client();
    small(&client, "tmp");
    let calls: Vec<_> = [(65, 90), (66, 90)]
        .map(|(byte, mb)| {
            let client = client.clone();
            let event = json!({"name": "same", "mb": mb, "byte": byte, "until": 1});
            thread::spawn(move || (byte, client.answer("tmp", &event)))
        })
        .into();
    for call in calls {
        let (byte, answer) = call.join().expect("no panic");
        assert_eq!(answer["before"], json!([]));
        assert_eq!(answer["sum"], sum(&client, 90, byte));
    }
}

#[test]
fn no_tmp_disk_remains_after_a_kill() {
    let mut server = server();
    let client = server.client();
    small(&client, "tmp");
    client.answer("tmp", &json!({"name": "left", "mb": 30}));
    eventually("it is frozen", || {
        client.metric("virga_instances{state=\"frozen\"}") == Some(1.0)
    });
    assert!(!devices(&server.data()).is_empty());
    server.kill();
    eventually("no device is left", || devices(&server.data()).is_empty());
    let run = server.data().join("run/disks");
    assert_eq!(fs::read_dir(&run).expect("there").count(), 0);
    server.restart();
    let client = server.client();
    let answer = client.answer("tmp", &json!({"name": "left", "mb": 1}));
    assert_eq!(answer["before"], json!([]));
}

#[test]
fn instance_with_a_full_tmp_leaves_space_for_others() {
    let server = Server::flags(VIRGA, &["--tmp-total-mb", "300"]);
    let client = server.client();
    small(&client, "greedy");
    small(&client, "modest");
    let (bytes, error) = {
        let answer = client.answer("greedy", &json!({"name": "all"}));
        let (bytes, error) = written(&answer);
        (bytes, error.clone())
    };
    assert_eq!(error, "ENOSPC");
    assert!((100 * MB..=300 * MB).contains(&bytes), "{bytes}");
    let answer = client.answer("modest", &json!({"name": "few", "mb": 10, "byte": 70}));
    assert_eq!(answer["sum"], sum(&client, 10, 70));
    // What it had is free when it has gone.
    client.ok("DeleteFunction", &json!({"FunctionName": "greedy"}));
    eventually("there is free space again", || {
        let answer = client.answer("modest", &json!({"name": "more", "mb": 100}));
        written(&answer) == (100 * MB, &Value::Null)
    });
}

#[test]
fn tmp_never_fills_the_disk_of_the_host() {
    let place = tempfile::tempdir().expect("a directory");
    let disk = Disk::mount(place.path(), 400);
    let server = Server::with(
        VIRGA,
        Options {
            flags: vec![
                "--data".into(),
                disk.0.join("data").to_string_lossy().into_owned(),
                "--tmp-total-mb".into(),
                "100000".into(),
            ],
            data: Some(disk.0.join("data")),
            // Its own stores have no free space either, for a while.
            errors: true,
            ..Options::default()
        },
    );
    let client = server.client();
    small(&client, "tmp");
    let answer = client.answer("tmp", &json!({"name": "all"}));
    let (bytes, error) = written(&answer);
    assert_eq!(error, "ENOSPC", "{answer}");
    assert!(bytes < 400 * MB, "{bytes}");
    // virga has space for its own stores.
    small(&client, "another");
    let answer = client.answer("another", &json!({"name": "x", "mb": 1}));
    assert_eq!(answer["before"], json!([]));
    // A disk filled by others: functions get an error, and virga goes on.
    let full = disk.fill();
    let answer = client.answer("another", &json!({"name": "y"}));
    assert_eq!(written(&answer).1, "ENOSPC", "{answer}");
    drop(full);
}

#[test]
fn tmp_in_memory_counts_as_memory_of_the_function() {
    let server = Server::flags(VIRGA, &["--tmp-total-mb", "0"]);
    let client = server.client();
    small(&client, "tmp");
    let answer = client.answer("tmp", &json!({"name": "a", "mb": 20}));
    assert_eq!(written(&answer), (20 * MB, &Value::Null));
    assert!(devices(&server.data()).is_empty());
    let result = client.invoke("tmp", &json!({"name": "b", "mb": 200}));
    assert!(
        result["ErrMsg"]
            .as_str()
            .is_some_and(|text| text.contains("434")),
        "{result}"
    );
}
