//! What every answer is wrapped in.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Error;

/// The content type of every answer, exactly: with a charset behind it the Python SDK no longer sees errors.
pub const CONTENT_TYPE: &str = "application/json";

/// A successful answer.
pub fn ok<T: Serialize>(request_id: &str, response: &T) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Outer<'a, T> {
        response: Inner<'a, T>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Inner<'a, T> {
        #[serde(flatten)]
        fields: &'a T,
        request_id: &'a str,
    }
    let outer = Outer {
        response: Inner {
            fields: response,
            request_id,
        },
    };
    // Only a map with keys that are not text could fail, and no response has one.
    serde_json::to_vec(&outer).unwrap_or_default()
}

/// A failed answer; also sent under HTTP status 200, as the SDKs expect.
pub fn error(request_id: &str, error: &Error) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Failed<'a> {
        error: Inner<'a>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Inner<'a> {
        code: &'a str,
        message: &'a str,
    }
    ok(
        request_id,
        &Failed {
            error: Inner {
                code: error.code.as_str(),
                message: &error.message,
            },
        },
    )
}

/// A request's body for a client to send: fields that are not set are left out.
pub fn request_body<T: Serialize>(request: &T) -> Vec<u8> {
    let mut value = serde_json::to_value(request).unwrap_or_default();
    drop_nulls(&mut value);
    value.to_string().into_bytes()
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// An error as a client receives it. The code is text, since a server may know more of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message} (request {request_id})")]
pub struct Refusal {
    /// The API's code.
    pub code: String,
    /// For people.
    pub message: String,
    /// The request, for the server's log.
    pub request_id: String,
}

/// Reads an answer as a client: the response, or the refusal, or what is wrong with the answer itself.
///
/// # Errors
/// `Err` when the bytes are not an answer of the API.
pub fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<Result<T, Refusal>, serde_json::Error> {
    let mut outer: Value = serde_json::from_slice(answer)?;
    let inner = outer
        .get_mut("Response")
        .map(Value::take)
        .unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if let Some(error) = inner.get("Error") {
        return Ok(Err(Refusal {
            code: text(&error["Code"]),
            message: text(&error["Message"]),
            request_id: text(&inner["RequestId"]),
        }));
    }
    serde_json::from_value(inner).map(Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    #[test]
    fn an_error_has_the_api_shape() {
        let bytes = error("r-1", &Error::new(Code::InvalidAction, "no \"X\""));
        assert_eq!(
            String::from_utf8_lossy(&bytes),
            r#"{"Response":{"Error":{"Code":"InvalidAction","Message":"no \"X\""},"RequestId":"r-1"}}"#
        );
        let refusal = read::<Value>(&bytes)
            .expect("an answer")
            .expect_err("a refusal");
        assert_eq!(
            (refusal.code.as_str(), refusal.request_id.as_str()),
            ("InvalidAction", "r-1")
        );
    }

    #[test]
    fn unset_fields_are_not_sent() {
        let body = request_body(&serde_json::json!({"A": null, "B": {"C": null, "D": 1}}));
        assert_eq!(String::from_utf8_lossy(&body), r#"{"B":{"D":1}}"#);
    }
}
