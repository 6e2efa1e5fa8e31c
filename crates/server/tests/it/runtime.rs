//! What a function sees, and what its caller sees when it fails.

mod output;
mod random_numbers;

use serde_json::{Value, json};
use testkit::{Client, Options, Server, programs};

use crate::urls::logged;
use crate::{VIRGA, server};

fn create(client: &Client, name: &str, source: &str) {
    client.create(name, source, json!({}));
}

/// Creates a function, invokes it once, and gives its result with the parsed error document.
fn failing(client: &Client, name: &str, source: &str, more: Value) -> (Value, Value) {
    client.create(name, source, more);
    let result = client.invoke(name, &json!({}));
    let document =
        serde_json::from_str(result["RetMsg"].as_str().expect("text")).expect("a document");
    (result, document)
}

#[test]
fn a_handler_gets_its_event_context_environment_and_paths() {
    let server = server();
    let client = server.client();
    let source = r#"
import os, sys
def main_handler(event, context):
    assert type(event) is dict and type(context) is dict
    return {
        "event": event, "context": context, "env": dict(os.environ), "cwd": os.getcwd(), "file": __file__,
        "path": sys.path[:2], "uid": os.getuid(),
    }
"#;
    let more = json!({"Environment": {"Variables": [{"Key": "COLOUR", "Value": "gr\u{fc}n"}]}, "MemorySize": 256, "Timeout": 7});
    client.create("about", source, more);
    let event = json!({"a": [1, 2.5, null, "\u{4f60}\u{597d}"]});
    let got = client.answer("about", &event);
    assert_eq!(got["event"], event);
    let context = &got["context"];
    for (key, value) in [
        ("memory_limit_in_mb", json!(256)),
        ("time_limit_in_ms", json!(7000)),
        ("function_name", json!("about")),
        ("function_version", json!("$LATEST")),
        ("namespace", json!("default")),
        ("tencentcloud_region", json!("ap-guangzhou")),
        ("tencentcloud_appid", json!("1250000000")),
        ("tencentcloud_uin", json!("100000000001")),
        (
            "environ",
            json!("COLOUR=gr\u{fc}n;SCF_NAMESPACE=default;SCF_NAMESPACE=default"),
        ),
    ] {
        assert_eq!(context[key], value, "{key}");
    }
    assert_eq!(context["request_id"].as_str().map(str::len), Some(36));
    let environment: Value =
        serde_json::from_str(context["environment"].as_str().expect("text")).expect("JSON");
    assert_eq!(
        environment,
        json!({"COLOUR": "gr\u{fc}n", "SCF_NAMESPACE": "default"})
    );
    for (key, value) in [
        ("COLOUR", "gr\u{fc}n"),
        ("TENCENTCLOUD_RUNENV", "SCF"),
        ("TENCENTCLOUD_REGION", "ap-guangzhou"),
        ("SCF_FUNCTIONNAME", "about"),
        ("SCF_FUNCTIONVERSION", "$LATEST"),
        ("SCF_NAMESPACE", "default"),
        ("_SCF_SERVER_PORT", "28902"),
        ("USER_CODE_ROOT", "/var/user/"),
        ("PYTHONPATH", "/var/user:/opt"),
        ("HOME", "/home/qcloud"),
        ("USER", "qcloud"),
    ] {
        assert_eq!(got["env"][key], value, "{key}");
    }
    assert_eq!(got["cwd"], "/var/user");
    assert_eq!(got["file"], "/var/user/index.py");
    assert_eq!(got["path"], json!(["/var/user", "/opt"]));
    assert_ne!(got["uid"], 0);
    // Without an event there is an empty one.
    let bare = client.ok("Invoke", &json!({"FunctionName": "about"}));
    let answer: Value =
        serde_json::from_str(bare["Result"]["RetMsg"].as_str().expect("text")).expect("JSON");
    assert_eq!(answer["event"], json!({}));
}

#[test]
fn a_module_lives_as_long_as_its_instance_and_answers_are_json() {
    let server = server();
    let client = server.client();
    create(
        &client,
        "count",
        "n = 0\ndef main_handler(e, c):\n    global n\n    n += 1\n    return n\n",
    );
    let counts: Vec<_> = (0..3).map(|_| client.answer("count", &json!({}))).collect();
    assert_eq!(counts, [1, 2, 3]);
    create(&client, "echo", "def main_handler(e, c):\n    return e\n");
    for value in [
        json!("ok"),
        json!(null),
        json!([1, "\u{1f327}"]),
        json!(1.5),
        json!({"k": true}),
    ] {
        assert_eq!(client.answer("echo", &value), value);
    }
    let result = client.invoke("echo", &json!("ok"));
    assert_eq!(result["RetMsg"], "\"ok\"");
    assert_eq!(result["ErrMsg"], "");
    assert!(result["Duration"].as_f64().is_some_and(|ms| ms > 0.0));
    assert!(result["BillDuration"].as_i64().is_some_and(|ms| ms >= 1));
    assert!(
        result["MemUsage"]
            .as_i64()
            .is_some_and(|bytes| bytes > 100_000)
    );
}

