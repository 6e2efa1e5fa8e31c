//! Runs functions: from the request for an invocation to its answer, and all that keeps instances as the catalog says.
//!
//! [`invoke::Ingest`] is the single entry. It looks up the function, takes an instance of [`driver::Driver`], runs the request
//! there and reports it. [`runner::Runner`] does the same for queued events. [`lifecycle`] and [`provisioner`] follow the
//! catalog; [`builds`] run pip, npm and the compiler.
//!
//! Owns the carrying out of what `dispatch` decides. Never knows APIs, field names, or triggers.
#![forbid(unsafe_code)]

pub mod builds;
pub mod driver;
pub mod gauges;
pub mod index_proxy;
pub mod invoke;
pub mod lifecycle;
pub mod provisioner;
pub mod runner;
