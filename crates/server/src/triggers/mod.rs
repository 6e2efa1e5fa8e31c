//! What runs functions beside calls of the API: each kind in a file of its own, which hands its events to
//! [`crate::invoke::Ingest`] and follows the catalog.

mod timer;

pub(crate) use timer::{Settings as TimerSettings, Timers};
