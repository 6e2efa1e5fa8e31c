//! The wire contract of the SCF API, version 2018-04-16: signatures, actions, fields and error codes; and of the tag service's
//! actions, as far as they apply to functions.
//!
//! The crate consists of pure functions and plain types. It has no HTTP, no clock and nothing specific to virga, so that the
//! server, the command line and the tests share it.
//!
//! Sources: the official SDKs and the API documentation.
#![forbid(unsafe_code)]

pub mod action;
pub mod bounds;
pub mod envelope;
mod error;
pub mod failure;
mod flat;
pub mod keypair;
pub mod lenient_base64;
mod request;
mod secret;
mod selection;
mod service;
pub mod tc3;
pub mod types;
pub mod v1;

pub use action::{ACTIONS, Action, ActionInfo};
pub use bounds::Bounds;
pub use error::{Code, Error};
pub use request::{Call, FORM_MAX, FUNCTION_URL, RawRequest, decode_json, form_too_long};
pub use secret::{SecretKey, SecretKeyRef};
pub use service::{SCF, SERVICES, Service, TAG};

/// API version in `X-TC-Version`.
pub const VERSION: &str = "2018-04-16";
/// Service name in the credential scope of a signature.
pub const SERVICE: &str = "scf";
/// Maximum difference between a request's timestamp and the server's clock (s), as in the cloud.
pub const CLOCK_SKEW_S: i64 = 300;
