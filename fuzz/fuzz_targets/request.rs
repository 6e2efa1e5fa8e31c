//! Fuzzes parsing, verification and decoding of API requests: no input panics, and no forged signature verifies.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scf::action::{CreateFunction, GetFunctionLogs, Invoke, ListFunctions};
use scf::{Bounds, Call, RawRequest, SecretKey};

fuzz_target!(|data: &[u8]| {
    // Input: lines with method, path, query and headers (`name: value`), a NUL byte, then the body.
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (head, body) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let Ok(head) = std::str::from_utf8(head) else { return };
    let mut lines = head.lines();
    let (method, path, query) =
        (lines.next().unwrap_or_default(), lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let headers: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(": ")).collect();
    let raw = RawRequest { method, path, query, headers: &headers, body };
    let Ok(call) = Call::parse(raw) else { return };
    let key = SecretKey::new("a key unknown to the input");
    assert!(call.verify(&key, call.timestamp, scf::CLOCK_SKEW_S).is_err(), "a forged signature verified");
    let bounds = Bounds::default();
    let _ = call.decode::<CreateFunction>(&bounds);
    let _ = call.decode::<GetFunctionLogs>(&bounds);
    let _ = call.decode::<Invoke>(&bounds);
    let _ = call.decode::<ListFunctions>(&bounds);
});
