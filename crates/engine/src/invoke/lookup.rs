//! Look-ups of functions, and the version that serves an invocation.

use std::sync::Arc;

use catalog::{Catalog, Stored};
use model::{
    Function, FunctionKey, FunctionKind, FunctionState, Qualifier, RequestId, RoutingKey, Serving,
    Version,
};

use super::IngestError;

/// The result of one look-up of a function, which a call passes on, so that it needs no second one.
#[derive(Clone, Debug)]
pub struct FunctionLookup(Option<Arc<Stored<Function>>>);

impl From<Arc<Stored<Function>>> for FunctionLookup {
    fn from(found: Arc<Stored<Function>>) -> Self {
        Self(Some(found))
    }
}

impl FunctionLookup {
    pub(super) fn of(catalog: &Catalog, key: &FunctionKey) -> Self {
        Self(catalog.function(key))
    }

    /// Returns the function, if it exists.
    pub fn function(&self) -> Option<&Function> {
        self.0.as_ref().map(|stored| &stored.value)
    }

    /// Returns whether it is a web function, which takes no events.
    pub fn is_web(&self) -> bool {
        self.function()
            .is_some_and(|function| function.kind == FunctionKind::Http)
    }

    /// Returns whether the function runs every request asynchronously.
    pub fn runs_asynchronously(&self) -> bool {
        self.function().is_some_and(|function| function.async_run)
    }

    /// Rejects web functions. A missing function passes; [`Self::existing`] reports it.
    pub(super) fn check_takes_events(&self) -> Result<(), IngestError> {
        match self.function() {
            Some(function) if self.is_web() => Err(IngestError::Web(function.key.name.to_string())),
            _ => Ok(()),
        }
    }

    /// Returns the function, or why it is missing.
    pub(super) fn existing(
        &self,
        catalog: &Catalog,
        key: &FunctionKey,
    ) -> Result<&Function, IngestError> {
        self.function().ok_or_else(|| {
            let known = catalog.has_namespace(key.account, &key.namespace);
            let missing = if known {
                IngestError::NoFunction
            } else {
                IngestError::NoNamespace
            };
            missing(key.clone())
        })
    }
}

/// Resolves a qualifier to the version that serves an invocation.
///
/// # Errors
/// The version does not exist, or the function's state does not allow invocations.
pub(super) fn resolve<'a>(
    function: &'a Function,
    qualifier: &Qualifier,
    routing_key: &RoutingKey,
    request: RequestId,
) -> Result<Serving<'a>, IngestError> {
    let key = &function.key;
    let version = match qualifier {
        Qualifier::Latest => Some(Version::Latest),
        Qualifier::Version(number) => Some(Version::Number(*number)),
        Qualifier::Alias(name) => function.route(name, routing_key, random_fraction(request)),
    };
    let serving = version.and_then(|version| function.serving(version));
    let serving = serving.ok_or_else(|| IngestError::NoQualifier {
        key: key.clone(),
        qualifier: qualifier.clone(),
    })?;
    // A published version keeps serving while `$LATEST` is updated or has failed.
    let state = function.state;
    let serves = match serving.version {
        Version::Latest => state.serves(),
        Version::Number(_) => state != FunctionState::Deleting,
    };
    if serves {
        return Ok(serving);
    }
    let reasons = function
        .reasons
        .iter()
        .map(|reason| format!(": {}", reason.message));
    let (name, why) = (key.name.to_string(), reasons.collect());
    Err(IngestError::State { name, state, why })
}

/// Returns a number in [0, 1) that is fixed for a request, from the random bits at the end of its id.
fn random_fraction(request: RequestId) -> f64 {
    let bytes = request.as_bytes();
    let last = bytes
        .iter()
        .rev()
        .take(4)
        .fold(0u32, |number, byte| number << 8 | u32::from(*byte));
    f64::from(last) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alias_traffic_follows_its_weights() {
        let count = 100_000;
        for weight in [0.01, 0.1, 0.5, 0.9] {
            let chosen = (0..count)
                .map(|_| clock::new_request_id())
                .filter(|request| random_fraction(*request) < weight)
                .count();
            let mean = weight * f64::from(count);
            let deviation = (mean * (1.0 - weight)).sqrt();
            // 4.9 standard deviations: one such test in a million fails by chance.
            let off = (chosen as f64 - mean).abs() / deviation;
            assert!(off < 4.9, "{weight}: {chosen}, off by {off} deviations");
        }
    }
}
