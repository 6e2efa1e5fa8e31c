//! SCF's published wire contract, API version 2018-04-16: signing, actions, fields, error codes. Beside it stand the actions of the
//! tag service, as far as functions have tags.
//!
//! Pure functions and plain types. There is no HTTP here, no clock and nothing of virga's own, so that the
//! server, the command line and the tests all speak through the same code.
//!
//! Facts come from the official SDKs' sources and the API's documentation.
#![forbid(unsafe_code)]

pub mod action;
pub mod bounds;
pub mod envelope;
mod error;
mod flat;
pub mod keypair;
mod request;
mod secret;
mod service;
pub mod tc3;
pub mod types;
pub mod v1;

pub use action::{ACTIONS, Action, ActionInfo};
pub use bounds::Bounds;
pub use error::{Code, Error};
pub use request::{Call, FORM_MAX, FUNCTION_URL, RawRequest, decode_json, form_too_long};
pub use secret::SecretKey;
pub use service::{SCF, SERVICES, Service, TAG};

/// The API's version, as `X-TC-Version` carries it.
pub const VERSION: &str = "2018-04-16";
/// The service's name, as SDKs put it into their signature's scope.
pub const SERVICE: &str = "scf";
/// How far a request's timestamp may be from the server's clock, seconds, as the cloud has it.
pub const CLOCK_SKEW_S: i64 = 300;
