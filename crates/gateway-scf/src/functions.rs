//! The actions on functions.

mod change;
mod copy;
mod create;
mod echo;
mod fields;
mod list;
mod role;

use change::replace;
pub(super) use change::{change_in_any_state, changeable, get};
pub(super) use fields::{description, tags};
pub(super) use list::{descending, page, page_of};

use std::sync::Arc;

use catalog::Stored;
use model::{
    CodeRef, Function, FunctionConfig, FunctionKey, FunctionName, FunctionState, Handler, MemoryMb,
    PendingCode, Qualifier, Runtime, Seconds, Serving, Version,
};
use scf::action::{
    DeleteFunction, GetFunction, GetFunctionAddress, UpdateFunctionCode,
    UpdateFunctionConfiguration,
};
use scf::{Code, Error, types as t};
use serde_json::Value;

use self::echo::Echo;
use super::code::{StoredPackage, flag};
use super::error::unsupported;
use super::invoke::namespace;
use super::{Caller, Gateway, Serve, code, download, error, layers, show, triggers};

/// The stored choice whether dependencies are installed, for updates that do not specify it.
const INSTALL_DEPENDENCY: &str = "InstallDependency";

/// Returns the settings that instances are started with. A change replaces the instances.
fn instance_settings(config: &FunctionConfig) -> impl PartialEq + '_ {
    (
        (config.memory, config.timeout, config.init_timeout),
        (
            &config.environment,
            config.public_net,
            &config.layers,
            &config.web,
        ),
        &config.role,
    )
}

impl Serve for UpdateFunctionCode {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::UpdateFunctionCodeRequest,
    ) -> Result<t::Empty, Error> {
        let key = key(caller, &request.function_name, request.namespace.as_deref())?;
        let stored = changeable(gateway, &key)?;
        let publish = flag("Publish", request.publish.as_deref())?;
        let given = request.install_dependency.as_deref();
        // Refused before the package is received.
        installs(&stored.value, given)?;
        let handler = handler(request.handler.as_deref())?;
        // Older clients send the fields beside `Code`.
        let mut code = request.code.unwrap_or_default();
        code.zip_file = code.zip_file.or(request.zip_file);
        code.cos_bucket_name = code.cos_bucket_name.or(request.cos_bucket_name);
        code.cos_object_name = code.cos_object_name.or(request.cos_object_name);
        code.cos_bucket_region = code.cos_bucket_region.or(request.cos_bucket_region);
        let taken = code::store_package(gateway, caller, code).await?;
        loop {
            let stored = changeable(gateway, &key)?;
            let mut function = stored.value.clone();
            let install = installs(&function, given)?;
            layers::check_size(gateway, Some(&taken.package), &function.config.layers).await?;
            function.modified = clock::now_ms();
            let shown = if install { "TRUE" } else { "FALSE" };
            function
                .config
                .echo
                .insert(INSTALL_DEPENDENCY.into(), shown.into());
            set_code(&mut function, taken.clone(), install, handler.clone());
            if publish {
                publish_when_ready(gateway, &mut function)?;
            }
            if replace(gateway, &stored, &function).await? {
                return Ok(t::Empty {});
            }
        }
    }
}

/// Returns whether dependencies are installed: as a request says, else as the function's last one did.
fn installs(function: &Function, given: Option<&str>) -> Result<bool, Error> {
    let stored = function.config.echo.get(INSTALL_DEPENDENCY);
    let given = given.filter(|given| !given.is_empty());
    install_dependency(given.or(stored.and_then(Value::as_str)), function.runtime)
}

impl Serve for UpdateFunctionConfiguration {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::UpdateFunctionConfigurationRequest,
    ) -> Result<t::Empty, Error> {
        let key = key(caller, &request.function_name, request.namespace.as_deref())?;
        loop {
            let stored = changeable(gateway, &key)?;
            let function = configured(gateway, caller, &stored.value, &request).await?;
            if replace(gateway, &stored, &function).await? {
                return Ok(t::Empty {});
            }
        }
    }
}

