//! Copies of functions.

use std::collections::BTreeMap;
use std::sync::Arc;

use catalog::Stored;
use model::{
    CodeRef, Field, Function, FunctionConfig, FunctionId, FunctionKey, FunctionState, MemoryMb,
};

use crate::random::random;
use crate::{Control, Error, Reason, text};

/// How a function is copied.
#[derive(Clone, Copy, Debug)]
pub struct CopySettings<'a> {
    /// Whether a function that has the new name is replaced.
    pub replace: bool,
    /// Whether the settings are copied, too.
    pub configuration: bool,
    /// Description of the copy; none for the source's.
    pub description: Option<&'a str>,
}

/// A function with code, which can be copied.
#[derive(Clone, Debug)]
pub struct CopySource {
    function: Arc<Stored<Function>>,
    code: CodeRef,
}

impl Control {
    /// Finds a function to copy.
    ///
    /// # Errors
    /// The function does not exist or has no code.
    pub fn copy_source(&self, key: &FunctionKey) -> Result<CopySource, Error> {
        let function = self.function(key)?;
        let code = function.value.code.clone().ok_or_else(|| {
            let message = format!("function {} has no code to copy", key.name);
            Error::new(Reason::NothingToCopy, message)
        })?;
        Ok(CopySource { function, code })
    }

    /// Copies a function. `check` decides whether the caller may give the settings, with the resources that they name, to
    /// another function.
    ///
    /// # Errors
    /// The target exists and is not to be replaced or cannot change now, `check` refuses, or a quota is used up.
    pub async fn copy_function<E: From<Error>>(
        &self,
        source: CopySource,
        target: FunctionKey,
        settings: CopySettings<'_>,
        check: impl Fn(&FunctionConfig) -> Result<(), E>,
    ) -> Result<(), E> {
        let CopySource { function, code } = source;
        let source = &function.value;
        if target == source.key {
            let message = "it is the name of the source function; choose another";
            return Err(Error::of(Field::CopyName, Reason::FunctionExists, message).into());
        }
        match self.catalog.function(&target) {
            Some(_) if settings.replace => {
                self.replace_by_copy(source, &target, code, settings, check)
                    .await
            }
            Some(_) => Err(Error::function(catalog::Error::Exists).into()),
            None => self.add_copy(source, target, settings, check).await,
        }
    }

    async fn add_copy<E: From<Error>>(
        &self,
        source: &Function,
        target: FunctionKey,
        settings: CopySettings<'_>,
        check: impl Fn(&FunctionConfig) -> Result<(), E>,
    ) -> Result<(), E> {
        let now = clock::now_ms();
        let mut copy = Function {
            id: FunctionId::from_random(random()),
            key: target,
            state: FunctionState::Active,
            pending: None,
            revision: 1,
            added: now,
            modified: now,
            reserved_mb: None,
            versions: BTreeMap::new(),
            last_version: 0,
            aliases: BTreeMap::new(),
            triggers: Vec::new(),
            ..source.clone()
        };
        if !settings.configuration {
            copy.config = FunctionConfig {
                description: String::new(),
                memory: MemoryMb::default(),
                environment: BTreeMap::new(),
                public_net: true,
                role: None,
                layers: Vec::new(),
                dead_letter: None,
                echo: BTreeMap::new(),
                ..copy.config
            };
        }
        check(&copy.config)?;
        self.describe(&mut copy, settings)?;
        let created = self.catalog.create_function(&copy, &self.limits);
        Ok(created.await.map_err(Error::function)?)
    }

    async fn replace_by_copy<E: From<Error>>(
        &self,
        source: &Function,
        target: &FunctionKey,
        code: CodeRef,
        settings: CopySettings<'_>,
        check: impl Fn(&FunctionConfig) -> Result<(), E>,
    ) -> Result<(), E> {
        self.change(target, |copy| {
            copy.runtime = source.runtime;
            copy.code = Some(code.clone());
            copy.state = FunctionState::Active;
            copy.reasons.clear();
            copy.revision += 1;
            if settings.configuration {
                check(&source.config)?;
                copy.config = source.config.clone();
            }
            self.describe(copy, settings)?;
            copy.modified = clock::now_ms();
            Ok(())
        })
        .await
    }

    fn describe(&self, copy: &mut Function, settings: CopySettings<'_>) -> Result<(), Error> {
        if settings.description.is_some() {
            copy.config.description = text::description(settings.description, &self.limits)?;
        }
        Ok(())
    }
}
