//! HTTP requests to functions. A request whose host or path belongs to a function is routed here, before the API's
//! routes.
//!
//! Owns the translation between HTTP requests and invocations. Never knows the API's actions, buckets, or the gateways.
#![forbid(unsafe_code)]

mod apigw;
mod authenticate;
mod body;
mod cors;
mod error_status;
mod event;
mod failure;
mod forwarded;
mod header_names;
mod invocation;
mod lenient;
mod peer;
mod prefix;
mod refusal;
mod reply;
mod route;
mod router;
mod run;
mod serve;
mod shared_origin;
mod target;
mod upgrade;
mod urls;
mod web;

pub use error_status::UrlErrors;
pub use router::UrlRouter;
pub use target::ListenerKind;
pub use urls::{UrlSettings, Urls};
