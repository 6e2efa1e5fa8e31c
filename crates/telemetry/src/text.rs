//! Formats an invocation as the log lines that SCF shows.

use std::borrow::Cow;
use std::fmt::Write;

use super::record::Record;

/// Bytes of the log returned with LogType Tail. Source: the API's field documentation.
const TAIL: usize = 4096;
/// Maximum bytes of a response in its log line.
const ANSWER_SHOWN: usize = 4096;

/// Returns the complete log of an invocation.
pub fn log_text(record: &Record) -> String {
    let id = record.request;
    let mut text = format!("START RequestId:{id}\n");
    push_output(&mut text, &record.init_log);
    if let Some(cold) = record.cold {
        let ms = |us: u64| us.div_ceil(1000);
        let rest = cold
            .total_us
            .saturating_sub(cold.runtime_us + cold.import_us);
        let kind = if cold.provisioned {
            "Provisioned"
        } else {
            "Init"
        };
        let _ = writeln!(
            text,
            "{kind} Report RequestId: {id} Coldstart: {}ms (PullCode: {}ms InitRuntime: {}ms InitFunction: {}ms) \
             Memory: {} MemUsage: {:.2}MB",
            ms(cold.total_us),
            ms(rest),
            ms(cold.runtime_us),
            ms(cold.import_us),
            record.memory,
            megabytes(cold.memory_peak),
        );
    }
    if let Some(note) = &record.note {
        let _ = writeln!(text, "[PLATFORM] {note}");
    }
    push_output(&mut text, &record.log);
    let answer = shown(&record.answer);
    if record.failure.is_none() {
        let _ = writeln!(text, "Response RequestId:{id} RetMsg:{answer}");
    } else {
        let _ = writeln!(text, "ERROR RequestId:{id} Result:{answer}");
    }
    let _ = writeln!(
        text,
        "END RequestId:{id}\nReport RequestId:{id} Duration:{}ms Memory:{} MemUsage:{:.6}MB",
        record.billed_ms(),
        record.memory,
        megabytes(record.usage.memory_peak),
    );
    text
}

/// Returns the end of a log, cut at a character boundary.
pub fn tail(text: &str) -> &str {
    let mut from = text.len().saturating_sub(TAIL);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

/// Appends output as text: invalid UTF-8 becomes replacement characters, and a missing final newline is added.
fn push_output(text: &mut String, output: &[u8]) {
    if output.is_empty() {
        return;
    }
    text.push_str(&String::from_utf8_lossy(output));
    if !text.ends_with('\n') {
        text.push('\n');
    }
}

fn shown(answer: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(&answer[..answer.len().min(ANSWER_SHOWN)])
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use bytes::Bytes;
    use model::{
        AccountId, FailureKind, FunctionKey, FunctionName, MemoryMb, Namespace, RequestId, Usage,
        Version,
    };

    pub(crate) fn record() -> Record {
        Record {
            request: RequestId::from_bytes([0; 16]),
            function: FunctionKey {
                account: AccountId(1),
                namespace: Namespace::default(),
                name: FunctionName::parse("hello").expect("a name"),
            },
            version: Version::Latest,
            memory: MemoryMb::default(),
            started: 0,
            retry: 0,
            failure: None,
            usage: Usage {
                duration_us: 1200,
                memory_peak: 3 << 20,
            },
            billed_us: 1200,
            answer: Bytes::from_static(b"\"ok\""),
            init_log: Bytes::from_static(b"loading"),
            log: Bytes::from_static(b"caf\xe9"),
            cold: Some(super::super::ColdStart {
                total_us: 2500,
                runtime_us: 300,
                import_us: 900,
                memory_peak: 0,
                provisioned: false,
            }),
            note: None,
        }
    }

    #[test]
    fn cold_start_line_matches_scf() {
        let id = "00000000-0000-0000-0000-000000000000";
        let expected = format!(
            "START RequestId:{id}\nloading\nInit Report RequestId: {id} Coldstart: 3ms (PullCode: 2ms InitRuntime: \
             1ms InitFunction: 1ms) Memory: 128MB MemUsage: 0.00MB\ncaf\u{fffd}\nResponse RequestId:{id} \
             RetMsg:\"ok\"\nEND RequestId:{id}\nReport RequestId:{id} Duration:2ms Memory:128MB \
             MemUsage:3.000000MB\n"
        );
        assert_eq!(log_text(&record()), expected);
    }

    #[test]
    fn provisioned_start_has_its_own_report_line() {
        let mut record = record();
        if let Some(cold) = &mut record.cold {
            cold.provisioned = true;
        }
        let text = log_text(&record);
        let line =
            "\nProvisioned Report RequestId: 00000000-0000-0000-0000-000000000000 Coldstart: 3ms (";
        assert!(
            text.contains(line) && !text.contains("Init Report"),
            "{text}"
        );
    }

    #[test]
    fn failed_invocation_logs_an_error_line() {
        let failed = Record {
            failure: Some(FailureKind::TimedOut),
            cold: None,
            ..record()
        };
        let text = log_text(&failed);
        assert!(
            text.contains("\nERROR RequestId:00000000-0000-0000-0000-000000000000 Result:\"ok\"\n"),
            "{text}"
        );
        assert!(!text.contains("Init Report"), "{text}");
    }

    #[test]
    fn tail_never_splits_a_character() {
        let text = "é".repeat(4000);
        assert_eq!(tail(&text).len(), 4096);
        let text = format!("x{}", "é".repeat(4000));
        assert_eq!(tail(&format!("{text}y")).len(), 4095);
    }
}
