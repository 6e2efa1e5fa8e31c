//! Answered changes are on stable storage: each was synced before its answer.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::json;
use testkit::{Server, eventually};

use crate::VIRGA;

/// A trace of the calls by which a process syncs files.
struct Trace {
    strace: Child,
    directory: tempfile::TempDir,
}

impl Trace {
    /// Traces all threads of a process.
    fn of(pid: u32) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let strace = Command::new("strace")
            .args(["-f", "-y", "-e", "trace=fsync,fdatasync", "-o"])
            .arg(directory.path().join("calls"))
            .args(["-p", &pid.to_string()])
            .stderr(Stdio::null())
            .spawn()
            .expect("strace, which scripts/setup test installs");
        eventually("all threads are traced", || {
            let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("threads");
            threads.flatten().all(|thread| is_traced(&thread.path()))
        });
        Self { strace, directory }
    }

    /// Ends the trace. Returns the number of successful syncs of files whose path has a part.
    fn end(mut self, part: &str) -> usize {
        let ended = Command::new("kill")
            .args(["-INT", &self.strace.id().to_string()])
            .status();
        assert!(ended.is_ok_and(|status| status.success()));
        self.strace.wait().expect("it ends");
        let calls = std::fs::read_to_string(self.directory.path().join("calls"));
        let calls = calls.expect("its calls");
        // A call that another thread interrupts is written in two lines; the first has the path.
        let begun = calls.lines().filter(|line| line.contains("sync("));
        begun
            .filter(|line| line.contains(part) && !line.contains("= -1"))
            .count()
    }
}

/// Returns whether a thread is traced, or has ended.
fn is_traced(thread: &Path) -> bool {
    let status = std::fs::read_to_string(thread.join("status")).unwrap_or_default();
    let tracer = status
        .lines()
        .find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.is_none_or(|tracer| tracer.trim() != "0")
}

/// Writes of each kind, one after the other.
const WRITES: usize = 4;

#[test]
fn each_answered_change_was_synced_before() {
    let server = Server::flags(VIRGA, &["--drain-timeout", "1"]);
    server.expect("some requests did not complete within the drain timeout");
    server.expect("failed to record the completion of some events in time");
    let client = server.client();
    let sleeps =
        "import time\ndef main_handler(e, c):\n    time.sleep(e.get('seconds', 0))\n    return 1\n";
    client.create("sleeps", sleeps, json!({"Timeout": 300}));
    client.answer("sleeps", &json!({}));
    let objects = server.objects();
    objects.ok("PUT", "/synced-1250000000", &[], b"");
    // One write begins after the other was answered, so no two can share a sync.
    let trace = Trace::of(server.pid());
    for number in 0..WRITES {
        client.ok(
            "CreateNamespace",
            &json!({"Namespace": format!("n{number}")}),
        );
    }
    let synced = trace.end("/catalog.sqlite");
    assert!(
        synced >= WRITES,
        "{synced} syncs for {WRITES} changes of the catalog"
    );
    let trace = Trace::of(server.pid());
    for _ in 0..WRITES {
        client.ok(
            "Invoke",
            // No event completes meanwhile, since a completion is synced, too.
            &json!({"FunctionName": "sleeps", "InvocationType": "Event", "ClientContext": "{\"seconds\": 300}"}),
        );
    }
    let synced = trace.end("/events.sqlite");
    assert!(
        synced >= WRITES,
        "{synced} syncs for {WRITES} accepted events"
    );
    // A small object is stored in the index; the bytes of a large one are synced before its entry.
    for (body, syncs) in [(&b"bytes"[..], 1), (&[7; 100_000][..], 2)] {
        let trace = Trace::of(server.pid());
        for number in 0..WRITES {
            let path = format!("/synced-1250000000/{}-{number}", body.len());
            objects.ok("PUT", &path, &[], body);
        }
        let synced = trace.end("/buckets");
        assert!(
            synced >= syncs * WRITES,
            "{synced} syncs for {WRITES} objects of {} bytes and their entries",
            body.len()
        );
    }
}
