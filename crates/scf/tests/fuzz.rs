//! Fuzzed requests, see the crate `fuzzer`.
#![expect(clippy::expect_used, reason = "a test may end")]

#[path = "fuzz/request.rs"]
mod target;

#[test]
fn fuzzed_requests_are_read_or_refused() {
    fuzzer::run("request", 10_000, |input| {
        fuzzer::shape(&target::request(input))
    });
}
