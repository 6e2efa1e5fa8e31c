//! Layers built by the server from a list of dependencies, installed in the same way as a function's.

use std::collections::BTreeMap;

use model::{LayerVersion, Runtime};
use scf::types as t;
use scf::{Code, Error};
use worker::{Installation, PackageError, StoredAs};

use super::super::{code, error, layers};
use super::{Caller, Gateway, Serve, checked_description, wire};

impl Serve for wire::BuildLayer {
    /// Responds when the layer is built. If the caller disconnects, the build is cancelled and nothing is published.
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: wire::BuildLayerRequest,
    ) -> Result<wire::BuiltLayer, Error> {
        let name = layers::name(&request.layer_name)?;
        let description = checked_description(gateway, request.description.as_deref())?;
        let runtime = Runtime::parse(&request.runtime).map_err(error::invalid)?;
        if runtime.description().packages.is_none() {
            let message = "Runtime: CustomRuntime is not allowed, as it has no package manager; one of Python or Node.js is";
            return Err(Error::new(Code::InvalidRuntime, message));
        }
        let served = gateway.worker.interpreters().serve(runtime);
        let served = served.map_err(|e| Error::new(Code::InvalidRuntime, e.to_string()))?;
        let content = t::Code {
            zip_file: Some(request.zip_file),
            ..t::Code::default()
        };
        let taken = code::store_package(gateway, caller, content).await?;
        // Stored as a package, so that it can be downloaded.
        let installation = Installation {
            account: caller.account,
            package: &taken.package,
            interpreter: &served.interpreter,
            stored_as: StoredAs::Package,
        };
        let installed = gateway.lifecycle.install_dependencies(&installation);
        let installed = installed.await.map_err(failed)?;
        let version = LayerVersion {
            runtimes: vec![runtime.to_string()],
            description,
            license: String::new(),
            package: installed.tree,
            added: clock::now_ms(),
            tags: BTreeMap::new(),
        };
        let number = layers::publish(gateway, caller, &name, version).await?;
        Ok(wire::BuiltLayer {
            layer_name: name.to_string(),
            layer_version: number,
            runtime: runtime.to_string(),
            log: installed.log,
        })
    }
}

fn failed(why: PackageError) -> Error {
    match why {
        PackageError::Refused(why) => Error::new(Code::FailedOperation, why),
        other => error::package(other),
    }
}
