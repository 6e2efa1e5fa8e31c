//! Runs function instances: assigns pre-warmed sandboxes to functions, passes requests to them, and ends them.
//!
//! The worker gets a complete [`InstanceSpec`] by value. It knows neither the catalog nor triggers and does not decide
//! how many instances run. It keeps working while the control plane is down.
#![forbid(unsafe_code)]

mod assignment;
mod disks;
mod exit_statuses;
mod found;
mod frame;
mod guest_report;
mod host_resources;
mod identity;
mod install;
mod install_settings;
mod instance;
mod interpreter;
mod launch_mode;
mod layout;
mod local_files;
mod log;
mod package;
mod precompile;
mod private_trees;
mod process;
mod request;
mod root;
pub mod runner;
mod runtime;
mod sandbox_pool;
mod short_requests;
mod spec;
mod start;
mod tool;
mod users;
mod warden;
mod web;
mod work_directory;
mod worker;

pub use found::Interpreter;
pub use install::{Installation, Installed, StoredAs};
pub use install_settings::InstallSettings;
pub use instance::{ForwardError, Instance, InvocationResult, StartError, Started};
pub use interpreter::{Interpreters, Served};
pub use package::{PackageError, PackageStore, PackageWriter, TreeSize};
pub use precompile::CompileNeeds;
pub use request::RequestMetadata;
pub use sandbox_pool::ZygoteRenewal;
pub use spec::{Credentials, InstanceSpec, PlatformInfo};
pub use web::{BoxError, Head, Outgoing, Payload, StreamedReply};
pub use worker::{Config, Worker};

use thiserror::Error;

/// A fault of the platform or the host, never of the user's code.
#[derive(Debug, Error)]
pub enum Error {
    /// A step of isolation failed.
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    /// The code of a function is not allowed, missing or damaged.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// I/O with an instance, or with one of the worker's own files.
    #[error("{step}: {source}")]
    Io {
        /// The step that failed.
        step: &'static str,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The sandbox of an instance could not be set up.
    #[error("failed to set up the sandbox: {0}")]
    Setup(String),
    /// The requested feature needs isolation that `--isolation=process` does not have.
    #[error("{0} is not available with --isolation=process")]
    NeedsIsolation(&'static str),
    /// All user ids reserved for instances are in use.
    #[error(
        "all {0} user ids reserved for instances are in use; raise uid_count, and the limit of open files (ulimit -n) if that is lower"
    )]
    NoUser(u32),
    /// No installed interpreter can serve the runtime.
    #[error("{wanted} is not installed; this host has {have}")]
    NoInterpreter {
        /// The requested runtime.
        wanted: String,
        /// The installed interpreters.
        have: String,
    },
    /// The thread that owns the zygote has ended.
    #[error("the worker is shutting down")]
    Closed,
}

impl Error {
    fn io(step: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { step, source }
    }
}
