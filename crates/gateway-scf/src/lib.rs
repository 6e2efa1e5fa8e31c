//! The HTTP front end of the API: authenticates and authorizes requests, dispatches actions, and encodes responses.
//!
//! Every API response has HTTP status 200 and the content type `application/json` exactly; the SDKs treat anything else as a
//! network failure. Wire types do not leave this module.
//!
//! Owns the conversion between the wire and the platform, and the choice of error codes. Never knows how a function
//! is isolated, stores' formats, or how buckets are served.
#![forbid(unsafe_code)]

mod account;
mod aliases;
mod api;
mod bounds;
mod code;
mod concurrency;
mod documents;
mod domains;
mod download;
mod error;
mod events;
mod functions;
mod gateway;
mod invoke;
mod layers;
mod logs;
mod metrics_access;
mod monitoring;
mod names;
mod namespaces;
mod notifications;
mod operator;
mod origin;
mod page;
mod policy_action;
#[cfg(test)]
mod probe;
mod provisioned;
mod receive;
mod routes;
mod show;
mod tags;
mod triggers;
mod versions;
mod visible;

pub use bounds::bounds;
pub use documents::ScfDocuments;
pub use gateway::Gateway;
pub(crate) use gateway::{Caller, Serve};
pub use metrics_access::{MetricsAccess, MetricsToken};
pub use monitoring::metrics_router;
pub(crate) use origin::RequestOrigin;
pub use policy_action::{is_action, policy_actions};
pub use routes::{inside_router, router, secure_inside_router, secure_router};
