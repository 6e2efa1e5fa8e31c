//! The code of functions.

use model::{CodeRef, Function, FunctionKey, FunctionState, Handler, PendingCode};

use super::settings::check_install;
use crate::packages::StoredPackage;
use crate::{Control, Error};

/// A change of a function's code.
#[derive(Clone, Copy, Debug)]
pub struct CodeChange<'a> {
    /// Whether dependencies are installed; none for the choice of the last change.
    pub install: Option<bool>,
    /// New handler, if it changes.
    pub handler: Option<&'a str>,
    /// Whether a version is published.
    pub publish: bool,
}

impl Control {
    /// Replaces a function's code. The package is stored only if the change is possible.
    ///
    /// # Errors
    /// The function does not exist or cannot change now, a value or the package is refused, or a quota is used up.
    pub async fn update_code<E: From<Error>>(
        &self,
        key: &FunctionKey,
        change: CodeChange<'_>,
        package: impl Future<Output = Result<StoredPackage, E>>,
    ) -> Result<(), E> {
        installs(&self.changeable(key)?.value, change.install)?;
        let handler = change.handler.map(Handler::parse).transpose();
        let handler = handler.map_err(Error::from)?;
        let package = package.await?;
        loop {
            let stored = self.changeable(key)?;
            let mut function = stored.value.clone();
            let install = installs(&function, change.install)?;
            self.check_size(Some(&package.package), &function.config.layers)
                .await?;
            function.modified = clock::now_ms();
            function.config.set_installs(install);
            set_code(&mut function, package.clone(), install, handler.clone());
            if change.publish {
                self.publish_when_ready(&mut function)?;
            }
            if self.replace(&stored, &function).await? {
                return Ok(());
            }
        }
    }

    /// Publishes a version now, or as soon as the pending code is ready.
    pub(super) fn publish_when_ready(&self, function: &mut Function) -> Result<(), Error> {
        self.check_version_quota(function)?;
        if let Some(pending) = &mut function.pending {
            pending.publish = true;
            return Ok(());
        }
        let description = function.config.description.clone();
        self.publish(function, description, clock::now_ms())
            .map(drop)
    }
}

/// Returns whether dependencies are installed: as a request says, else as the function's last one did.
///
/// # Errors
/// They are to be, and the runtime has no package manager.
fn installs(function: &Function, given: Option<bool>) -> Result<bool, Error> {
    let install = given.unwrap_or_else(|| function.config.installs());
    check_install(install, function.runtime)?;
    Ok(install)
}

/// Sets the code of a function, which is already unpacked. Only the installation of dependencies is left pending.
pub(super) fn set_code(
    function: &mut Function,
    stored: StoredPackage,
    install: bool,
    handler: Option<Handler>,
) {
    let StoredPackage { package, size } = stored;
    if install {
        function.state = if function.code.is_some() {
            FunctionState::Updating
        } else {
            FunctionState::Creating
        };
        function.pending = Some(PendingCode {
            package,
            size,
            install,
            handler,
            publish: false,
        });
        return;
    }
    function.code = Some(CodeRef {
        tree: package.clone(),
        package,
        size,
    });
    function.state = FunctionState::Active;
    function.reasons.clear();
    function.revision += 1;
    if let Some(handler) = handler {
        function.config.handler = handler;
    }
}