/// Returns a function with the configuration of a request; fields that it does not set stay.
async fn configured(
    gateway: &Gateway,
    caller: Caller<'_>,
    old: &Function,
    request: &t::UpdateFunctionConfigurationRequest,
) -> Result<Function, Error> {
    let publish = flag("Publish", request.publish.as_deref())?;
    let mut function = old.clone();
    if let Some(name) = request.runtime.as_deref().filter(|name| !name.is_empty())
        && name != function.runtime.to_string()
    {
        let message = format!(
            "Runtime: {name:?} is not allowed; a function's runtime is fixed, here {}",
            function.runtime
        );
        return Err(Error::new(Code::InvalidRuntime, message));
    }
    let limits = &gateway.limits;
    let config = &mut function.config;
    if request.description.is_some() {
        config.description = fields::description(request.description.as_deref(), limits)?;
    }
    if let Some(mb) = request.memory_size {
        config.memory = MemoryMb::parse(mb, limits).map_err(error::invalid)?;
    }
    if let Some(seconds) = request.timeout {
        config.timeout = timeout(seconds, function.async_run, limits)?;
    }
    if let Some(seconds) = request.init_timeout {
        config.init_timeout = Seconds::init_timeout(seconds, limits).map_err(error::invalid)?;
    }
    if let Some(environment) = fields::environment(request.environment.as_ref(), limits)? {
        config.environment = environment;
    }
    config.web = fields::web(
        function.kind,
        std::mem::take(&mut config.web),
        request.instance_concurrency_config.as_ref(),
        None,
        request.protocol_params.as_ref(),
    )?;
    if let Some(public_net) = fields::public_net(request.public_net_config.as_ref())? {
        config.public_net = public_net;
    }
    let (runtime, attached) = (function.runtime, config.layers.clone());
    let given = layers::given(
        gateway,
        caller,
        request.layers.as_deref(),
        runtime,
        &attached,
    )?;
    if let Some(layers) = given {
        let code = function.code.as_ref().map(|code| &code.tree);
        layers::check_size(gateway, code, &layers).await?;
        config.layers = layers;
    }
    if let Some(role) = role::given(gateway, caller, request.role.as_deref())? {
        config.role = role;
    }
    let given = request.dead_letter_config.as_ref();
    if let Some(target) = fields::dead_letter(gateway, given, &function.key.namespace)? {
        config.dead_letter = target;
    }
    Echo::of_update(request)?.add_to(&mut config.echo);
    let (old, new) = (&old.config, &function.config);
    if instance_settings(old) != instance_settings(new) {
        // Instances with the old settings stop after their current request.
        function.revision += 1;
    }
    if publish {
        publish_when_ready(gateway, &mut function)?;
    }
    function.modified = clock::now_ms();
    Ok(function)
}

impl Serve for GetFunction {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::GetFunctionRequest,
    ) -> Result<t::GetFunctionResponse, Error> {
        let stored = find(
            gateway,
            caller,
            &request.function_name,
            request.namespace.as_deref(),
        )?;
        let (serving, qualifier) = qualified(&stored.value, request.qualifier.as_deref())?;
        let code = if flag("ShowCode", request.show_code.as_deref())? {
            show::code(gateway, &serving).await
        } else {
            String::new()
        };
        let mut shown = show::function(gateway, &serving, &qualifier, code);
        shown.triggers = Some(triggers::bound(
            gateway,
            &stored.value,
            request.qualifier.as_deref(),
        ));
        Ok(shown)
    }
}

impl Serve for GetFunctionAddress {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::GetFunctionAddressRequest,
    ) -> Result<t::GetFunctionAddressResponse, Error> {
        let stored = find(
            gateway,
            caller,
            &request.function_name,
            request.namespace.as_deref(),
        )?;
        let (serving, _) = qualified(&stored.value, request.qualifier.as_deref())?;
        let pending = stored
            .value
            .pending
            .as_ref()
            .map(|pending| &pending.package);
        let package = serving.code.map(|code| &code.package).or(pending);
        let package = package.ok_or_else(|| {
            Error::new(
                Code::FunctionStatusError,
                "the function has no code; update it with a package",
            )
        })?;
        let url = download::url(gateway, caller, package);
        Ok(t::GetFunctionAddressResponse {
            url,
            code_sha256: package.to_string(),
        })
    }
}

