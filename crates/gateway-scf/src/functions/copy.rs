//! Copies of functions.

use ::control::functions::CopySettings;
use model::FunctionConfig;
use scf::action::CopyFunction;
use scf::{Error, types as t};

use super::super::error::{self, Refused, control};
use super::super::{Caller, Gateway, Serve};
use super::key;

/// The name of the copy action in policies.
const COPY: &str = <CopyFunction as scf::Action>::NAME;

impl Serve for CopyFunction {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::CopyFunctionRequest,
    ) -> Result<t::Empty, Error> {
        check_region(gateway, request.target_region.as_deref())?;
        let space = request.namespace.as_deref();
        let source = key(caller, &request.function_name, space)?;
        let source = gateway.control.copy_source(&source).map_err(control)?;
        let given = request.target_namespace.as_deref();
        let target_space = given.filter(|space| !space.is_empty()).or(space);
        let target = key(caller, &request.new_function_name, target_space)?;
        let settings = CopySettings {
            replace: request.r#override == Some(true),
            configuration: request.copy_configuration != Some(false),
            description: request.description.as_deref(),
        };
        let check = |config: &FunctionConfig| {
            let checked = gateway.check_copy(caller, COPY, config);
            checked.map_err(Refused::from)
        };
        let copied = gateway
            .control
            .copy_function(source, target, settings, check);
        copied.await?;
        Ok(t::Empty {})
    }
}

/// Checks that a copy stays in this region.
fn check_region(gateway: &Gateway, target: Option<&str>) -> Result<(), Error> {
    match target.filter(|region| !region.is_empty()) {
        Some(region) if region != gateway.region => {
            let message = format!("{region:?} is not allowed; {} is", gateway.region);
            Err(error::wire_field("TargetRegion", message))
        }
        _ => Ok(()),
    }
}
