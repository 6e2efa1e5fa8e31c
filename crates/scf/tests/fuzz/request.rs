//! The target of requests: no input panics, and no forged signature verifies.

use scf::action::{CreateFunction, GetFunctionLogs, Invoke, ListFunctions};
use scf::{Bounds, Call, RawRequest, SecretKey};

/// Parses, verifies and decodes a request. The input has lines with method, path, query and headers (`name: value`), a NUL
/// byte, then the body.
pub(crate) fn request(input: &[u8]) -> String {
    let mut parts = input.splitn(2, |byte| *byte == 0);
    let (head, body) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let head = String::from_utf8_lossy(head);
    let mut lines = head.lines();
    let mut line = || lines.next().unwrap_or_default();
    let (method, path, query) = (line(), line(), line());
    let headers: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(": ")).collect();
    let raw = RawRequest {
        method,
        path,
        query,
        headers: &headers,
        body,
    };
    let call = match Call::parse(raw) {
        Ok(call) => call,
        Err(refused) => return refused.message,
    };
    let key = SecretKey::new("a key unknown to the input");
    let verified = call.verify(&key, call.timestamp, scf::CLOCK_SKEW_S);
    let refused = verified.expect_err("a forged signature verified");
    let bounds = Bounds::default();
    let mut decoded = vec![refused.message];
    let mut add = |failure: Option<scf::Error>| {
        decoded.push(failure.map_or("read".to_owned(), |refused| refused.message));
    };
    add(call.decode::<CreateFunction>(&bounds).err());
    add(call.decode::<GetFunctionLogs>(&bounds).err());
    add(call.decode::<Invoke>(&bounds).err());
    add(call.decode::<ListFunctions>(&bounds).err());
    decoded.join("; ")
}
