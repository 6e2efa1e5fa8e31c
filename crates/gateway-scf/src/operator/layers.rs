//! Layers built by the server from a list of dependencies, installed in the same way as a function's.

use scf::Error;
use scf::types::Code as CodeFields;

use super::super::code;
use super::{Caller, Gateway, Serve, wire};

impl Serve for wire::BuildLayer {
    /// Responds when the layer is built. If the caller disconnects, the build is cancelled and nothing is published.
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: wire::BuildLayerRequest,
    ) -> Result<wire::BuiltLayer, Error> {
        let content = CodeFields {
            zip_file: Some(request.zip_file),
            ..CodeFields::default()
        };
        let built = gateway.control.build_layer(
            caller.account,
            &request.layer_name,
            request.description.as_deref(),
            &request.runtime,
            code::store_package(gateway, caller, content),
        );
        let built = built.await?;
        Ok(wire::BuiltLayer {
            layer_name: built.name.to_string(),
            layer_version: built.number,
            runtime: built.runtime.to_string(),
            log: built.log,
        })
    }
}
