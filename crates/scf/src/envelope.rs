//! The JSON envelope of every API response.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Error;

/// Content type of every response. With a charset parameter, the Python SDK would not detect errors.
pub const CONTENT_TYPE: &str = "application/json";

/// Encodes a successful response.
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
    // Encoding fails only for maps with non-string keys, and no response has one.
    serde_json::to_vec(&outer).unwrap_or_default()
}

/// Encodes an error response, which is also sent with HTTP status 200, as the SDKs expect.
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

/// Encodes the body of a client's request. Omits unset fields.
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

/// An error response, as a client decodes it. The code is text, because a server may return codes unknown here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message} (request {request_id})")]
pub struct ErrorResponse {
    /// API error code.
    pub code: String,
    /// Message for a person.
    pub message: String,
    /// Request id, for correlation with the server's log.
    pub request_id: String,
}

/// Decodes a response as a client: the inner result is the response or the API's error.
///
/// # Errors
/// If the bytes are not a response of the API.
pub fn decode<T: DeserializeOwned>(
    response: &[u8],
) -> Result<Result<T, ErrorResponse>, serde_json::Error> {
    let mut outer: Value = serde_json::from_slice(response)?;
    let inner = outer
        .get_mut("Response")
        .map(Value::take)
        .unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if let Some(error) = inner.get("Error") {
        return Ok(Err(ErrorResponse {
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
    fn error_response_has_the_api_format() {
        let bytes = error("r-1", &Error::new(Code::InvalidAction, "no \"X\""));
        assert_eq!(
            String::from_utf8_lossy(&bytes),
            r#"{"Response":{"Error":{"Code":"InvalidAction","Message":"no \"X\""},"RequestId":"r-1"}}"#
        );
        let error = decode::<Value>(&bytes)
            .expect("a response")
            .expect_err("an API error");
        assert_eq!(
            (error.code.as_str(), error.request_id.as_str()),
            ("InvalidAction", "r-1")
        );
    }

    #[test]
    fn unset_fields_are_omitted() {
        let body = request_body(&serde_json::json!({"A": null, "B": {"C": null, "D": 1}}));
        assert_eq!(String::from_utf8_lossy(&body), r#"{"B":{"D":1}}"#);
    }
}
