//! The output of functions in their logs.

use super::*;

#[test]
fn all_output_of_a_request_is_in_its_log() {
    let server = server();
    let client = server.client();
    let source = r#"
import ctypes, os, subprocess, sys, logging
print("while loading")
def main_handler(event, context):
    what = event["what"]
    if what == "python":
        print("out"); print("err", file=sys.stderr); logging.getLogger().warning("logged")
    if what == "c":
        libc = ctypes.CDLL(None)
        libc.write(1, b"from C\n", 7)
        subprocess.run(["/bin/sh", "-c", "echo from a child; echo and its stderr >&2"])
    if what == "unended": sys.stdout.write("no newline")
    if what == "bytes": os.write(1, b"caf\xe9 \xff\n")
    if what == "million":
        for i in range(1000000): print("line", i)
    return what
"#;
    client.create("talks", source, json!({"Timeout": 60}));
    let log = |what: &str| {
        let result = client.invoke("talks", &json!({"what": what}));
        assert_eq!(result["RetMsg"], format!("\"{what}\""), "{result}");
        let id = result["FunctionRequestId"]
            .as_str()
            .expect("an id")
            .to_owned();
        let found = client.ok(
            "GetFunctionLogs",
            &json!({"FunctionName": "talks", "FunctionRequestId": id}),
        );
        assert_eq!(found["TotalCount"], 1);
        found["Data"][0]["Log"].as_str().expect("a log").to_owned()
    };
    let first = log("python");
    for part in [
        "START RequestId:",
        "while loading\n",
        "Init Report RequestId:",
        "Coldstart:",
        "out\n",
        "err\n",
        "logged\n",
        "Response RequestId:",
        "END RequestId:",
        "Report RequestId:",
        "Memory:128MB",
    ] {
        assert!(first.contains(part), "{part}: {first}");
    }
    let c = log("c");
    assert!(
        c.contains("from C\n") && c.contains("from a child\n") && c.contains("and its stderr\n"),
        "{c}"
    );
    assert!(
        !c.contains("while loading") && !c.contains("Init Report"),
        "only the first request loads: {c}"
    );
    assert!(log("unended").contains("no newline\nResponse"));
    assert!(log("bytes").contains("caf\u{fffd} \u{fffd}\n"));
    let million = log("million");
    assert!(million.contains("line 0\nline 1\n"));
    assert!(
        million.contains("over the limit of 1048576"),
        "{}",
        &million[million.len() - 500..]
    );
    assert!(million.len() < 1_100_000);
    // The tail is its end, at most 4 KB.
    let tail = client.invoke("talks", &json!({"what": "million"}));
    let tail = tail["Log"].as_str().expect("a log");
    assert!(
        tail.len() <= 4096 && tail.contains("Report RequestId:"),
        "{tail}"
    );
}

#[test]
fn child_that_outlives_the_call_neither_delays_it_nor_answers_for_it() {
    let server = server();
    let client = server.client();
    let source = r#"
import os, time
def main_handler(event, context):
    pid = os.fork()
    if pid == 0:
        if event["child"] == "sleeps": time.sleep(600)
        if event["child"] == "returns": return "from the child"
        if event["child"] == "raises": raise ValueError
        while True: print("noise")
    if event["child"] != "noisy": time.sleep(0.2)
    return "from the parent"
"#;
    create(&client, "forks", source);
    for child in ["sleeps", "returns", "raises", "noisy", "returns"] {
        let result = client.invoke("forks", &json!({"child": child}));
        assert_eq!(result["RetMsg"], "\"from the parent\"", "{child}: {result}");
    }
}

#[test]
fn output_after_an_answer_is_in_the_log_of_the_next_request() {
    let server = server();
    let client = server.client();
    let python = "import threading, time\nlate = None\ndef write():\n    time.sleep(0.2)\n    print('written late')\n\
        def main_handler(e, c):\n    global late\n    if late is None:\n        late = threading.Thread(target=write)\n        \
        late.start()\n        return 'first'\n    late.join()\n    return 'second'\n";
    let node = "let late = null;\nexports.main_handler = async () => {\n  if (late !== null) { await late; return 'second'; }\n  \
        late = new Promise((done) => setTimeout(() => { console.log('written late'); done(); }, 200));\n  return 'first';\n};\n";
    client.create("python", python, json!({}));
    let code = programs(&[("index.js", node.as_bytes())]);
    client.ok(
        "CreateFunction",
        &json!({"FunctionName": "node", "Runtime": "Nodejs18.15", "Code": {"ZipFile": code}}),
    );
    client.wait_until_ready("node");
    for function in ["python", "node"] {
        let [first, second] = ["first", "second"].map(|expected| {
            let result = client.invoke(function, &json!({}));
            assert_eq!(result["RetMsg"], format!("\"{expected}\""), "{function}");
            logged(&client, function, &result["FunctionRequestId"])
        });
        assert!(!first.contains("written late"), "{function}: {first}");
        assert!(second.contains("written late"), "{function}: {second}");
    }
}
