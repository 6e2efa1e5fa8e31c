//! Functions that are not Python: programs of users' own, and Node.js.

use std::process::Command;

use serde_json::{Value, json};
use testkit::{Client, Server, base64, eventually, package, programs, zip};

use crate::{VIRGA, server};

/// A program that echoes its events, in the shell.
const ECHO: &str = r#"#!/bin/bash
api="http://$SCF_RUNTIME_API:$SCF_RUNTIME_API_PORT/runtime"
echo loading
curl -s -X POST -d ' ' "$api/init/ready"
while true; do
    event=$(curl -s -D /tmp/headers "$api/invocation/next")
    echo "got $event"
    id=$(sed -n 's/^request_id: *//p' /tmp/headers | tr -d '\r')
    limits=$(sed -n 's/^\(memory_limit_in_mb\|time_limit_in_ms\): *//p' /tmp/headers | tr -d '\r' | tr '\n' ' ')
    curl -s -X POST -d "{\"event\": $event, \"id\": \"$id\", \"limits\": \"$limits\", \"handler\": \"$_HANDLER\"}" "$api/invocation/response"
    curl -s -X POST -d '"late"' "$api/invocation/response"
    curl -s -X POST -d 'late' "$api/invocation/error"
done
"#;

/// The same without any tool but the shell; `$1` of each event says what to do.
const ACTS: &str = r#"#!/bin/bash
call() { # method, path, body
    exec 5<>/dev/tcp/$SCF_RUNTIME_API/$SCF_RUNTIME_API_PORT
    printf '%s /runtime/%s HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s' "$1" "$2" "${#3}" "$3" >&5
    while IFS= read -r line <&5; [ "${line%$'\r'}" ]; do :; done
    IFS= read -r -d '' body <&5
    exec 5>&-
    printf %s "$body"
}
call POST init/ready ''
while true; do
    event=$(call GET invocation/next '')
    case $event in
        '"fail"') call POST invocation/error '{"errorMessage": "on purpose", "stackTrace": "here"}' ;;
        '"text"') call POST invocation/error 'not JSON' ;;
        '"exit"') exit 7 ;;
        '"kill"') kill -KILL $$ ;;
        '"hang"') sleep 60 ;;
        '"hungry"') data=$(head -c 300M /dev/zero | tr '\0' x) ;;
        '"again"') call POST invocation/response "\"$(call GET invocation/next '' | tr -d '"') $(call GET invocation/next '' | tr -d '"')\"" ;;
        *) call POST invocation/response "$event" ;;
    esac
done
"#;

fn create(client: &Client, name: &str, zip_file: &str, more: Value) {
    let mut request =
        json!({"FunctionName": name, "Runtime": "CustomRuntime", "Code": {"ZipFile": zip_file}});
    if let (Value::Object(request), Value::Object(more)) = (&mut request, more) {
        request.extend(more);
    }
    client.ok("CreateFunction", &request);
}

/// Invokes, and gives the error document.
fn failing(client: &Client, name: &str, event: &str) -> Value {
    let result = client.invoke(name, &json!(event));
    assert_ne!(result["InvokeResult"], 0, "{result}");
    serde_json::from_str(result["RetMsg"].as_str().expect("text")).expect("a document")
}

#[test]
fn a_program_fetches_its_events_over_http_and_the_first_answer_is_final() {
    let server = server();
    let client = server.client();
    let more = json!({"MemorySize": 256, "Timeout": 9, "Handler": "my.entry"});
    create(
        &client,
        "echo",
        &programs(&[("bootstrap", ECHO.as_bytes())]),
        more,
    );
    for n in 0..3 {
        let result = client.invoke("echo", &json!({"n": n}));
        assert_eq!(result["InvokeResult"], 0, "{result}");
        let answer: Value =
            serde_json::from_str(result["RetMsg"].as_str().expect("text")).expect("JSON");
        assert_eq!(answer["event"], json!({"n": n}));
        assert_eq!(answer["id"], result["FunctionRequestId"]);
        assert_eq!(answer["limits"], "256 9000 ");
        assert_eq!(answer["handler"], "my.entry");
        let log = result["Log"].as_str().expect("text");
        assert_eq!(log.contains("loading"), n == 0, "{log}");
        assert!(log.contains(&format!("got {{\"n\":{n}}}")), "{log}");
    }
}

