//! Trace contexts (W3C): from callers' headers to handlers, over every way that runs a function.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use testkit::{Client, eventually, package, programs};

use crate::events::{ended, quick};
use crate::server;
use crate::urls::{self, url};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const STATE: &str = "rojo=00f067aa0ba902b7, congo=\"t61\"";
/// Its members, as they are passed on.
const PASSED: &str = "rojo=00f067aa0ba902b7,congo=\"t61\"";

const PYTHON: &str = r#"
def main_handler(event, context):
    return [context.get("traceparent"), context.get("tracestate"), context["retry_num"]]
"#;

const NODE: &str = "exports.main_handler = async (event, { traceparent = null, tracestate = null, retry_num }) => \
                    [traceparent, tracestate, retry_num];";

const PROGRAM: &str = r#"#!/bin/bash
api="http://$SCF_RUNTIME_API:$SCF_RUNTIME_API_PORT/runtime"
curl -s -X POST -d ' ' "$api/init/ready"
value() { # header
    text=$(sed -n "s/^$1: *//p" /tmp/headers | tr -d '\r')
    [ "$text" ] && printf '"%s"' "${text//\"/\\\"}" || printf null
}
while true; do
    curl -s -D /tmp/headers "$api/invocation/next" >/dev/null
    number=$(value retry_num)
    curl -s -X POST -d "[$(value traceparent), $(value tracestate), ${number//\"/}]" "$api/invocation/response"
done
"#;

/// Shows the headers of the event.
const SHOWS: &str = r#"
def main_handler(event, context):
    sent = event["headers"]
    return [[sent.get("traceparent"), sent.get("tracestate")], [context.get("traceparent"), context.get("tracestate")]]
"#;

const WEB: &[u8] = br#"
require('http').createServer((request, response) => {
  const values = (name) => request.rawHeaders.filter((_, n, all) => n % 2 === 1 && all[n - 1].toLowerCase() === name);
  response.end(JSON.stringify([values('traceparent'), values('tracestate')]));
}).listen(9000, '0.0.0.0');
"#;

/// Invokes by the API with these headers. Gives the result.
fn invoke(client: &Client, name: &str, kind: &str, headers: &[(&str, &str)]) -> Value {
    let request = json!({"FunctionName": name, "InvocationType": kind, "ClientContext": "{}"});
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a time");
    let now = now.as_secs() as i64;
    let reply = client
        .post("Invoke", request.to_string().as_bytes(), now, headers)
        .json();
    reply["Response"]["Result"].clone()
}

fn answer(client: &Client, name: &str, headers: &[(&str, &str)]) -> Value {
    let result = invoke(client, name, "RequestResponse", headers);
    assert_eq!(result["InvokeResult"], 0, "{name}: {result}");
    serde_json::from_str(result["RetMsg"].as_str().expect("text")).expect("JSON")
}

#[test]
fn every_runtime_sees_its_callers_trace_context() {
    let server = server();
    let client = server.client();
    let all = [
        (
            "python",
            "Python3.10",
            package(&[("index.py", PYTHON)]),
            json!([]),
        ),
        (
            "fresh",
            "Python3.10",
            package(&[("index.py", PYTHON)]),
            json!([{"Key": "PYTHONHASHSEED", "Value": "0"}]),
        ),
        (
            "node",
            "Nodejs18.15",
            package(&[("index.js", NODE)]),
            json!([]),
        ),
        (
            "program",
            "CustomRuntime",
            programs(&[("bootstrap", PROGRAM.as_bytes())]),
            json!([]),
        ),
    ];
    for (name, runtime, code, variables) in all {
        let request = json!({
            "FunctionName": name, "Runtime": runtime, "Handler": "index.main_handler", "MemorySize": 256, "Timeout": 9,
            "Code": {"ZipFile": code}, "Environment": {"Variables": variables},
        });
        client.ok("CreateFunction", &request);
        // One instance serves all of them, so nothing of a trace may stay.
        assert_eq!(answer(&client, name, &[]), json!([null, null, 0]), "{name}");
        let both = answer(
            &client,
            name,
            &[("traceparent", PARENT), ("tracestate", STATE)],
        );
        assert_eq!(both, json!([PARENT, PASSED, 0]), "{name}");
        let other = PARENT.replace("-01", "-00");
        let parent = answer(&client, name, &[("Traceparent", &other)]);
        assert_eq!(parent, json!([other, null, 0]), "{name}");
        assert_eq!(answer(&client, name, &[]), json!([null, null, 0]), "{name}");
        let malformed = answer(
            &client,
            name,
            &[("traceparent", &PARENT[1..]), ("tracestate", STATE)],
        );
        assert_eq!(malformed, json!([null, null, 0]), "{name}");
    }
}

