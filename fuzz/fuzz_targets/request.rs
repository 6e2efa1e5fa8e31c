//! Fuzzes parsing, verification and decoding of API requests.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/scf/tests/fuzz/request.rs"]
mod target;

fuzz_target!(|data: &[u8]| {
    let _ = target::request(data);
});