#[test]
fn each_failure_of_a_program_has_its_code_and_a_message_that_helps() {
    let server = server();
    let client = server.client();
    let script = |text: &str| programs(&[("bootstrap", text.as_bytes())]);
    let starts: &[(&str, String, u16, &str)] = &[
        ("none", package(&[("index.py", "")]), 405, "was not found"),
        ("plain", package(&[("bootstrap", ECHO)]), 405, "mode 755"),
        ("headless", script("echo hi"), 405, "#!/bin/bash"),
        (
            "dos",
            script("#!/bin/bash\r\necho hi"),
            405,
            "carriage return",
        ),
        ("ends", script("#!/bin/bash\nexit 3"), 405, "with code 3"),
        (
            "slow",
            script("#!/bin/bash\nsleep 60"),
            450,
            "timed out after 1",
        ),
    ];
    for (name, zip_file, status, message) in starts {
        let settings = if *status == 450 {
            json!({"InitTimeout": 1})
        } else {
            json!({})
        };
        create(&client, name, zip_file, settings);
        let document = failing(&client, name, "");
        assert_eq!(document["statusCode"], *status, "{name}: {document}");
        let said = document["errorMessage"].as_str().expect("text");
        assert!(said.contains(message), "{name}: {said}");
    }
    // Programs that are not slow themselves have time on a busy machine, too.
    let more = json!({"Timeout": 5, "MemorySize": 128});
    create(&client, "acts", &script(ACTS), more);
    let runs = [
        ("fail", 430, "on purpose"),
        ("text", 430, "not JSON"),
        ("exit", 439, "with code 7"),
        ("kill", 439, "by signal 9"),
        ("hang", 433, "Invoking task timed out after 5 seconds"),
        ("hungry", 434, "128 MB"),
    ];
    for (event, status, message) in runs {
        let document = failing(&client, "acts", event);
        // What fills memory may be slower than its timeout on a busy machine.
        if event == "hungry" && document["statusCode"] == 433 {
            continue;
        }
        assert_eq!(document["statusCode"], status, "{event}: {document}");
        let said = document["errorMessage"].as_str().expect("text");
        assert!(said.contains(message), "{event}: {said}");
        // Whatever it did, the next event is served.
        assert_eq!(client.answer("acts", &json!("fine")), "fine");
    }
    assert_eq!(failing(&client, "acts", "fail")["stackTrace"], "here");
    // An event that was not answered yet is given again.
    assert_eq!(client.answer("acts", &json!("again")), "again again");
}

#[test]
fn a_program_is_as_confined_as_a_handler() {
    let server = server();
    let client = server.client();
    let probe = r#"#!/bin/bash
api="http://$SCF_RUNTIME_API:$SCF_RUNTIME_API_PORT/runtime"
curl -s -X POST "$api/init/ready"
try() { if "${@:2}" >/dev/null 2>&1; then echo -n "$1 "; fi; }
event=$(curl -s "$api/invocation/next")
did=$(
    try code touch /var/user/x; try opt touch /opt/x; try usr touch /usr/x; try root cat /etc/shadow; try unshare unshare -n true
    try mount mount -t tmpfs none /tmp; try setuid setpriv --reuid 0 true; try strangers test -e /proc/1/environ -a -r /proc/1/environ
    parent=$(sed -n 's/^PPid:\s*//p' /proc/$$/status)
    try runner-memory head -c 1 /proc/$parent/mem; try runner-environment cat /proc/$parent/environ; try runner-files ls /proc/$parent/fd
    try tmp touch /tmp/x
)
secrets=$(sed -n 's/^\(NoNewPrivs\|Seccomp\):\s*//p' /proc/self/status | tr '\n' ' ')
inherited=$(ls -l /proc/$$/fd | grep -c socket)
curl -s -X POST -d "{\"did\": \"$did\", \"status\": \"$secrets\", \"uid\": $(id -u), \"capabilities\": \"$(sed -n 's/^CapEff:\s*//p' /proc/self/status)\", \"sockets\": $inherited}" "$api/invocation/response"
"#;
    create(
        &client,
        "probe",
        &programs(&[("bootstrap", probe.as_bytes())]),
        json!({"Timeout": 30}),
    );
    let answer = client.answer("probe", &json!({}));
    assert_eq!(answer["did"], "tmp ", "{answer}");
    assert_eq!(answer["status"], "1 2 ", "{answer}");
    assert_eq!(answer["capabilities"], "0000000000000000");
    assert_ne!(answer["uid"], 0);
    // The platform's is not a program's.
    assert_eq!(answer["sockets"], 0);
}