#[test]
fn urls_pass_a_valid_trace_context_and_drop_a_malformed_one() {
    let server = server();
    let client = server.client();
    client.create("shows", SHOWS, json!({}));
    let (shows, _) = url(&client, "shows", &json!({"AuthType": "NONE"}));
    let files: [(&str, &[u8]); 2] = [
        (
            "scf_bootstrap",
            b"#!/bin/bash\nexec /var/lang/node18/bin/node server.js\n",
        ),
        ("server.js", WEB),
    ];
    let request = json!({
        "FunctionName": "web", "Type": "HTTP", "Runtime": "Nodejs18.15", "MemorySize": 256, "Code": {"ZipFile": programs(&files)},
    });
    client.ok("CreateFunction", &request);
    let (web, _) = url(&client, "web", &json!({"AuthType": "NONE"}));
    let get = |id: &str, headers: &str| {
        urls::send(
            &client,
            &client.host(),
            &format!("GET /url/{id}/"),
            headers,
            b"",
        )
        .json()
    };
    let valid = format!("traceparent: {PARENT}\r\n");
    let malformed = format!("traceparent: {}\r\n", PARENT.to_uppercase());
    let later = valid.replace(": 00-", ": 42-");
    let state = format!("tracestate: {STATE}\r\n");
    let member = |name: &str, length: usize| format!("{name}={}", "v".repeat(length));
    let long = format!(
        "tracestate: {},a=1,{}\r\n",
        member("long", 200),
        member("other", 256)
    );
    let long = format!("{long}tracestate: {}\r\n", member("third", 100));
    let rows = [
        (String::new(), None, None),
        (valid.clone(), Some(PARENT), None),
        (
            format!("{valid}{state}"),
            Some(PARENT),
            Some(PASSED.to_owned()),
        ),
        (later, Some(PARENT), None),
        (format!("{malformed}{state}"), None, None),
        (format!("{valid}{valid}{state}"), None, None),
        (state.clone(), None, None),
        (
            format!("{valid}tracestate: no member\r\n"),
            Some(PARENT),
            None,
        ),
        (
            format!("{valid}{long}"),
            Some(PARENT),
            Some(format!("a=1,{}", member("third", 100))),
        ),
    ];
    for (headers, parent, state) in rows {
        let both = json!([parent, state]);
        assert_eq!(get(&shows, &headers), json!([both, both]), "{headers}");
        fn list(value: Option<&str>) -> Vec<&str> {
            value.into_iter().collect()
        }
        let both = json!([list(parent), list(state.as_deref())]);
        assert_eq!(get(&web, &headers), both, "{headers}");
    }
}

#[test]
fn asynchronous_event_keeps_its_trace_context_over_retries_restarts_and_its_dead_letter() {
    let mut server = quick(&[]);
    server.expect("an event failed permanently");
    let client = server.client();
    let keeps = "got = []\ndef main_handler(event, context):\n    if event: got.append(context.get('traceparent'))\n    return got";
    client.create("keeps", keeps, json!({}));
    let source = "def main_handler(event, context):\n    print(context.get('traceparent'), context.get('tracestate'), \
                  context['retry_num'])\n    raise ValueError";
    let target = json!({"Type": "function", "Name": "keeps"});
    client.create("fails", source, json!({"DeadLetterConfig": target}));
    // It waits on disk while virga is killed.
    let none = json!({"FunctionName": "fails", "ReservedConcurrencyMem": 0});
    client.ok("PutReservedConcurrencyConfig", &none);
    let sent = invoke(
        &client,
        "fails",
        "Event",
        &[("traceparent", PARENT), ("tracestate", STATE)],
    );
    let id = sent["FunctionRequestId"].clone();
    server.kill();
    server.restart();
    let client = server.client();
    client.ok(
        "DeleteReservedConcurrencyConfig",
        &json!({"FunctionName": "fails"}),
    );
    eventually("its dead letter has arrived", || ended(&client, 200) >= 1.0);
    assert_eq!(client.answer("keeps", &json!({})), json!([PARENT]));
    eventually("each attempt is logged with its number", || {
        let query = json!({"FunctionName": "fails", "FunctionRequestId": id});
        let rows = client.ok("GetFunctionLogs", &query)["Data"].take();
        let rows = rows.as_array().cloned().unwrap_or_default();
        (0..3).all(|number| {
            let line = format!("{PARENT} {PASSED} {number}");
            let printed =
                |row: &Value| row["Log"].as_str().is_some_and(|text| text.contains(&line));
            rows.iter()
                .any(|row| printed(row) && row["RetryNum"] == number)
        })
    });
}
