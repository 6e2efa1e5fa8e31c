//! Creation of functions.

use std::collections::BTreeMap;

use ::control::functions::{NewFunction, check_install, timeout};
use model::{FunctionConfig, FunctionKey, FunctionKind, MemoryMb, Runtime, Seconds, WebConfig};
use scf::action::CreateFunction;
use scf::{Error, types as t};

use super::super::code::flag;
use super::super::error::{self, Rejected, control, invalid};
use super::super::{Caller, Gateway, Serve, code, layers};
use super::echo::Echo;
use super::{fields, handler, key};

/// Source: SCF's default if a request has no runtime.
const DEFAULT_RUNTIME: &str = "Python2.7";

const DEFAULT_TIMEOUT_S: i64 = 3;

const DEFAULT_INIT_TIMEOUT_S: i64 = 65;

impl Serve for CreateFunction {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::CreateFunctionRequest,
    ) -> Result<t::Empty, Error> {
        let key = key(caller, &request.function_name, request.namespace.as_deref())?;
        check_type(&request)?;
        let kind = match request.r#type.as_deref() {
            Some("HTTP") => FunctionKind::Http,
            _ => FunctionKind::Event,
        };
        let async_run = flag("AsyncRunEnable", request.async_run_enable.as_deref())?;
        let runtime = request
            .runtime
            .as_deref()
            .filter(|name| !name.is_empty())
            .unwrap_or(DEFAULT_RUNTIME);
        let runtime = gateway.control.runtime(runtime).map_err(control)?;
        let mut config = config(gateway, caller, &request, &key, kind, runtime)?;
        Echo::of_create(&request)?.add_to(&mut config.echo);
        let install = flag("InstallDependency", request.install_dependency.as_deref())?;
        check_install(install, runtime).map_err(control)?;
        let new = NewFunction {
            key,
            kind,
            runtime,
            config,
            tags: fields::tags(request.tags.as_deref())?,
            async_run,
            install,
        };
        let package = code::store_package(gateway, caller, request.code);
        gateway.control.create_function(new, package).await?;
        Ok(t::Empty {})
    }
}

/// Parses the settings of a request.
fn config(
    gateway: &Gateway,
    caller: Caller<'_>,
    request: &t::CreateFunctionRequest,
    key: &FunctionKey,
    kind: FunctionKind,
    runtime: Runtime,
) -> Result<FunctionConfig, Error> {
    let limits = &gateway.limits;
    let async_run = flag("AsyncRunEnable", request.async_run_enable.as_deref())?;
    Ok(FunctionConfig {
        description: fields::description(request.description.as_deref(), limits)?,
        handler: handler(request.handler.as_deref())?.unwrap_or_default(),
        memory: match request.memory_size {
            Some(mb) => MemoryMb::parse(mb, limits).map_err(invalid)?,
            None => MemoryMb::default(),
        },
        timeout: timeout(
            request.timeout.unwrap_or(DEFAULT_TIMEOUT_S),
            async_run,
            limits,
        )
        .map_err(invalid)?,
        init_timeout: Seconds::init_timeout(
            request.init_timeout.unwrap_or(DEFAULT_INIT_TIMEOUT_S),
            limits,
        )
        .map_err(invalid)?,
        environment: fields::environment(request.environment.as_ref(), limits)?.unwrap_or_default(),
        public_net: fields::public_net(request.public_net_config.as_ref())?.unwrap_or(true),
        layers: match request.layers.as_deref() {
            Some(given) => layers::attachable(gateway, caller, given, runtime, &[])?,
            None => Vec::new(),
        },
        role: match request.role.as_deref() {
            Some(name) => {
                let role = gateway.control.function_role(caller.account, name);
                role.map_err(control)?
            }
            None => None,
        },
        web: fields::web(
            kind,
            WebConfig::default(),
            request.instance_concurrency_config.as_ref(),
            request.protocol_type.as_deref(),
            request.protocol_params.as_ref(),
        )?,
        dead_letter: fields::dead_letter(
            gateway,
            request.dead_letter_config.as_ref(),
            &key.namespace,
        )?
        .flatten(),
        echo: BTreeMap::new(),
    })
}

fn check_type(request: &t::CreateFunctionRequest) -> Result<(), Error> {
    match request.r#type.as_deref() {
        None | Some("" | "Event" | "HTTP") => {}
        Some(other) => {
            let message = format!("Type: {other:?} is not allowed; Event and HTTP are");
            return Err(error::rejected(Rejected::FunctionType, message));
        }
    }
    Ok(())
}
