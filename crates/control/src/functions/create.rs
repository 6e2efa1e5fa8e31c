//! Creation of functions.

use std::collections::BTreeMap;

use model::{
    Function, FunctionConfig, FunctionId, FunctionKey, FunctionKind, FunctionState, Runtime,
};

use super::code::set_code;
use crate::packages::StoredPackage;
use crate::random::random;
use crate::{Control, Error};

/// A function to create.
#[derive(Clone, Debug)]
pub struct NewFunction {
    /// Its name.
    pub key: FunctionKey,
    /// How it is called.
    pub kind: FunctionKind,
    /// Its runtime.
    pub runtime: Runtime,
    /// Its settings.
    pub config: FunctionConfig,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Whether it runs asynchronously, for up to a day.
    pub async_run: bool,
    /// Whether the package's dependencies are installed.
    pub install: bool,
}

impl Control {
    /// Creates a function. Its package is stored only if the function may be created.
    ///
    /// # Errors
    /// The function exists, its namespace does not, its package is refused, or a quota is used up.
    pub async fn create_function<E: From<Error>>(
        &self,
        new: NewFunction,
        package: impl Future<Output = Result<StoredPackage, E>>,
    ) -> Result<(), E> {
        let NewFunction {
            key,
            kind,
            runtime,
            config,
            tags,
            async_run,
            install,
        } = new;
        if self.catalog.function(&key).is_some() {
            return Err(Error::function(catalog::Error::Exists).into());
        }
        if !self.catalog.has_namespace(key.account, &key.namespace) {
            return Err(Error::function(catalog::Error::NoNamespace(key.namespace)).into());
        }
        let stored = package.await?;
        self.check_size(Some(&stored.package), &config.layers)
            .await?;
        let now = clock::now_ms();
        let mut function = Function {
            id: FunctionId::from_random(random()),
            key,
            kind,
            runtime,
            config,
            code: None,
            pending: None,
            state: FunctionState::Creating,
            reasons: Vec::new(),
            revision: 0,
            added: now,
            modified: now,
            tags,
            reserved_mb: None,
            events: None,
            async_run,
            versions: BTreeMap::new(),
            last_version: 0,
            aliases: BTreeMap::new(),
            triggers: Vec::new(),
        };
        set_code(&mut function, stored, install, None);
        let created = self.catalog.create_function(&function, &self.limits);
        Ok(created.await.map_err(Error::function)?)
    }
}
