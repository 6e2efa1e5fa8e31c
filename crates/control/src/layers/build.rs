//! Layers built by the server from a list of dependencies, installed in the same way as a function's.

use std::collections::BTreeMap;

use model::{AccountId, Field, Language, LayerName, LayerVersion, Runtime};
use worker::{Installation, PackageError, StoredAs};

use crate::packages::StoredPackage;
use crate::{Control, Error, Reason, text};

/// A layer version that was built and published.
#[derive(Clone, Debug)]
pub struct BuiltLayer {
    /// Name of the layer.
    pub name: LayerName,
    /// Number of the version.
    pub number: u64,
    /// The runtime that it is for.
    pub runtime: Runtime,
    /// Log of the package manager.
    pub log: String,
}

impl Control {
    /// Installs the dependencies that a package lists, and publishes them as a version of a layer. If the future is dropped,
    /// the build is cancelled and nothing is published.
    ///
    /// # Errors
    /// A value or the package is refused, the installation fails, or a quota is used up.
    pub async fn build_layer<E: From<Error>>(
        &self,
        account: AccountId,
        name: &str,
        description: Option<&str>,
        runtime: &str,
        package: impl Future<Output = Result<StoredPackage, E>>,
    ) -> Result<BuiltLayer, E> {
        let name = LayerName::parse(name).map_err(Error::from)?;
        let description = text::description(description, &self.limits)?;
        let runtime = Runtime::parse(runtime).map_err(Error::from)?;
        if runtime.description().packages.is_none() {
            let message = format!(
                "{runtime} is not allowed, as it has no package manager; one of {} is",
                Language::with_packages().join(" or ")
            );
            return Err(Error::invalid(Field::Runtime, message).into());
        }
        let served = self.worker.interpreters().serve(runtime);
        let served = served.map_err(|e| Error::new(Reason::InterpreterMissing, e.to_string()))?;
        let stored = package.await?;
        // Stored as a package, so that it can be downloaded.
        let installation = Installation {
            account,
            package: &stored.package,
            interpreter: &served.interpreter,
            stored_as: StoredAs::Package,
        };
        let installed = self.builds.install(&installation).await;
        let installed = installed.map_err(failed)?;
        let version = LayerVersion {
            runtimes: vec![runtime.to_string()],
            description,
            license: String::new(),
            package: installed.tree,
            added: clock::now_ms(),
            tags: BTreeMap::new(),
        };
        Ok(BuiltLayer {
            number: self.add_layer_version(account, &name, version).await?,
            name,
            runtime,
            log: installed.log,
        })
    }
}

fn failed(why: PackageError) -> Error {
    match why {
        PackageError::Refused(why) => Error::new(Reason::BuildFailed, why),
        other => Error::package(other),
    }
}