#[test]
fn each_failure_has_its_code_and_a_helpful_message() {
    let server = server();
    let client = server.client();
    let fast = json!({"Timeout": 1});
    let starts_fast = json!({"InitTimeout": 1});
    let small = json!({"MemorySize": 64, "Timeout": 30});
    let other = json!({"Handler": "missing.main_handler"});
    let rows: &[(&str, &str, &Value, u16, &str)] = &[
        ("no-file", "", &other, 437, "missing.py not found"),
        (
            "no-function",
            "x = 1",
            &json!({}),
            437,
            "main_handler not found in index.py",
        ),
        ("syntax", "def main_handler(:\n", &json!({}), 443, "caught"),
        (
            "bad-import",
            "import nothing_of_this_name",
            &json!({}),
            430,
            "caught",
        ),
        (
            "raises",
            "def main_handler(e, c):\n    raise ValueError('wrong')",
            &json!({}),
            430,
            "user code exception caught",
        ),
        (
            "not-json",
            "def main_handler(e, c):\n    return object()",
            &json!({}),
            430,
            "caught",
        ),
        (
            "sys-exit",
            "import sys\ndef main_handler(e, c):\n    sys.exit(3)",
            &json!({}),
            439,
            "code 3",
        ),
        (
            "os-exit",
            "import os\ndef main_handler(e, c):\n    os._exit(4)",
            &json!({}),
            439,
            "code 4",
        ),
        (
            "exit-early",
            "import sys\nsys.exit(5)",
            &json!({}),
            439,
            "initializing, with code 5",
        ),
        (
            "segfault",
            "import ctypes\ndef main_handler(e, c):\n    ctypes.string_at(0)",
            &json!({}),
            439,
            "signal 11",
        ),
        (
            "slow",
            "import time\ndef main_handler(e, c):\n    time.sleep(60)",
            &fast,
            433,
            "Invoking task timed out after 1 seconds",
        ),
        (
            "spins",
            "def main_handler(e, c):\n    while True: pass",
            &fast,
            433,
            "timed out after 1 seconds",
        ),
        (
            "slow-start",
            "import time\ntime.sleep(60)",
            &starts_fast,
            450,
            "timed out after 1 seconds",
        ),
        (
            "greedy",
            "def main_handler(e, c):\n    x = bytearray(200 << 20)\n    x[::4096] = b'1' * len(x[::4096])",
            &small,
            434,
            "64 MB",
        ),
        (
            "greedy-start",
            "x = bytearray(200 << 20)\nx[::4096] = b'1' * len(x[::4096])",
            &small,
            434,
            "64 MB",
        ),
        (
            "long-answer",
            "def main_handler(e, c):\n    return 'x' * (6 << 20)",
            &json!({}),
            407,
            "6291456",
        ),
    ];
    for (name, source, more, status, message) in rows {
        let (result, document) = failing(&client, name, source, (*more).clone());
        assert_eq!(document["statusCode"], *status, "{name}: {result}");
        assert_eq!(document["errorCode"], -1, "{name}");
        assert_eq!(document["requestId"], result["FunctionRequestId"], "{name}");
        assert_eq!(result["InvokeResult"], 1, "{name}");
        assert_eq!(result["ErrMsg"], result["RetMsg"], "{name}");
        let said = document["errorMessage"].as_str().expect("a message");
        assert!(said.contains(message), "{name}: {said}");
        let log = result["Log"].as_str().expect("a log");
        assert!(log.contains("ERROR RequestId:"), "{name}: {log}");
        // The next request finds a working platform.
        let again = client.invoke(name, &json!({}));
        let document: Value =
            serde_json::from_str(again["RetMsg"].as_str().expect("text")).expect("JSON");
        assert_eq!(
            document["statusCode"], *status,
            "{name}, the second time: {again}"
        );
    }
}

