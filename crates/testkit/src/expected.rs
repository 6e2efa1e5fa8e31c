//! Faults in a server's log, and those that are expected of any test of a kind. Others are listed by the test that provokes them.

use serde_json::Value;

/// Expected of any test.
pub(crate) const ANYWHERE: &[&str] = &[
    // The host's resolver may be on its loopback alone, and there may be none.
    "functions cannot resolve names: this host has no resolver",
    "no DNS server is known, so no custom domain can be proved",
];

/// Expected of a server that was killed and started again.
pub(crate) const AFTER_KILL: &[&str] = &[
    // The processes of the killed run end while the next one starts.
    "skipping user ids that processes of an earlier run or of another virga run as",
];

/// Expected of a server that an unprivileged user started.
pub(crate) const OF_A_USER: &[&str] = &[
    // Only root can mount them.
    "cannot make disks; temporary files of functions are kept in memory",
];

/// Expected of a server without isolation.
pub(crate) const WITHOUT_ISOLATION: &[&str] = &[
    // The warning that each start without isolation gives.
    "--isolation=process: functions are processes of this host",
    // Disks need a mount namespace.
    "cannot make disks; temporary files of functions are kept in memory",
];

/// A line of a log with a fault: a warning, an error or a panic.
#[derive(Debug)]
pub(crate) struct Fault<'a> {
    pub(crate) line: &'a str,
    /// Empty for a panic.
    message: String,
}

impl<'a> Fault<'a> {
    /// Returns the fault of a line, if it has one.
    pub(crate) fn read(line: &'a str) -> Option<Self> {
        if line.starts_with("thread '") && line.contains("panicked at") {
            let message = String::new();
            return Some(Self { line, message });
        }
        let parsed: Value = serde_json::from_str(line).ok()?;
        if !matches!(parsed["level"].as_str(), Some("WARN" | "ERROR")) {
            return None;
        }
        let message = parsed["fields"]["message"].as_str();
        let message = message.unwrap_or_default().to_owned();
        Some(Self { line, message })
    }

    /// Whether the message begins with one of those expected. A panic never is.
    pub(crate) fn is_expected(&self, expected: &[&str]) -> bool {
        expected
            .iter()
            .any(|start| !self.message.is_empty() && self.message.starts_with(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_warnings_are_expected_and_panics_never() {
        let line = |level: &str, message: &str| {
            format!(r#"{{"level":"{level}","fields":{{"message":"{message}"}},"target":"virga"}}"#)
        };
        let expected = ["it failed"];
        let is_fault = |line: &str| {
            let fault = Fault::read(line);
            fault.is_some_and(|fault| !fault.is_expected(&expected))
        };
        assert!(!is_fault(&line("INFO", "it works")));
        assert!(!is_fault(&line("WARN", "it failed; retrying")));
        assert!(!is_fault(&line("ERROR", "it failed")));
        assert!(is_fault(&line("WARN", "something else: it failed")));
        assert!(is_fault(&line("ERROR", "")));
        assert!(is_fault("thread 'main' (7) panicked at src/it failed:1:1:"));
        assert!(!is_fault("note: run with `RUST_BACKTRACE=1`"));
    }
}
