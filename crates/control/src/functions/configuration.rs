//! Changes of a function's settings.

use std::sync::Arc;

use catalog::Stored;
use model::{Field, Function, FunctionConfig, FunctionKey};

use crate::{Control, Error};

/// The new settings of a function.
#[derive(Clone, Debug)]
pub struct Reconfigured {
    /// The settings.
    pub config: FunctionConfig,
    /// Whether a version is published.
    pub publish: bool,
}

impl Control {
    /// Changes a function's settings. `edit` makes the new ones from the current record; if another change came first, it
    /// runs again on the newer record.
    ///
    /// # Errors
    /// The function does not exist or cannot change now, `edit` refuses, or a quota is used up.
    pub async fn update_configuration<E: From<Error>, F>(
        &self,
        key: &FunctionKey,
        edit: impl Fn(Arc<Stored<Function>>) -> F,
    ) -> Result<(), E>
    where
        F: Future<Output = Result<Reconfigured, E>>,
    {
        loop {
            let stored = self.changeable(key)?;
            let Reconfigured { config, publish } = edit(stored.clone()).await?;
            let mut function = Function {
                config,
                ..stored.value.clone()
            };
            if instance_settings(&stored.value.config) != instance_settings(&function.config) {
                // Instances with the old settings stop after their current request.
                function.revision += 1;
            }
            if publish {
                self.publish_when_ready(&mut function)?;
            }
            function.modified = clock::now_ms();
            if self.replace(&stored, &function).await? {
                return Ok(());
            }
        }
    }
}

/// Returns the settings that instances are started with. A change replaces the instances.
fn instance_settings(config: &FunctionConfig) -> impl PartialEq + '_ {
    (
        (config.memory, config.timeout, config.init_timeout),
        (
            &config.environment,
            config.public_net,
            &config.layers,
            &config.web,
        ),
        &config.role,
    )
}

/// Checks that a request does not change the runtime.
///
/// # Errors
/// It names another one.
pub fn check_runtime_unchanged(function: &Function, name: &str) -> Result<(), Error> {
    if name == function.runtime.to_string() {
        return Ok(());
    }
    let message = format!(
        "{name:?} is not allowed; a function's runtime is fixed, here {}",
        function.runtime
    );
    Err(Error::invalid(Field::Runtime, message))
}
