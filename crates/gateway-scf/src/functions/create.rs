//! Creation of functions.

use std::collections::BTreeMap;

use model::{
    Function, FunctionConfig, FunctionId, FunctionKey, FunctionKind, FunctionState, MemoryMb,
    Runtime, Seconds, WebConfig,
};
use scf::action::CreateFunction;
use scf::{Code, Error, types as t};

use super::super::code::flag;
use super::super::{Caller, Gateway, Serve, code, error, layers};
use super::echo::Echo;
use super::{
    fields, handler, install_dependency, key, random, role, runtime_of, set_code, timeout,
};

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
        let runtime = runtime_of(gateway, runtime)?;
        let limits = &gateway.limits;
        let mut config = config(gateway, caller, &request, &key, kind, runtime)?;
        Echo::of_create(&request)?.add_to(&mut config.echo);
        let install = install_dependency(request.install_dependency.as_deref(), runtime)?;
        let tags = fields::tags(request.tags.as_deref())?;
        if gateway.catalog.function(&key).is_some() {
            return Err(error::function(catalog::Error::Exists));
        }
        if !gateway.catalog.has_namespace(key.account, &key.namespace) {
            return Err(error::function(catalog::Error::NoNamespace(key.namespace)));
        }
        let taken = code::store_package(gateway, caller, request.code).await?;
        layers::check_size(gateway, Some(&taken.package), &config.layers).await?;
        let now = clock::now_ms();
        let mut function = Function {
            id: FunctionId::from_random(random()),
            key,
            kind,
            runtime,
            config,
            code: None,
            pending: None,
            state: FunctionState::Creating,
            reasons: Vec::new(),
            revision: 0,
            added: now,
            modified: now,
            tags,
            reserved_mb: None,
            events: None,
            async_run,
            versions: BTreeMap::new(),
            last_version: 0,
            aliases: BTreeMap::new(),
            triggers: Vec::new(),
        };
        set_code(&mut function, taken, install, None);
        gateway
            .catalog
            .create_function(&function, limits)
            .await
            .map_err(error::function)?;
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
            Some(mb) => MemoryMb::parse(mb, limits).map_err(error::invalid)?,
            None => MemoryMb::default(),
        },
        timeout: timeout(
            request.timeout.unwrap_or(DEFAULT_TIMEOUT_S),
            async_run,
            limits,
        )?,
        init_timeout: Seconds::init_timeout(
            request.init_timeout.unwrap_or(DEFAULT_INIT_TIMEOUT_S),
            limits,
        )
        .map_err(error::invalid)?,
        environment: fields::environment(request.environment.as_ref(), limits)?.unwrap_or_default(),
        public_net: fields::public_net(request.public_net_config.as_ref())?.unwrap_or(true),
        layers: layers::given(gateway, caller, request.layers.as_deref(), runtime, &[])?
            .unwrap_or_default(),
        role: role::given(gateway, caller, request.role.as_deref())?.flatten(),
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
            return Err(Error::new(Code::InvalidFunctionType, message));
        }
    }
    Ok(())
}
