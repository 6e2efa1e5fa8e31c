//! What a specification names, found on this node.

use std::path::PathBuf;
use std::sync::Arc;

use crate::found::Interpreter;
use crate::package::Unpacked;
use crate::{Error, InstanceSpec, Interpreters, PackageStore};

/// The interpreter and the files of an instance on this node.
#[derive(Clone, Debug)]
pub(crate) struct LocalFiles {
    /// The interpreter that runs it.
    pub(crate) interpreter: Arc<Interpreter>,
    /// The unpacked code.
    pub(crate) code: PathBuf,
    /// The merged layers, if any.
    pub(crate) layers: Option<PathBuf>,
}

impl LocalFiles {
    /// Finds the files that a specification names. Code that is not unpacked on this node is unpacked first.
    ///
    /// # Errors
    /// There is no interpreter for the runtime, or the code is not in the store or damaged.
    pub(crate) async fn of(
        spec: &InstanceSpec,
        interpreters: &Interpreters,
        packages: &PackageStore,
    ) -> Result<Self, Error> {
        let interpreter = interpreters.serve(spec.runtime)?.interpreter;
        let unpacked = match packages.find_unpacked(&spec.code, &spec.layers) {
            Some(unpacked) => unpacked,
            None => {
                let (packages, code) = (packages.clone(), spec.code.clone());
                let layers = spec.layers.clone();
                let unpacking =
                    tokio::task::spawn_blocking(move || packages.unpack_all(&code, &layers));
                unpacking.await.map_err(|e| Error::Setup(e.to_string()))??
            }
        };
        let Unpacked { code, layers } = unpacked;
        Ok(Self {
            interpreter,
            code,
            layers,
        })
    }
}
