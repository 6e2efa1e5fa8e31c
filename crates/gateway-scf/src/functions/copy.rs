//! Copies of functions.

use std::collections::BTreeMap;

use model::{CodeRef, Function, FunctionConfig, FunctionId, FunctionKey, FunctionState, MemoryMb};
use scf::action::CopyFunction;
use scf::{Code, Error, types as t};

use super::super::{Caller, Gateway, Serve, error};
use super::{changeable, fields, find, key, random};

/// The name of the copy action in policies.
const COPY: &str = <CopyFunction as scf::Action>::NAME;

impl Serve for CopyFunction {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::CopyFunctionRequest,
    ) -> Result<t::Empty, Error> {
        check_region(gateway, request.target_region.as_deref())?;
        let source = find(
            gateway,
            caller,
            &request.function_name,
            request.namespace.as_deref(),
        )?;
        let source = &source.value;
        let code = source.code.clone().ok_or_else(|| {
            Error::new(
                Code::CopyFunctionFailed,
                format!("function {} has no code to copy", source.key.name),
            )
        })?;
        let target_namespace = request
            .target_namespace
            .as_deref()
            .filter(|space| !space.is_empty())
            .or(request.namespace.as_deref());
        let target = key(caller, &request.new_function_name, target_namespace)?;
        if target == source.key {
            return Err(Error::new(
                Code::FunctionNameInUse,
                "NewFunctionName: it is the name of the source function; choose another",
            ));
        }
        let limits = &gateway.limits;
        let now = clock::now_ms();
        let mut copy = match gateway.catalog.function(&target) {
            Some(_) if request.r#override != Some(true) => {
                return Err(error::function(catalog::Error::Exists));
            }
            Some(_) => return replace(gateway, caller, &request, source, &target, code).await,
            None => Function {
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
            },
        };
        if request.copy_configuration == Some(false) {
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
        gateway.check_copy(caller, COPY, &copy.config)?;
        describe(&mut copy, &request, limits)?;
        gateway
            .catalog
            .create_function(&copy, limits)
            .await
            .map_err(error::function)?;
        Ok(t::Empty {})
    }
}

/// Checks that a copy stays in this region.
fn check_region(gateway: &Gateway, target: Option<&str>) -> Result<(), Error> {
    match target.filter(|region| !region.is_empty()) {
        Some(region) if region != gateway.region => {
            let message = format!(
                "TargetRegion: {region:?} is not allowed; {} is",
                gateway.region
            );
            Err(Error::new(Code::UnsupportedRegion, message))
        }
        _ => Ok(()),
    }
}

/// Replaces an existing function by a copy.
async fn replace(
    gateway: &Gateway,
    caller: Caller<'_>,
    request: &t::CopyFunctionRequest,
    source: &Function,
    target: &FunctionKey,
    code: CodeRef,
) -> Result<t::Empty, Error> {
    let old = changeable(gateway, target)?;
    let mut copy = old.value.clone();
    copy.runtime = source.runtime;
    copy.code = Some(code);
    copy.state = FunctionState::Active;
    copy.reasons.clear();
    copy.revision += 1;
    if request.copy_configuration != Some(false) {
        gateway.check_copy(caller, COPY, &source.config)?;
        copy.config = source.config.clone();
    }
    describe(&mut copy, request, &gateway.limits)?;
    copy.modified = clock::now_ms();
    gateway
        .catalog
        .update_function(&old, &copy)
        .await
        .map_err(error::function)?;
    Ok(t::Empty {})
}

fn describe(
    copy: &mut Function,
    request: &t::CopyFunctionRequest,
    limits: &model::Limits,
) -> Result<(), Error> {
    if request.description.is_some() {
        copy.config.description = fields::description(request.description.as_deref(), limits)?;
    }
    Ok(())
}
