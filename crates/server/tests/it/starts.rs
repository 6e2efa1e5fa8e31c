//! An event whose instance ends before its handler is called runs on another instance. One whose handler was called runs
//! once.

use serde_json::{Value, json};
use testkit::{Client, package, programs};

use crate::server;
use crate::urls::url;

/// Ends itself at the next event: as soon as it is read, before the handler is called, or in the handler.
const PYTHON: &str = r#"
import json, os
armed = None
def die(*_, **__): os.kill(os.getpid(), 9)
def main_handler(event, context):
    global armed
    if armed: die()
    if event.get("arm") == "before": json.loads = die
    armed = event.get("arm")
    return armed or "new"
"#;

const NODE: &str = r#"
let armed;
const die = () => process.kill(process.pid, 'SIGKILL');
exports.main_handler = async (event) => {
  if (armed) die();
  if (event.arm === 'before') JSON.parse = die;
  armed = event.arm;
  return armed || 'new';
};
"#;

const PROGRAM: &str = r#"#!/bin/bash
api="http://$SCF_RUNTIME_API:$SCF_RUNTIME_API_PORT/runtime"
curl -s -X POST -d ' ' "$api/init/ready"
while true; do
    event=$(curl -s "$api/invocation/next")
    [ "$armed" ] && kill -KILL $$
    case $event in
        *before*)
            curl -s -X POST -d '"before"' "$api/invocation/response"
            exec 5<>/dev/tcp/$SCF_RUNTIME_API/$SCF_RUNTIME_API_PORT
            printf 'GET /runtime/invocation/next HTTP/1.1\r\nHost: virga\r\n\r\n' >&5
            until read -t 0 -u 5; do sleep 0.01; done
            kill -KILL $$ ;;
        *inside*) armed=1; curl -s -X POST -d '"inside"' "$api/invocation/response" ;;
        *) curl -s -X POST -d '"new"' "$api/invocation/response" ;;
    esac
done
"#;

/// Ends itself when it accepts the next connection, before it reads the request; or when it has read the request.
const WEB: &[u8] = br#"
const die = () => process.kill(process.pid, 'SIGKILL');
let armed;
const server = require('http').createServer((request, response) => {
  if (armed) die();
  request.on('data', () => {}).on('end', () => {
    const path = request.url.split('/').pop();
    response.setHeader('connection', path === 'kept' ? 'keep-alive' : 'close');
    response.end(path + ' on ' + process.hrtime.bigint());
    armed = path === 'new' ? undefined : path;
  });
});
server.on('connection', () => armed === 'before' && die());
server.listen(9000, '0.0.0.0');
"#;

fn create(client: &Client, name: &str, runtime: &str, code: &str, environment: Value) {
    let request = json!({
        "FunctionName": name, "Runtime": runtime, "Handler": "index.main_handler", "Timeout": 5, "MemorySize": 256,
        "Code": {"ZipFile": code}, "Environment": {"Variables": environment},
    });
    client.ok("CreateFunction", &request);
}

#[test]
fn an_event_that_its_instance_did_not_start_runs_on_another() {
    let server = server();
    let client = server.client();
    let python = package(&[("index.py", PYTHON)]);
    create(&client, "copied", "Python3.10", &python, json!([]));
    let at_start = json!([{"Key": "PYTHONHASHSEED", "Value": "0"}]);
    create(&client, "fresh", "Python3.10", &python, at_start);
    let node = package(&[("index.js", NODE)]);
    create(&client, "node", "Nodejs18.15", &node, json!([]));
    let program = programs(&[("bootstrap", PROGRAM.as_bytes())]);
    create(&client, "program", "CustomRuntime", &program, json!([]));
    for name in ["copied", "fresh", "node", "program"] {
        for _ in 0..5 {
            assert_eq!(
                client.answer(name, &json!({"arm": "before"})),
                "before",
                "{name}"
            );
            let innocent = client.invoke(name, &json!({}));
            assert_eq!(innocent["RetMsg"], "\"new\"", "{name}: {innocent}");
        }
    }
    // Each instance ends before it starts the event, so the attempts are bounded.
    let always =
        "import json, os\njson.loads = lambda *_: os._exit(3)\ndef main_handler(e, c): return 1";
    create(
        &client,
        "always",
        "Python3.10",
        &package(&[("index.py", always)]),
        json!([]),
    );
    let failed = client.invoke("always", &json!({}));
    let document: Value =
        serde_json::from_str(failed["RetMsg"].as_str().expect("text")).expect("a document");
    assert_eq!(document["statusCode"], 439, "{failed}");
}

#[test]
fn an_event_whose_handler_was_called_does_not_run_again() {
    let server = server();
    let client = server.client();
    let python = package(&[("index.py", PYTHON)]);
    create(&client, "python", "Python3.10", &python, json!([]));
    let node = package(&[("index.js", NODE)]);
    create(&client, "node", "Nodejs18.15", &node, json!([]));
    let program = programs(&[("bootstrap", PROGRAM.as_bytes())]);
    create(&client, "program", "CustomRuntime", &program, json!([]));
    for name in ["python", "node", "program"] {
        for _ in 0..3 {
            assert_eq!(
                client.answer(name, &json!({"arm": "inside"})),
                "inside",
                "{name}"
            );
            // Another instance would answer.
            let failed = client.invoke(name, &json!({}));
            assert_ne!(failed["InvokeResult"], 0, "{name}: {failed}");
            let document: Value =
                serde_json::from_str(failed["RetMsg"].as_str().expect("text")).expect("a document");
            assert_eq!(document["statusCode"], 439, "{name}: {failed}");
        }
    }
}

#[test]
fn a_request_that_its_web_server_did_not_read_goes_to_another() {
    let server = server();
    let client = server.client();
    let files: [(&str, &[u8]); 2] = [
        (
            "scf_bootstrap",
            b"#!/bin/bash\nexec /var/lang/node18/bin/node server.js\n",
        ),
        ("server.js", WEB),
    ];
    let request = json!({
        "FunctionName": "web", "Type": "HTTP", "Runtime": "Nodejs18.15", "MemorySize": 256, "Timeout": 9,
        "Code": {"ZipFile": programs(&files)},
    });
    client.ok("CreateFunction", &request);
    let (id, _) = url(&client, "web", &json!({"AuthType": "NONE"}));
    let get = |path: &str| {
        let reply = client.get(&format!("/url/{id}/{path}"));
        (
            reply.status,
            String::from_utf8_lossy(&reply.body).into_owned(),
        )
    };
    for _ in 0..5 {
        let (status, text) = get("before");
        assert!(status == 200 && text.starts_with("before on"), "{text}");
        let (status, text) = get("new");
        assert!(status == 200 && text.starts_with("new on"), "{text}");
    }
    for armed in ["inside", "kept"] {
        let (status, text) = get(armed);
        assert!(status == 200 && text.starts_with(armed), "{text}");
        // Another instance would answer.
        let (_, text) = get("new");
        assert!(text.contains("439"), "{armed}: {text}");
    }
}
