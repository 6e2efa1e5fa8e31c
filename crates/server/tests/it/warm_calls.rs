//! The cost of a warm call in look-ups and locks.
//!
//! A debug build logs each read of the catalog and each lock of the dispatcher at the level `trace`.

use serde_json::json;
use testkit::Server;

use crate::VIRGA;
use crate::urls::url;

/// Enough calls that the background's reads and locks are fewer than one per call.
const CALLS: usize = 300;

/// Reads of the catalog and locks of the dispatcher.
#[derive(Debug, PartialEq)]
struct Cost {
    reads: usize,
    locks: usize,
}

/// Returns what one of [`CALLS`] calls costs, without what the background does meanwhile.
fn cost_of(server: &Server, mut call: impl FnMut()) -> Cost {
    // The first ones start the instance.
    for _ in 0..3 {
        call();
    }
    let count = |text: &str| server.log().matches(text).count();
    let (read, locked) = ("\"catalog reads\"", "\"driver locks\"");
    let before = (count(read), count(locked));
    for _ in 0..CALLS {
        call();
    }
    let (reads, locks) = (count(read) - before.0, count(locked) - before.1);
    Cost {
        reads: reads / CALLS,
        locks: locks / CALLS,
    }
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "only debug builds log it")]
fn warm_call_reads_the_catalog_once_and_locks_the_dispatcher_twice() {
    let flags = ["--log", "info,catalog=trace,engine=trace"];
    let server = Server::flags(VIRGA, &flags);
    let client = server.client();
    client.create("fun", "def main_handler(e, c):\n    return 1\n", json!({}));
    let warm = cost_of(&server, || {
        client.answer("fun", &json!({}));
    });
    assert_eq!(warm, Cost { reads: 1, locks: 2 });
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "only debug builds log it")]
fn warm_request_to_a_url_looks_up_once_by_url_and_once_after_its_body() {
    let flags = ["--log", "info,catalog=trace,engine=trace"];
    let server = Server::flags(VIRGA, &flags);
    let client = server.client();
    let source = "def main_handler(e, c):\n    return {'statusCode': 200, 'body': 'x'}\n";
    client.create("fun", source, json!({}));
    let (id, _) = url(&client, "fun", &json!({"AuthType": "NONE"}));
    let path = format!("/url/{id}");
    let warm = cost_of(&server, || {
        assert_eq!(client.get(&path).status, 200);
    });
    assert_eq!(warm, Cost { reads: 2, locks: 2 });
}
