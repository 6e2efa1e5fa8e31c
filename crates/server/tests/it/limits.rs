//! What a function can do to its host: end itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};
use testkit::{Server, eventually};

use crate::VIRGA;

/// A function with a fault, its settings, its status, and its error message.
type Row = (&'static str, &'static str, Value, u16, &'static str);

fn rows() -> Vec<Row> {
    let quick = json!({"Timeout": 2});
    vec![
        (
            "takes-all-memory",
            "def main_handler(e, c):\n    kept = []\n    while True: kept.append(bytearray(1 << 20))\n",
            json!({"MemorySize": 64, "Timeout": 30}),
            434,
            "memory limit of 64 MB",
        ),
        (
            "forks",
            "import os, time\ndef main_handler(e, c):\n    while True:\n        try: os.fork()\n        except OSError: time.sleep(0.01)\n",
            quick.clone(),
            433,
            "timed out",
        ),
        (
            "starts-threads",
            "import threading\ndef main_handler(e, c):\n    while True: threading.Thread(target=threading.Event().wait).start()\n",
            json!({"Timeout": 30, "MemorySize": 512}),
            430,
            "can't start new thread",
        ),
        (
            "spins",
            "def main_handler(e, c):\n    while True: pass\n",
            quick.clone(),
            433,
            "timed out",
        ),
        (
            "fills-tmp",
            "def main_handler(e, c):\n    with open('/tmp/full', 'wb', 0) as f:\n        while True: f.write(b'x' * (1 << 20))\n",
            json!({"MemorySize": 1024, "Timeout": 30}),
            430,
            "No space left on device",
        ),
        (
            "fills-tmp-with-nothing",
            "def main_handler(e, c):\n    n = 0\n    while True:\n        open('/tmp/%d' % n, 'w').close()\n        n += 1\n",
            json!({"MemorySize": 1024, "Timeout": 60}),
            430,
            "No space left on device",
        ),
        (
            "writes-elsewhere",
            "def main_handler(e, c):\n    open('/home/qcloud/x', 'w')\n",
            json!({"Timeout": 30}),
            430,
            "Read-only file system",
        ),
        (
            "opens-everything",
            "def main_handler(e, c):\n    kept = []\n    while True: kept.append(open('/dev/null'))\n",
            json!({"Timeout": 30}),
            430,
            "Too many open files",
        ),
        (
            "ignores-signals",
            "import signal, time\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError): pass\ndef main_handler(e, c):\n    while True: time.sleep(1)\n",
            quick.clone(),
            433,
            "timed out",
        ),
        (
            "leaves-a-grandchild",
            "import os, time\ndef main_handler(e, c):\n    if os.fork() == 0:\n        os.setsid()\n        if os.fork() == 0:\n            os.close(1); os.close(2)\n            while True: time.sleep(1)\n        os._exit(0)\n    os.wait()\n    return 'done'\n",
            json!({}),
            200,
            "",
        ),
        (
            "prints-without-end",
            "def main_handler(e, c):\n    for _ in range(4000): print('x' * 1023)\n",
            json!({"Timeout": 10}),
            200,
            "",
        ),
    ]
}

#[test]
fn effects_of_a_function_stay_inside_its_instance() {
    let flags = ["--keep-alive", "1", "--limits", "tmp_mb=64,pids=128"];
    let mut server = Server::flags(VIRGA, &flags);
    let client = server.client();
    client.create(
        "neighbour",
        "def main_handler(e, c):\n    return 'fine'\n",
        json!({"Timeout": 30}),
    );
    let over = Arc::new(AtomicBool::new(false));
    let neighbour = thread::spawn({
        let (client, over) = (client.clone(), over.clone());
        move || {
            let mut calls = 0;
            while !over.load(Ordering::Relaxed) {
                assert_eq!(client.answer("neighbour", &json!({})), "fine");
                calls += 1;
            }
            calls
        }
    });
    for (name, source, settings, status, said) in rows() {
        client.create(name, source, settings);
        let result = client.invoke(name, &json!({}));
        if status == 200 {
            assert_eq!(result["InvokeResult"], 0, "{name}: {result}");
            continue;
        }
        let message = result["ErrMsg"].as_str().unwrap_or_default();
        let document: Value = serde_json::from_str(message).expect("a document");
        assert_eq!(document["statusCode"], status, "{name}: {result}");
        assert!(message.contains(said), "{name}: {result}");
    }
    over.store(true, Ordering::Relaxed);
    assert!(neighbour.join().expect("its neighbour never failed") > 20);
    eventually("all that they started has ended", || {
        let living = client
            .metric("virga_instances{state=\"frozen\"}")
            .unwrap_or(0.0)
            + client
                .metric("virga_instances{state=\"idle\"}")
                .unwrap_or(0.0);
        // Only pre-warmed sandboxes remain: four, of one process each.
        living == 0.0 && server.processes().len() <= 16
    });
    assert!(server.terminate().success());
}

#[test]
fn the_peak_of_memory_is_reported() {
    let server = Server::start(VIRGA);
    let client = server.client();
    let source = "def main_handler(e, c):\n    return len(bytearray(b'x' * (e['mb'] << 20)))\n";
    client.create("uses", source, json!({"MemorySize": 256, "Timeout": 60}));
    let used = |mb: u64| {
        let answer = client.invoke("uses", &json!({"mb": mb}));
        assert_eq!(answer["RetMsg"], (mb << 20).to_string(), "{answer}");
        answer["MemUsage"].as_u64().expect("bytes")
    };
    let (little, much) = (used(1), used(50));
    // Where nothing was read from the disk before, the little one pays for the interpreter's files.
    assert!(little + (20 << 20) < much, "{little}, {much}");
    assert!((100 << 20..256 << 20).contains(&much), "{much}");
}