#[test]
fn an_exception_shows_the_users_own_stack() {
    let server = server();
    let client = server.client();
    let source =
        "def inner():\n    raise ValueError('wrong')\ndef main_handler(e, c):\n    inner()\n";
    let (_, document) = failing(&client, "raises", source, json!({}));
    let stack = document["stackTrace"].as_str().expect("a stack");
    assert!(stack.starts_with("Traceback (most recent call last):\n  File \"/var/user/index.py\", line 4, in main_handler\n"), "{stack}");
    assert!(
        stack.contains("line 2, in inner") && stack.ends_with("ValueError: wrong\n"),
        "{stack}"
    );
    let (_, document) = failing(&client, "syntax", "def main_handler(:\n", json!({}));
    let stack = document["stackTrace"].as_str().expect("a stack");
    assert!(
        stack.contains("/var/user/index.py\", line 1") && stack.contains("SyntaxError"),
        "{stack}"
    );
}

#[test]
fn an_instance_survives_exceptions_and_not_its_own_exit() {
    let server = server();
    let client = server.client();
    let source = r#"
import os
n = 0
def main_handler(event, context):
    global n
    n += 1
    if event.get("raise"): raise ValueError
    if event.get("exit"): os._exit(0)
    return n
"#;
    create(&client, "moody", source);
    assert_eq!(client.answer("moody", &json!({})), 1);
    assert_eq!(
        client.invoke("moody", &json!({"raise": 1}))["InvokeResult"],
        1
    );
    assert_eq!(client.answer("moody", &json!({})), 3);
    assert_eq!(
        client.invoke("moody", &json!({"exit": 1}))["InvokeResult"],
        1
    );
    assert_eq!(client.answer("moody", &json!({})), 1);
}

#[test]
fn events_are_json_within_their_size() {
    let server = server();
    let client = server.client();
    create(
        &client,
        "size",
        "def main_handler(e, c):\n    return len(e)\n",
    );
    let invoke = |context: &str| {
        client.call(
            "Invoke",
            &json!({"FunctionName": "size", "ClientContext": context}),
        )
    };
    let refused = invoke("{not json").expect_err("refused");
    assert_eq!(refused.code, "InvalidParameterValue.ClientContext");
    assert!(
        refused.message.starts_with("ClientContext: it is not JSON"),
        "{}",
        refused.message
    );
    let limit = 6 << 20;
    let fits = format!("\"{}\"", "x".repeat(limit - 2));
    assert_eq!(
        invoke(&fits).expect("it fits")["Result"]["RetMsg"],
        (limit - 2).to_string()
    );
    let refused = invoke(&format!("{fits} ")).expect_err("refused");
    assert_eq!(refused.code, "InvalidParameter.RequestTooLarge");
    assert!(refused.message.contains("6291456"), "{}", refused.message);
    let refused = client
        .call(
            "InvokeFunction",
            &json!({"FunctionName": "size", "Event": "nope"}),
        )
        .expect_err("refused");
    assert_eq!(refused.code, "InvalidParameter.Payload");
}

#[test]
fn function_runs_unprivileged_on_a_read_only_root() {
    let server = server();
    let client = server.client();
    let source = r#"
import os, socket
def attempt(what):
    try:
        return what() or "done"
    except Exception as e:
        return type(e).__name__
def write(path):
    with open(path, "w") as f: f.write("x")
def main_handler(event, context):
    status = open("/proc/self/status").read()
    field = lambda name: [l.split(":")[1].strip() for l in status.splitlines() if l.startswith(name + ":")][0]
    return {
        "code": attempt(lambda: write("/var/user/index.py")), "root": attempt(lambda: write("/x")),
        "usr": attempt(lambda: write("/usr/x")), "tmp": attempt(lambda: write("/tmp/x")),
        "shadow": attempt(lambda: open("/etc/shadow").read()), "root_home": attempt(lambda: os.listdir("/root")),
        "mount": attempt(lambda: os.system("mount -t tmpfs x /tmp 2>/dev/null") and "refused"),
        "net": attempt(lambda: socket.create_connection(("1.1.1.1", 53), 1) and "connected"),
        "processes": len([p for p in os.listdir("/proc") if p.isdigit()]),
        "caps": field("CapEff") + field("CapBnd"), "no_new_privs": field("NoNewPrivs"), "seccomp": field("Seccomp"),
        "hostname": socket.gethostname(),
    }
"#;
    create(&client, "prisoner", source);
    let got = client.answer("prisoner", &json!({}));
    for (what, expected) in [
        ("code", "OSError"),
        ("root", "OSError"),
        ("usr", "OSError"),
        ("tmp", "done"),
        ("mount", "refused"),
        ("net", "OSError"),
    ] {
        let seen = got[what].as_str().expect("text");
        let refused = expected == "OSError"
            && matches!(
                seen,
                "PermissionError" | "FileNotFoundError" | "timeout" | "TimeoutError"
            );
        assert!(seen == expected || refused, "{what}: {got}");
    }
    assert!(
        matches!(
            got["shadow"].as_str(),
            Some("FileNotFoundError" | "PermissionError")
        ),
        "{got}"
    );
    // Where interpreters lie in a home directory, the way to them is there and nothing else.
    let listed = got["root_home"]
        .as_array()
        .is_some_and(|names| names.iter().all(|name| name == ".pyenv"));
    assert!(
        listed
            || matches!(
                got["root_home"].as_str(),
                Some("FileNotFoundError" | "PermissionError")
            ),
        "{got}"
    );
    assert_eq!(got["processes"], 1, "itself alone: {got}");
    assert_eq!(got["caps"], "0".repeat(32), "{got}");
    assert_eq!(
        (got["no_new_privs"].as_str(), got["seccomp"].as_str()),
        (Some("1"), Some("2")),
        "{got}"
    );
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    assert_ne!(got["hostname"], host.trim());
}