impl Serve for DeleteFunction {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::DeleteFunctionRequest,
    ) -> Result<t::Empty, Error> {
        let qualifier = request.qualifier.as_deref().filter(|text| !text.is_empty());
        if let Some(version) = qualifier.filter(|text| !text.starts_with('$')) {
            let key = key(caller, &request.function_name, request.namespace.as_deref())?;
            let deleted = gateway.control.delete_version(&key, version, false);
            deleted.await.map_err(error::control)?;
            return Ok(t::Empty {});
        }
        loop {
            let stored = find(
                gateway,
                caller,
                &request.function_name,
                request.namespace.as_deref(),
            )?;
            match gateway.catalog.delete_function(&stored).await {
                Ok(()) => return Ok(t::Empty {}),
                // A concurrent change; retry with the new version.
                Err(catalog::Error::Conflict) => {}
                Err(e) => return Err(error::function(e)),
            }
        }
    }
}

pub(super) fn key(
    caller: Caller<'_>,
    name: &str,
    space: Option<&str>,
) -> Result<FunctionKey, Error> {
    Ok(FunctionKey {
        account: caller.account,
        namespace: namespace(space)?,
        name: FunctionName::parse(name).map_err(error::invalid)?,
    })
}

pub(super) fn find(
    gateway: &Gateway,
    caller: Caller<'_>,
    name: &str,
    namespace: Option<&str>,
) -> Result<Arc<Stored<Function>>, Error> {
    get(gateway, &key(caller, name, namespace)?)
}

/// Resolves a qualifier to what it serves, and its name. An alias resolves to its main version.
pub(super) fn qualified<'a>(
    function: &'a Function,
    qualifier: Option<&str>,
) -> Result<(Serving<'a>, String), Error> {
    let text = qualifier.unwrap_or_default();
    let version = match Qualifier::parse(text).map_err(error::invalid)? {
        Qualifier::Latest => Some(Version::Latest),
        Qualifier::Version(number) => Some(Version::Number(number)),
        Qualifier::Alias(name) => function.alias(&name).map(|alias| alias.version),
    };
    let serving = version.and_then(|version| function.serving(version));
    let serving = serving.ok_or_else(|| {
        let message = format!(
            "Qualifier: function {} has no version or alias {text:?}",
            function.key.name
        );
        Error::new(Code::FunctionVersionNotFound, message)
    })?;
    let name = if text.is_empty() {
        serving.version.to_string()
    } else {
        text.to_owned()
    };
    Ok((serving, name))
}

/// Publishes a version now, or as soon as the pending code is ready.
fn publish_when_ready(gateway: &Gateway, function: &mut Function) -> Result<(), Error> {
    let control = &gateway.control;
    control
        .check_version_quota(function)
        .map_err(error::control)?;
    if let Some(pending) = &mut function.pending {
        pending.publish = true;
        return Ok(());
    }
    let description = function.config.description.clone();
    let published = control.publish(function, description, clock::now_ms());
    published.map(drop).map_err(error::control)
}

/// Parses the timeout of a request. Asynchronous functions may run for a day.
fn timeout(given: i64, async_run: bool, limits: &model::Limits) -> Result<Seconds, Error> {
    let checked = if async_run {
        Seconds::async_timeout(given, limits)
    } else {
        Seconds::timeout(given, limits)
    };
    checked.map_err(error::invalid)
}

fn runtime_of(gateway: &Gateway, name: &str) -> Result<Runtime, Error> {
    let runtime = Runtime::parse(name).map_err(error::invalid)?;
    match gateway.worker.interpreters().serve(runtime) {
        Ok(_) => Ok(runtime),
        Err(e) => Err(Error::new(Code::InvalidRuntime, format!("Runtime: {e}"))),
    }
}

/// Parses whether the package's dependencies are installed.
fn install_dependency(given: Option<&str>, runtime: Runtime) -> Result<bool, Error> {
    let wanted = flag("InstallDependency", given)?;
    if wanted && runtime.description().packages.is_none() {
        return Err(unsupported(&format!(
            "InstallDependency: only dependencies of Python and Node.js are installed; put those of {runtime} into the package"
        )));
    }
    Ok(wanted)
}

fn handler(given: Option<&str>) -> Result<Option<Handler>, Error> {
    let given = given.filter(|text| !text.is_empty());
    given
        .map(Handler::parse)
        .transpose()
        .map_err(error::invalid)
}

/// Sets the code of a function, which is already unpacked. Only the installation of dependencies is left pending.
fn set_code(
    function: &mut Function,
    taken: StoredPackage,
    install: bool,
    handler: Option<Handler>,
) {
    let StoredPackage { package, size } = taken;
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

pub(super) fn random() -> u64 {
    let bytes = uuid::Uuid::now_v7().into_bytes();
    // The last eight bytes are random, except their first two bits.
    bytes[9..]
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}