#[test]
fn a_compiled_program_answers_and_its_idle_instances_are_frozen_and_gone_in_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let source = directory.path().join("bootstrap.rs");
    std::fs::write(&source, COMPILED).expect("a file");
    let built = Command::new("rustc")
        .args([
            "--edition",
            "2021",
            "-O",
            "-C",
            "target-feature=+crt-static",
            "-o",
        ])
        .arg(directory.path().join("bootstrap"))
        .arg(&source)
        .status();
    assert!(built.is_ok_and(|status| status.success()));
    let program = std::fs::read(directory.path().join("bootstrap")).expect("a program");
    let server = Server::flags(VIRGA, &["--keep-alive", "1"]);
    let client = server.client();
    create(
        &client,
        "fast",
        &programs(&[("bootstrap", &program)]),
        json!({}),
    );
    for n in 0..50 {
        assert_eq!(client.answer("fast", &json!([n, "x"])), json!([n, "x"]));
    }
    let large = json!("y".repeat(2 << 20));
    assert_eq!(client.answer("fast", &large), large);
    eventually("its instance is gone", || {
        client.metric("virga_instances{state=\"frozen\"}") == Some(0.0)
            && client.metric("virga_instances{state=\"idle\"}") == Some(0.0)
    });
}

const COMPILED: &str = r#"
use std::io::{Read, Write};
fn call(method: &str, path: &str, body: &[u8]) -> Vec<u8> {
    let host = std::env::var("SCF_RUNTIME_API").unwrap();
    let port = std::env::var("SCF_RUNTIME_API_PORT").unwrap();
    let mut socket = std::net::TcpStream::connect(format!("{host}:{port}")).unwrap();
    write!(socket, "{method} /runtime/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len()).unwrap();
    socket.write_all(body).unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    let at = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    answer[at + 4..].to_vec()
}
fn main() {
    call("POST", "init/ready", b" ");
    loop {
        let event = call("GET", "invocation/next", b"");
        call("POST", "invocation/response", &event);
    }
}
"#;

#[test]
fn programs_without_isolation_have_ports_of_their_own() {
    let server = Server::flags(VIRGA, &["--isolation", "process"]);
    let client = server.client();
    for name in ["one", "two"] {
        create(
            &client,
            name,
            &programs(&[("bootstrap", ACTS.as_bytes())]),
            json!({}),
        );
    }
    for name in ["one", "two", "one"] {
        assert_eq!(client.answer(name, &json!(name)), name);
    }
}

const NODE: &str = r#"
const os = require('os');
console.log('loading');
let count = 0;
exports.main_handler = async (event, context) => {
  count += 1;
  console.log('got', event);
  return { event, context, count, left: context.getRemainingTimeInMillis(), tmp: os.tmpdir(), node: process.version, cwd: process.cwd() };
};
exports.with_callback = (event, context, callback) => {
  context.callbackWaitsForEmptyEventLoop = event !== 'at once';
  setTimeout(() => console.log('after'), 50);
  callback(event === 'wrong' ? new Error('wrong') : null, 'done');
};
exports.sync = (event) => event;
exports.silent = (event, context, callback) => {};
exports.acts = async (event) => {
  if (event === 'throw') throw new Error('on purpose');
  if (event === 'later') { setTimeout(() => { throw new Error('later'); }, 10); await new Promise((done) => setTimeout(done, 5000)); }
  if (event === 'exit') process.exit(4);
  if (event === 'hang') await new Promise((done) => setTimeout(done, 60000));
  if (event === 'long') return 'x'.repeat(6 << 20);
  if (event === 'circle') { const a = {}; a.a = a; return a; }
  return event;
};
"#;

#[test]
fn a_node_handler_gets_its_event_and_context_and_answers_in_every_way() {
    let server = server();
    let client = server.client();
    let node = |name: &str, handler: &str| {
        let request = json!({
            "FunctionName": name, "Runtime": "Nodejs16.13", "Handler": handler, "Timeout": 2, "MemorySize": 256,
            "Code": {"ZipFile": package(&[("index.js", NODE)])},
            "Environment": {"Variables": [{"Key": "COLOUR", "Value": "red"}]},
        });
        client.ok("CreateFunction", &request);
    };
    node("about", "index.main_handler");
    for n in 1..4 {
        let result = client.invoke("about", &json!({"a": [1, "\u{4f60}"]}));
        let answer: Value =
            serde_json::from_str(result["RetMsg"].as_str().expect("text")).expect("JSON");
        assert_eq!(answer["event"], json!({"a": [1, "\u{4f60}"]}));
        assert_eq!(answer["count"], n);
        assert_eq!(answer["cwd"], "/var/user");
        assert!(
            answer["left"]
                .as_f64()
                .is_some_and(|ms| ms > 0.0 && ms <= 2000.0)
        );
        let context = &answer["context"];
        for (key, value) in [
            ("request_id", result["FunctionRequestId"].clone()),
            ("memory_limit_in_mb", json!(256)),
            ("time_limit_in_ms", json!(2000)),
            ("function_name", json!("about")),
            ("function_version", json!("$LATEST")),
            ("namespace", json!("default")),
            ("tencentcloud_appid", json!("1250000000")),
            ("callbackWaitsForEmptyEventLoop", json!(true)),
        ] {
            assert_eq!(context[key], value, "{key}");
        }
        let log = result["Log"].as_str().expect("text");
        assert_eq!(log.contains("loading"), n == 1, "{log}");
        assert!(log.contains("got { a: [ 1, '\u{4f60}' ] }"), "{log}");
    }
    node("calls", "index.with_callback");
    let waited = client.invoke("calls", &json!("wait"));
    assert_eq!(waited["RetMsg"], "\"done\"");
    assert!(
        waited["Log"]
            .as_str()
            .is_some_and(|log| log.contains("after")),
        "{waited}"
    );
    assert_eq!(client.answer("calls", &json!("at once")), "done");
    let wrong = client.invoke("calls", &json!("wrong"));
    assert!(
        wrong["RetMsg"]
            .as_str()
            .is_some_and(|text| text.contains("Error: wrong")),
        "{wrong}"
    );
    node("sync", "index.sync");
    assert_eq!(client.answer("sync", &json!([1])), json!([1]));
    node("silent", "index.silent");
    assert_eq!(client.answer("silent", &json!([1])), json!(null));
    assert_eq!(client.wait_until_ready("about")["Runtime"], "Nodejs16.13");
}

#[test]
fn each_failure_of_a_node_handler_has_its_code() {
    let server = server();
    let client = server.client();
    let node = |name: &str, files: &[(&str, &str)], handler: &str| {
        let request = json!({
            "FunctionName": name, "Runtime": "Nodejs18.15", "Handler": handler, "Timeout": 5, "MemorySize": 256,
            "Code": {"ZipFile": package(files)},
        });
        client.ok("CreateFunction", &request);
    };
    node("acts", &[("index.js", NODE)], "index.acts");
    for (event, status, message) in [
        ("throw", 430, "Error: on purpose"),
        ("later", 430, "Error: later"),
        ("circle", 430, "circular"),
        ("exit", 439, "code 4"),
        ("hang", 433, "timed out after 5 seconds"),
        ("long", 407, "6291456"),
    ] {
        let document = failing(&client, "acts", event);
        assert_eq!(document["statusCode"], status, "{event}: {document}");
        assert!(
            document.to_string().contains(message),
            "{event}: {document}"
        );
        assert_eq!(client.answer("acts", &json!("fine")), "fine");
    }
    for (name, files, handler, status) in [
        ("no-file", &[("index.js", "")], "other.main_handler", 437),
        (
            "no-function",
            &[("index.js", "")],
            "index.main_handler",
            437,
        ),
        (
            "syntax",
            &[("index.js", "exports.main_handler = (")],
            "index.main_handler",
            443,
        ),
        (
            "bad-import",
            &[("index.js", "require('nothing-of-this-name')")],
            "index.main_handler",
            430,
        ),
        (
            "exits",
            &[("index.js", "process.exit(5)")],
            "index.main_handler",
            439,
        ),
    ] {
        node(name, files, handler);
        assert_eq!(failing(&client, name, "")["statusCode"], status, "{name}");
    }
    // Modules of the new kind, and what lies beside the code.
    let files = [
        (
            "index.mjs",
            "import { twice } from 'twice'; export const main_handler = async (event) => twice(event);",
        ),
        (
            "node_modules/twice/package.json",
            r#"{"name": "twice", "type": "module", "exports": "./main.js"}"#,
        ),
        (
            "node_modules/twice/main.js",
            "export const twice = (n) => 2 * n;",
        ),
    ];
    node("modules", &files, "index.main_handler");
    assert_eq!(client.answer("modules", &json!(21)), 42);
    let install = json!({
        "FunctionName": "installs", "Runtime": "CustomRuntime", "InstallDependency": "TRUE",
        "Code": {"ZipFile": base64(&zip(&[("bootstrap", b"")]))},
    });
    assert_eq!(
        client.code("CreateFunction", &install),
        "UnsupportedOperation"
    );
}

/// A function of Node.js, with one file.
fn node_function(client: &Client, name: &str, file: &str, code: &str) {
    let request = json!({
        "FunctionName": name, "Runtime": "Nodejs18.15", "Handler": "index.main_handler", "Timeout": 5, "MemorySize": 256,
        "Code": {"ZipFile": package(&[(file, code)])},
    });
    client.ok("CreateFunction", &request);
}

#[test]
fn event_not_taken_by_an_exiting_instance_goes_to_another() {
    let server = server();
    let client = server.client();
    let rejects = "exports.main_handler = async e => { if (e.bad) (async () => { throw new Error('stray') })(); return 'ok' }";
    let timer = "exports.main_handler = async e => { if (e.bad) setTimeout(() => { throw new Error('stray') }, 0); return 'ok' }";
    let exits = "exports.main_handler = async e => { if (e.bad) setTimeout(() => process.exit(3), 0); return 'ok' }";
    for (name, code) in [("rejects", rejects), ("timer", timer), ("exits", exits)] {
        node_function(&client, name, "index.js", code);
        for _ in 0..20 {
            let caused = client.invoke(name, &json!({"bad": true}));
            assert_eq!(caused["RetMsg"], "\"ok\"", "{name}: {caused}");
            if name == "rejects" {
                // It is an error of the event that caused it, though not of its answer.
                let log = caused["Log"].as_str().expect("a log");
                assert!(log.contains("after its answer: Error: stray"), "{log}");
            }
            let innocent = client.invoke(name, &json!({}));
            // One that ends while it runs the second event takes that along.
            if name != "exits" || innocent["InvokeResult"] == 0 {
                assert_eq!(innocent["RetMsg"], "\"ok\"", "{name}: {innocent}");
            }
        }
    }
    // A program that ends after its answer asks for no other event.
    let once = "#!/bin/bash\ncurl -s -X POST http://$SCF_RUNTIME_API:$SCF_RUNTIME_API_PORT/runtime/init/ready -d ''\n\
        curl -s http://$SCF_RUNTIME_API:$SCF_RUNTIME_API_PORT/runtime/invocation/next >/dev/null\n\
        curl -s -X POST http://$SCF_RUNTIME_API:$SCF_RUNTIME_API_PORT/runtime/invocation/response -d '\"ok\"'\nexit 0\n";
    let request = json!({
        "FunctionName": "once", "Runtime": "CustomRuntime", "Code": {"ZipFile": programs(&[("bootstrap", once.as_bytes())])}, "Timeout": 5,
    });
    client.ok("CreateFunction", &request);
    for _ in 0..10 {
        assert_eq!(client.answer("once", &json!({})), "ok");
    }
}

#[test]
fn what_node_prints_is_whole_and_in_its_own_event_s_log() {
    let server = server();
    let client = server.client();
    let code = "exports.main_handler = async e => { console.log(e.n + '~'.repeat(e.long)); console.error('err' + e.n); console.log('end' + e.n); return e.n }";
    node_function(&client, "prints", "index.js", code);
    for n in 0..4 {
        let long = if n % 2 == 0 { 100_000 } else { 10 };
        let id =
            client.invoke("prints", &json!({"n": n, "long": long}))["FunctionRequestId"].clone();
        let log = crate::urls::logged(&client, "prints", &id);
        let own = format!("{n}{}", "~".repeat(long));
        assert!(
            log.contains(&own)
                && log.contains(&format!("end{n}"))
                && log.contains(&format!("err{n}"))
        );
        assert_eq!(log.matches("end").count(), 1, "{n}");
        assert_eq!(log.matches('~').count(), long, "{n}");
    }
}

#[test]
fn a_module_of_node_s_may_wait_at_its_top_level() {
    let server = server();
    let client = server.client();
    let code = "await 1; export const main_handler = async () => 1";
    node_function(&client, "module", "index.mjs", code);
    assert_eq!(client.answer("module", &json!({})), 1);
    let files = [
        ("index.js", code),
        ("package.json", r#"{"type": "module"}"#),
    ];
    let request = json!({
        "FunctionName": "typed", "Runtime": "Nodejs18.15", "Handler": "index.main_handler", "Code": {"ZipFile": package(&files)},
    });
    client.ok("CreateFunction", &request);
    assert_eq!(client.answer("typed", &json!({})), 1);
}

#[test]
fn data_files_are_never_loaded_as_modules() {
    let server = server();
    let client = server.client();
    let code = "import logging, sys\nimport json\nlogging.getLogger().setLevel('INFO')\n\
        def main_handler(e, c):\n    logging.info('seen')\n    return [json.__file__.startswith(sys.base_prefix), hasattr(json, 'own')]\n";
    let data = [
        ("index.py", code),
        ("logging/x.yaml", "a: 1"),
        ("json.yaml", "a: 1"),
        ("email.d/__init__.txt", ""),
        ("random.json", "{}"),
    ];
    let request = |name: &str, files: &[(&str, &str)]| json!({"FunctionName": name, "Runtime": "Python3.11", "Code": {"ZipFile": package(files)}});
    client.ok("CreateFunction", &request("data", &data));
    let done = client.invoke("data", &json!({}));
    assert_eq!(done["RetMsg"], "[true, false]", "{done}");
    assert!(
        done["Log"].as_str().is_some_and(|log| log.contains("seen")),
        "{done}"
    );
    // A module of the user's is one, as a file and as a package.
    for (name, file) in [("file", "json.py"), ("package", "json/__init__.py")] {
        let own = "own = 1\ndef loads(text): return {}\ndef dumps(value, **more): return 'null'\n";
        client.ok(
            "CreateFunction",
            &request(name, &[("index.py", code), (file, own)]),
        );
        let done = client.invoke(name, &json!({}));
        assert_eq!(done["RetMsg"], "[false, true]", "{done}");
    }
}

#[test]
fn a_node_handler_may_answer_by_its_context() {
    let server = server();
    let client = server.client();
    let code = r#"exports.main_handler = (e, context) => {
        if (e === 'now') context.succeed('now');
        if (e === 'late') setTimeout(() => context.done(null, 'late'), 20);
        if (e === 'fails') context.fail(new Error('on purpose'));
        if (e === 'done') context.done(new Error('on purpose'));
        if (e === 'value') return 'value';
    }"#;
    node_function(&client, "old", "index.js", code);
    for event in ["now", "late", "value"] {
        assert_eq!(client.answer("old", &json!(event)), event);
    }
    for event in ["fails", "done"] {
        assert_eq!(failing(&client, "old", event)["statusCode"], 430, "{event}");
    }
    assert_eq!(client.answer("old", &json!("nothing")), json!(null));
}
