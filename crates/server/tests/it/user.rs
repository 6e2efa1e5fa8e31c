//! An ordinary user runs virga with full isolation, or gets a list of the missing requirements.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use testkit::{Options, Server, eventually};

use crate::VIRGA;

fn by_a_user() -> Server {
    let options = Options {
        user: true,
        ..Options::default()
    };
    Server::with(VIRGA, options)
}

#[test]
fn an_ordinary_user_has_instances_with_users_and_limits_of_their_own() {
    let mut server = by_a_user();
    let client = server.client();
    let source = "import os\ndef main_handler(e, c):\n    return [os.getuid(), sorted(os.listdir('/proc/self/task')), os.path.exists('/root')]\n";
    client.create("who", source, json!({}));
    let answer = client.invoke("who", &json!({}));
    let found: (u32, Vec<String>, bool) =
        serde_json::from_str(answer["RetMsg"].as_str().expect("text")).expect("JSON");
    assert!((1000..66_000).contains(&found.0), "{found:?}");
    assert_eq!((found.1, found.2), (vec!["2".to_owned()], false));
    let source =
        "def main_handler(e, c):\n    kept = []\n    while True: kept.append(bytearray(1 << 20))\n";
    client.create(
        "takes-all",
        source,
        json!({"MemorySize": 64, "Timeout": 60}),
    );
    let answer = client.invoke("takes-all", &json!({}));
    let failure = answer["ErrMsg"].as_str().expect("text");
    assert!(failure.contains("\"statusCode\":434"), "{answer}");
    let used = answer["MemUsage"].as_u64().expect("bytes");
    assert!((60 << 20..=64 << 20).contains(&used), "{used}");
    assert!(!server.processes().is_empty());
    // Asserts that nothing of it is left.
    assert!(server.terminate().success());
}

#[test]
fn process_isolation_is_logged_and_reported() {
    for user in [false, true] {
        let flags = ["--isolation", "process"].map(str::to_owned).to_vec();
        let mut server = Server::with(
            VIRGA,
            Options {
                flags,
                user,
                ..Options::default()
            },
        );
        server.expect("failed to start an instance");
        assert!(
            server
                .log()
                .contains("run no code here that you do not trust")
        );
        let client = server.client();
        let source = "import os, socket, tempfile\n\
            def attempt(run):\n    try: return run()\n    except OSError as e: return e.strerror\n\
            def main_handler(e, c):\n    if 'mb' in e: return len(bytearray(e['mb'] << 20))\n    f = tempfile.NamedTemporaryFile()\n    f.write(b'x')\n    return [os.getcwd(), attempt(lambda: os.listdir(e['data'])), attempt(lambda: open('/var/tmp/virga', 'w')), attempt(lambda: os.kill(e['virga'], 0)), os.environ['VIRGA_ENDPOINT']]\n";
        client.create("plain", source, json!({"Timeout": 20, "MemorySize": 128}));
        let event = json!({"data": server.data(), "virga": server.pid()});
        let answer = client.invoke("plain", &event);
        let text = answer["RetMsg"].as_str().expect("text");
        let found: Vec<Option<String>> =
            serde_json::from_str(text).unwrap_or_else(|_| panic!("{answer}"));
        let found: Vec<&str> = found
            .iter()
            .map(|one| one.as_deref().unwrap_or_default())
            .collect();
        let data = server.data();
        assert!(
            found[0].starts_with(data.to_str().expect("a path")),
            "{found:?}"
        );
        assert_eq!(found[1..3], ["Permission denied"; 2], "{found:?}");
        // Since Linux 6.12 landlock keeps signals in, too.
        let knows_signals =
            server.log().contains("; version 6") || server.log().contains("; version 7");
        if knows_signals {
            assert_eq!(found[3], "Operation not permitted", "{found:?}");
        }
        assert!(found[4].starts_with("http://127.0.0.1:"), "{found:?}");
        assert!(answer["MemUsage"].as_u64().expect("bytes") > 1 << 20);
        assert!(
            answer["Log"]
                .as_str()
                .expect("text")
                .contains("not isolated"),
            "{answer}"
        );
        let answer = client.invoke("plain", &json!({"mb": 200}));
        assert!(
            answer["ErrMsg"]
                .as_str()
                .expect("text")
                .contains("MemoryError"),
            "{answer}"
        );
        let offline = json!({"PublicNetConfig": {"PublicNetStatus": "DISABLE", "EipConfig": {"EipStatus": "DISABLE"}}});
        client.create("offline", source, offline);
        let answer = client.call("Invoke", &json!({"FunctionName": "offline"}));
        // Its network cannot be removed, so it does not run.
        let answered = format!("{answer:?}");
        assert!(answered.contains("failed to start"), "{answered}");
        assert!(server.log().contains("DISABLE is not available with"));
        assert!(server.terminate().success());
        let temporary = server.data().join("run/tmp");
        assert_eq!(fs::read_dir(temporary).map_or(0, Iterator::count), 0);
    }
}

#[test]
fn nothing_outlives_a_user_s_virga_that_was_killed() {
    let mut server = by_a_user();
    let client = server.client();
    client.create(
        "stays",
        "def main_handler(e, c):\n    return 1\n",
        json!({}),
    );
    client.invoke("stays", &json!({}));
    server.kill();
    eventually("its instances end", || server.processes().is_empty());
}

#[test]
fn missing_user_privileges_are_named_with_the_fix() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    fs::set_permissions(path, Permissions::from_mode(0o755)).expect("opened");
    let binary = path.join("virga");
    fs::copy(VIRGA, &binary).expect("a copy that the user can read");
    let mut stranger = Server::command("setpriv");
    stranger
        .args(["--reuid", "29997", "--regid", "29997", "--clear-groups"])
        .arg(&binary);
    let mut known = Server::command(testkit::AS_USER);
    known.arg("29996").arg(path).arg("-").arg(&binary);
    let rows = [
        (&mut stranger, "privilege", "usermod --add-subuids"),
        (&mut known, "control groups", "as root"),
    ];
    for (command, name, fix) in rows {
        let done = command
            .args(["doctor", "--json"])
            .output()
            .expect("it runs");
        assert_eq!(done.status.code(), Some(1));
        let findings: Vec<Value> = serde_json::from_slice(&done.stdout).expect("JSON");
        let one = findings.iter().find(|one| one["name"] == name);
        let one = one.expect("looked at");
        assert_eq!(one["ok"], false, "{one}");
        assert!(one["detail"].as_str().expect("text").contains(fix), "{one}");
    }
    let mut up = Server::command(testkit::AS_USER);
    up.arg("29996").arg(path).arg("-").arg(&binary);
    let done = up.args(["up", "--listen", "127.0.0.1:0"]).output();
    let text = String::from_utf8_lossy(&done.expect("it runs").stderr).into_owned();
    assert!(text.contains("--network internal"), "{text}");
}
