//! Decoding of a call's parameters, with errors that name the field.

use serde::de::DeserializeOwned;

use super::{Call, Parameters};
use crate::bounds::{Bounds, Failed};
use crate::flat::Flat;
use crate::{Action, Code, Error, bounds};

impl<'a> Call<'a> {
    /// Decodes the parameters of an action within bounds. Ignores unknown fields, which some clients send.
    ///
    /// # Errors
    /// The error of a value that exceeds its bound; `MissingParameter` or `InvalidParameter`, naming the field.
    pub fn decode<A: Action>(&self, bounds: &Bounds) -> Result<A::Request, Error> {
        match &self.parameters {
            Parameters::Json(body) => decode_json(body, bounds),
            Parameters::Flat(form) => decode_flat(form.tree(self.is_version_1())?, bounds),
        }
    }
}

fn decode_flat<T: DeserializeOwned>(flat: &Flat, bounds: &Bounds) -> Result<T, Error> {
    bounds::read(flat.clone(), bounds).map_err(|failed| match failed {
        Failed::Bound(refusal) => refusal,
        Failed::Read(error) => located(
            serde_path_to_error::deserialize::<_, T>(flat.clone()),
            &error,
        ),
    })
}

/// Decodes a JSON document within bounds.
///
/// # Errors
/// As [`Call::decode`].
pub fn decode_json<T: DeserializeOwned>(body: &[u8], bounds: &Bounds) -> Result<T, Error> {
    let body = if body.trim_ascii().is_empty() {
        b"{}"
    } else {
        body
    };
    let mut reader = serde_json::Deserializer::from_slice(body);
    let read = bounds::read(&mut reader, bounds);
    let whole = read.and_then(|value| reader.end().map(|()| value).map_err(Failed::Read));
    whole.map_err(|failed| match failed {
        Failed::Bound(refusal) => refusal,
        Failed::Read(error) => {
            // Decode without tracking the path first. Only after a failure, decode again to locate it.
            let mut reader = serde_json::Deserializer::from_slice(body);
            located(
                serde_path_to_error::deserialize::<_, T>(&mut reader),
                &error,
            )
        }
    })
}

/// Creates the error of a failed decoding, with the field if the second attempt names it.
fn located<T>(
    again: Result<T, serde_path_to_error::Error<serde_json::Error>>,
    error: &serde_json::Error,
) -> Error {
    match again {
        Err(error) => field_error(&error),
        Ok(_) => Error::new(
            Code::InvalidParameter,
            format!("the body is not whole JSON: {error}"),
        ),
    }
}

fn field_error(error: &serde_path_to_error::Error<serde_json::Error>) -> Error {
    let text = error.inner().to_string();
    if error.inner().is_syntax() || error.inner().is_eof() {
        return Error::new(
            Code::InvalidParameter,
            format!("the body is not whole JSON: {text}"),
        );
    }
    // Omit "… at line 1 column 20": users of an SDK do not see the JSON text.
    let text = text.split(" at line ").next().unwrap_or(&text);
    let path = error.path().to_string();
    if let Some(field) = text
        .strip_prefix("missing field `")
        .and_then(|rest| rest.split('`').next())
    {
        let within = if path == "." {
            String::new()
        } else {
            format!(" in {path}")
        };
        return Error::new(
            Code::MissingParameter,
            format!("{field} is missing{within}"),
        );
    }
    Error::new(Code::InvalidParameter, format!("{path}: {text}"))
}
