//! Published versions.

use model::{
    Field, Function, FunctionKey, FunctionState, Qualifier, Serving, Sha256, Timestamp, Version,
};

use crate::{Control, Error, Limit, Reason, text, triggers};

impl Control {
    /// Publishes a version. Returns its number and the function's new record.
    ///
    /// # Errors
    /// The function does not exist, is not ready or has no code, or the quota is used up.
    pub async fn publish_version(
        &self,
        key: &FunctionKey,
        description: Option<&str>,
    ) -> Result<(u64, Function), Error> {
        let description = text::description(description, &self.limits)?;
        self.change(key, |function| {
            let number = self.publish(function, description.clone(), clock::now_ms())?;
            Ok((number, function.clone()))
        })
        .await
    }

    /// Publishes a version in the given record, which the caller must still store.
    ///
    /// # Errors
    /// The function is not ready or has no code, or the quota is used up.
    pub fn publish(
        &self,
        function: &mut Function,
        description: String,
        now: Timestamp,
    ) -> Result<u64, Error> {
        self.check_version_quota(function)?;
        if !matches!(
            function.state,
            FunctionState::Active | FunctionState::UpdateFailed
        ) {
            let message = format!(
                "function {} is {}",
                function.key.name,
                function.state.as_str()
            );
            return Err(Error::new(Reason::FunctionState, message));
        }
        function.publish(description, now).ok_or_else(|| {
            let message = "the function has no code; update it with a package";
            Error::new(Reason::NothingToPublish, message)
        })
    }

    /// Checks that the quota allows another version.
    ///
    /// # Errors
    /// The quota is used up.
    pub fn check_version_quota(&self, function: &Function) -> Result<(), Error> {
        let most = self.limits.versions_per_function as usize;
        if function.versions.len() < most {
            return Ok(());
        }
        let message = format!("the function has its {most} versions already; delete some first");
        Err(Error::new(Reason::LimitReached(Limit::Versions), message))
    }

    /// Deletes a published version. If aliases or triggers use it, `force` is required; see [`Function::unpublish`].
    ///
    /// # Errors
    /// The function or the version does not exist, or the version is in use.
    pub async fn delete_version(
        &self,
        key: &FunctionKey,
        number: &str,
        force: bool,
    ) -> Result<(), Error> {
        let text = number;
        let Ok(Version::Number(number)) = Version::parse(text) else {
            let message = format!("{text:?} is not allowed; numbers of published versions are");
            return Err(Error::invalid(Field::Qualifier, message));
        };
        self.change(key, |function| {
            if !function.versions.contains_key(&number) {
                let shown = text::shortened(text);
                let message = format!("function {} has no version {shown:?}", key.name);
                return Err(Error::of(Field::Qualifier, Reason::VersionMissing, message));
            }
            if !force {
                check_unused(function, number)?;
            }
            function.unpublish(number);
            function.modified = clock::now_ms();
            Ok(())
        })
        .await
    }
}

/// Checks that no alias and no trigger uses a version.
fn check_unused(function: &Function, number: u64) -> Result<(), Error> {
    let bound = function.aliases_of(Version::Number(number));
    if !bound.is_empty() {
        let names = bound.join(", ");
        let message = format!("version {number} is used by the aliases {names}; change them first");
        return Err(Error::new(Reason::UsedByAliases, message));
    }
    triggers::check_unbound(function, &Qualifier::Version(number), true)
}

/// Resolves a qualifier to the version that it serves, and its name. No text is `$LATEST`; an alias resolves to its main
/// version.
///
/// # Errors
/// The text is no qualifier, or the function has no such version or alias.
pub fn resolve<'a>(
    function: &'a Function,
    qualifier: Option<&str>,
) -> Result<(Serving<'a>, String), Error> {
    let text = qualifier.unwrap_or_default();
    let version = match Qualifier::parse(text)? {
        Qualifier::Latest => Some(Version::Latest),
        Qualifier::Version(number) => Some(Version::Number(number)),
        Qualifier::Alias(name) => function.alias(&name).map(|alias| alias.version),
    };
    let serving = version.and_then(|version| function.serving(version));
    let serving = serving.ok_or_else(|| {
        let message = format!(
            "function {} has no version or alias {text:?}",
            function.key.name
        );
        Error::of(Field::Qualifier, Reason::VersionMissing, message)
    })?;
    let name = if text.is_empty() {
        serving.version.to_string()
    } else {
        text.to_owned()
    };
    Ok((serving, name))
}

/// Returns the package of a version; one that is still being prepared counts.
///
/// # Errors
/// There is none.
pub fn package<'a>(serving: &Serving<'a>) -> Result<&'a Sha256, Error> {
    let pending = serving.function.pending.as_ref();
    let pending = pending.map(|pending| &pending.package);
    let package = serving.code.map(|code| &code.package).or(pending);
    package.ok_or_else(|| {
        let message = "the function has no code; update it with a package";
        Error::new(Reason::FunctionState, message)
    })
}

/// Parses the name of an existing version.
///
/// # Errors
/// The text is not a version, or the function has no such version.
pub fn existing(function: &Function, text: &str) -> Result<Version, Error> {
    let version = Version::parse(text)?;
    match function.serving(version) {
        Some(_) => Ok(version),
        None => {
            let message = format!("function {} has no version {version}", function.key.name);
            Err(Error::of(Field::Version, Reason::VersionMissing, message))
        }
    }
}