#[test]
fn a_runtime_that_is_absent_is_served_by_a_newer_one_or_refused() {
    let python = std::fs::canonicalize("/usr/bin/python3").expect("a Python");
    let python = python.to_str().expect("a path");
    let server = Server::flags(VIRGA, &["--python", python]);
    let client = server.client();
    client.create(
        "old",
        "import sys\ndef main_handler(e, c):\n    return sys.version_info[:2]\n",
        json!({"Runtime": "Python3.1"}),
    );
    let shown = client.ok("GetFunction", &json!({"FunctionName": "old"}));
    assert_eq!(shown["Runtime"], "Python3.1");
    let reason = shown["StatusReasons"][0]["ErrorMessage"]
        .as_str()
        .expect("a reason")
        .to_owned();
    assert!(
        reason.starts_with("Python3.1 is not installed on this host; Python3."),
        "{reason}"
    );
    let result = client.invoke("old", &json!({}));
    assert!(
        result["Log"]
            .as_str()
            .is_some_and(|log| log.contains(&format!("[PLATFORM] {reason}"))),
        "{result}"
    );
    let refused = client.call("CreateFunction", &json!({
        "FunctionName": "new", "Runtime": "Python3.99", "Code": {"ZipFile": testkit::package(&[("index.py", "")])},
    }));
    let refused = refused.expect_err("refused");
    assert_eq!(refused.code, "InvalidParameterValue.Runtime");
    assert!(
        refused
            .message
            .contains("Python3.99 is not installed; this host has Python3."),
        "{}",
        refused.message
    );
    drop(server);
    let flags = ["--python", python, "--runtime-fallback", "false"]
        .map(str::to_owned)
        .to_vec();
    let strict = Server::with(
        VIRGA,
        Options {
            flags,
            errors: false,
            ..Options::default()
        },
    );
    let request = json!({
        "FunctionName": "old", "Runtime": "Python3.1", "Code": {"ZipFile": testkit::package(&[("index.py", "")])},
    });
    assert_eq!(
        strict.client().code("CreateFunction", &request),
        "InvalidParameterValue.Runtime"
    );
}

#[test]
fn processes_files_and_the_disk_of_an_instance_are_bounded() {
    let server = Server::flags(VIRGA, &["--limits", "pids=32,tmp_mb=16,open_files=64"]);
    let client = server.client();
    let source = r#"
import os, time
def attempt(what):
    try:
        return what()
    except OSError as e:
        return e.strerror
def bomb():
    n = 0
    while True:
        try:
            pid = os.fork()
        except OSError as e:
            return [n, e.strerror]
        if pid == 0:
            time.sleep(600)
            os._exit(0)
        n += 1
def fill():
    with open("/tmp/full", "wb") as f:
        while True: f.write(b"x" * (1 << 20))
def open_all():
    kept = []
    while True: kept.append(open("/dev/null"))
def main_handler(event, context):
    return {"disk": attempt(fill), "files": attempt(open_all), "processes": bomb()}
"#;
    client.create("greedy", source, json!({"Timeout": 30}));
    let got = client.answer("greedy", &json!({}));
    assert_eq!(got["disk"], "No space left on device", "{got}");
    assert_eq!(got["files"], "Too many open files", "{got}");
    assert_eq!(
        got["processes"][1], "Resource temporarily unavailable",
        "{got}"
    );
    assert!(
        got["processes"][0]
            .as_u64()
            .is_some_and(|n| (20..32).contains(&n)),
        "{got}"
    );
    // Its neighbours notice nothing.
    create(
        &client,
        "modest",
        "def main_handler(e, c):\n    return 'fine'\n",
    );
    assert_eq!(client.answer("modest", &json!({})), "fine");
}
