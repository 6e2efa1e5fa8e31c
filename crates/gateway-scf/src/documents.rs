//! SCF's documents about failures, for the log, for the history of events and for dead letters.

use engine::invoke::Documents;
use events::{EventOrigin, QueuedEvent};
use model::{AccountId, Failure, RequestId};
use scf::failure::{FailureDocument, dead_letter_error};
use serde_json::json;

/// SCF's documents. A failure's number is SCF's function status code.
#[derive(Clone, Copy, Debug)]
pub struct ScfDocuments;

impl Documents for ScfDocuments {
    fn failure(&self, failure: &Failure, request: RequestId) -> Vec<u8> {
        let document = FailureDocument {
            status: failure.kind.number(),
            message: &failure.message,
            stack: failure.stack.as_deref(),
            request: &request.to_string(),
        };
        document.encode()
    }

    /// Source: SCF's page "Dead Letter Queue", whose sample has these values.
    fn dead_letter(&self, account: AccountId, uin: &str, queued: &QueuedEvent) -> String {
        let milliseconds = queued.accepted.0 / 1000;
        let reason = queued.message.as_deref().unwrap_or_default();
        let (code, message) = dead_letter_error(queued.status.unwrap_or_default(), reason);
        let letter = json!({
            "RequestId": queued.request.to_string(),
            "ErrorCode": code,
            "ErrorMessage": message,
            "Body": {
                "AppId": account.0,
                "Uin": uin,
                "SubAccountUin": uin,
                "RequestSource": request_source(queued.source),
                "FunctionName": queued.function.name.to_string(),
                "Namespace": queued.function.namespace.to_string(),
                "Qualifier": queued.qualifier.to_string(),
                "InvocationType": "RequestResponse",
                "ClientContext": String::from_utf8_lossy(&queued.event),
                "LogType": "",
                "TimeStampForInvoker": milliseconds.to_string(),
                "RequestId": queued.request.to_string(),
                "PushTime": clock::format_rfc3339(queued.accepted.0),
                "RetryNum": queued.failures.user,
                "Ttl": 0,
            },
        });
        letter.to_string()
    }
}

/// Returns the `RequestSource` value of a dead letter.
fn request_source(source: EventOrigin) -> String {
    match source {
        EventOrigin::Trigger(_) => format!("TRIGGER_{}", source.as_str()),
        EventOrigin::Api | EventOrigin::DeadLetter => source.as_str().to_owned(),
    }
}
