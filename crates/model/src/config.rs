//! The settings of a function, which a published version freezes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{DeadLetter, Field, Handler, Invalid, LayerRef, Limits, MemoryMb, RoleName};

/// A non-zero duration in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seconds(u32);

impl Seconds {
    /// Parses a function's Timeout: 1 to the configured maximum.
    ///
    /// # Errors
    /// [`Invalid`] for [`Field::Timeout`].
    pub fn timeout(given: i64, limits: &Limits) -> Result<Self, Invalid> {
        Self::within(Field::Timeout, given, limits.timeout_max_s)
    }

    /// Parses the Timeout of a function with asynchronous execution.
    ///
    /// # Errors
    /// [`Invalid`] for [`Field::Timeout`].
    pub fn async_timeout(given: i64, limits: &Limits) -> Result<Self, Invalid> {
        Self::within(Field::Timeout, given, limits.async_timeout_max_s)
    }

    /// Parses a function's InitTimeout: 1 to the configured maximum.
    ///
    /// # Errors
    /// [`Invalid`] for [`Field::InitTimeout`].
    pub fn init_timeout(given: i64, limits: &Limits) -> Result<Self, Invalid> {
        Self::within(Field::InitTimeout, given, limits.init_timeout_max_s)
    }

    fn within(field: Field, given: i64, max: u32) -> Result<Self, Invalid> {
        match u32::try_from(given) {
            Ok(seconds) if (1..=max).contains(&seconds) => Ok(Self(seconds)),
            _ => Err(Invalid::new(field, given, format!("1 to {max} (seconds)"))),
        }
    }

    /// Returns the duration in seconds.
    pub fn get(self) -> u32 {
        self.0
    }
}

/// The invocation model of a function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FunctionKind {
    /// A handler called with a JSON event.
    #[default]
    Event,
    /// A web server that receives HTTP requests.
    Http,
}

/// The user-configurable settings of a function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FunctionConfig {
    /// Description, up to 1,000 characters.
    pub description: String,
    /// Entry point.
    pub handler: Handler,
    /// Memory size of an instance. Its CPU weight is proportional.
    pub memory: MemoryMb,
    /// Maximum duration of an invocation.
    pub timeout: Seconds,
    /// Maximum duration of an instance start.
    pub init_timeout: Seconds,
    /// Environment variables.
    pub environment: BTreeMap<String, String>,
    /// Whether it has network access beyond virga's own services.
    #[serde(default = "enabled", skip_serializing_if = "is_true")]
    pub public_net: bool,
    /// Role that its code assumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleName>,
    /// Layers mounted at `/opt`, the later over the earlier.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerRef>,
    /// Settings of a web function.
    #[serde(default, skip_serializing_if = "WebConfig::is_default")]
    pub web: WebConfig,
    /// Destination of events that failed permanently.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetter>,
    /// API fields that are stored and returned without effect, by wire name.
    pub echo: BTreeMap<String, serde_json::Value>,
}

impl FunctionConfig {
    /// Name under which the stored fields hold whether dependencies are installed.
    const INSTALLS: &str = "InstallDependency";

    /// Returns whether a package's dependencies are installed if a change of the code does not say.
    pub fn installs(&self) -> bool {
        let stored = self.echo.get(Self::INSTALLS);
        let stored = stored.and_then(serde_json::Value::as_str);
        stored.is_some_and(|text| text.eq_ignore_ascii_case("TRUE"))
    }

    /// Sets whether dependencies are installed.
    pub fn set_installs(&mut self, install: bool) {
        let shown = if install { "TRUE" } else { "FALSE" };
        self.echo.insert(Self::INSTALLS.into(), shown.into());
    }
}

/// Settings of a web function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebConfig {
    /// Concurrent requests per instance; none for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<InstanceConcurrency>,
    /// Idle timeout of WebSocket connections (s), if WebSocket is declared; none for the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub websocket_idle: Option<u32>,
}

impl WebConfig {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Concurrent requests per instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceConcurrency {
    /// Maximum. Stored as `most`.
    #[serde(rename = "most")]
    pub max: u32,
    /// Whether the platform may lower it dynamically; stored and returned, without effect yet.
    pub dynamic: bool,
}

/// Default of a field that older records lack.
fn enabled() -> bool {
    true
}

/// Returns whether a field that is `true` by default can be omitted.
fn is_true(value: &bool) -> bool {
    *value
}
