//! New versions of layers.

use std::collections::BTreeMap;

use model::{AccountId, Field, LayerName, LayerVersion, Runtime, Sha256};
use tracing::warn;

use crate::packages::StoredPackage;
use crate::{Control, Error, text};

/// Source: SCF's limits of a layer.
const LICENSE_CHARS_MAX: usize = 2000;
const RUNTIMES_MAX: usize = 15;

/// A layer version to publish.
#[derive(Clone, Debug)]
pub struct NewLayerVersion<'a> {
    /// Names of the runtimes that it is for.
    pub runtimes: Vec<String>,
    /// Description.
    pub description: Option<&'a str>,
    /// Licence.
    pub license: String,
    /// Tags.
    pub tags: Vec<(String, String)>,
}

impl Control {
    /// Publishes a version of a layer. Returns its number.
    ///
    /// # Errors
    /// A value or the package is refused, or a quota is used up.
    pub async fn publish_layer<E: From<Error>>(
        &self,
        account: AccountId,
        name: &str,
        new: NewLayerVersion<'_>,
        package: impl Future<Output = Result<StoredPackage, E>>,
    ) -> Result<u64, E> {
        let name = LayerName::parse(name).map_err(Error::from)?;
        let description = text::description(new.description, &self.limits)?;
        if new.license.chars().count() > LICENSE_CHARS_MAX {
            let message = format!("up to {LICENSE_CHARS_MAX} characters are allowed");
            return Err(Error::invalid(Field::License, message).into());
        }
        check_runtimes(&new.runtimes)?;
        let tags = text::tags(new.tags)?;
        let stored = package.await?;
        let version = LayerVersion {
            runtimes: new.runtimes,
            description,
            license: new.license,
            package: stored.package,
            added: clock::now_ms(),
            tags,
        };
        Ok(self.add_layer_version(account, &name, version).await?)
    }

    /// Publishes a version whose package is stored. Returns its number.
    pub(super) async fn add_layer_version(
        &self,
        account: AccountId,
        name: &LayerName,
        version: LayerVersion,
    ) -> Result<u64, Error> {
        self.compile_ahead(account, &version.package, &version.runtimes);
        let published = self
            .catalog
            .publish_layer(account, name, version, &self.limits);
        published.await.map_err(Error::layer)
    }

    /// Compiles a layer in the background for the interpreters that can import it. A merged tree of several layers contains
    /// the bytecode that was compiled by the time of the merge.
    fn compile_ahead(&self, account: AccountId, package: &Sha256, runtimes: &[String]) {
        let served = runtimes.iter().filter_map(|name| {
            let runtime = Runtime::parse(name).ok()?;
            let served = self.worker.interpreters().serve(runtime).ok()?;
            Some((served.interpreter.runtime, served.interpreter))
        });
        // One interpreter may serve several runtimes.
        let served: BTreeMap<_, _> = served.collect();
        let (builds, package) = (self.builds.clone(), package.clone());
        tokio::spawn(async move {
            for interpreter in served.values() {
                let compiled = builds.compile(account, &package, interpreter);
                if let Err(error) = compiled.await {
                    warn!(%package, %error, "failed to precompile a layer; each cold start compiles it");
                }
            }
        });
    }
}

fn check_runtimes(runtimes: &[String]) -> Result<(), Error> {
    let fine = |name: &String| {
        (1..=30).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.')
    };
    if !(1..=RUNTIMES_MAX).contains(&runtimes.len()) || !runtimes.iter().all(fine) {
        let message =
            format!("1 to {RUNTIMES_MAX} names of runtimes are allowed, such as Python3.9");
        return Err(Error::invalid(Field::CompatibleRuntimes, message));
    }
    let unique: BTreeMap<_, ()> = runtimes.iter().map(|name| (name, ())).collect();
    if unique.len() < runtimes.len() {
        let message = "a runtime is given twice";
        return Err(Error::invalid(Field::CompatibleRuntimes, message));
    }
    Ok(())
}
