//! The actions on functions.

mod copy;
mod create;
mod echo;
mod fields;
mod get;
mod list;

pub(super) use fields::{number, tags};
pub(super) use get::get;

use std::sync::Arc;

use ::control::functions::{CodeChange, Reconfigured, check_runtime_unchanged, timeout};
use ::control::versions;
use catalog::Stored;
use model::{Function, FunctionKey, FunctionName, Handler, MemoryMb, Seconds, Serving};
use scf::action::{
    DeleteFunction, GetFunction, GetFunctionAddress, UpdateFunctionCode,
    UpdateFunctionConfiguration,
};
use scf::{Error, types as t};

use self::echo::Echo;
use super::code::{flag, flag_if_given};
use super::error::{Refused, control, invalid};
use super::invoke::namespace;
use super::{Caller, Gateway, Serve, code, download, layers, show, triggers};

impl Serve for UpdateFunctionCode {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::UpdateFunctionCodeRequest,
    ) -> Result<t::Empty, Error> {
        let key = key(caller, &request.function_name, request.namespace.as_deref())?;
        gateway.control.changeable(&key).map_err(control)?;
        let publish = flag("Publish", request.publish.as_deref())?;
        let install = request.install_dependency.as_deref();
        let change = CodeChange {
            publish,
            install: flag_if_given("InstallDependency", install)?,
            handler: request.handler.as_deref().filter(|text| !text.is_empty()),
        };
        // Older clients send the fields beside `Code`.
        let mut code = request.code.unwrap_or_default();
        code.zip_file = code.zip_file.or(request.zip_file);
        code.cos_bucket_name = code.cos_bucket_name.or(request.cos_bucket_name);
        code.cos_object_name = code.cos_object_name.or(request.cos_object_name);
        code.cos_bucket_region = code.cos_bucket_region.or(request.cos_bucket_region);
        let package = code::store_package(gateway, caller, code);
        gateway.control.update_code(&key, change, package).await?;
        Ok(t::Empty {})
    }
}

impl Serve for UpdateFunctionConfiguration {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::UpdateFunctionConfigurationRequest,
    ) -> Result<t::Empty, Error> {
        let key = key(caller, &request.function_name, request.namespace.as_deref())?;
        let edit = |old: Arc<Stored<Function>>| {
            let request = &request;
            async move { configured(gateway, caller, &old.value, request).await }
        };
        gateway.control.update_configuration(&key, edit).await?;
        Ok(t::Empty {})
    }
}

/// Returns the settings of a function with those of a request; fields that it does not set stay.
async fn configured(
    gateway: &Gateway,
    caller: Caller<'_>,
    function: &Function,
    request: &t::UpdateFunctionConfigurationRequest,
) -> Result<Reconfigured, Refused> {
    let publish = flag("Publish", request.publish.as_deref())?;
    if let Some(name) = request.runtime.as_deref().filter(|name| !name.is_empty()) {
        check_runtime_unchanged(function, name)?;
    }
    let limits = &gateway.limits;
    let mut config = function.config.clone();
    if request.description.is_some() {
        config.description = fields::description(request.description.as_deref(), limits)?;
    }
    if let Some(mb) = request.memory_size {
        config.memory = MemoryMb::parse(mb, limits).map_err(invalid)?;
    }
    if let Some(seconds) = request.timeout {
        config.timeout = timeout(seconds, function.async_run, limits).map_err(invalid)?;
    }
    if let Some(seconds) = request.init_timeout {
        config.init_timeout = Seconds::init_timeout(seconds, limits).map_err(invalid)?;
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
    if let Some(given) = request.layers.as_deref() {
        let (runtime, attached) = (function.runtime, &config.layers);
        let layers = layers::attachable(gateway, caller, given, runtime, attached)?;
        let code = function.code.as_ref().map(|code| &code.tree);
        gateway.control.check_size(code, &layers).await?;
        config.layers = layers;
    }
    if let Some(name) = request.role.as_deref() {
        config.role = gateway.control.function_role(caller.account, name)?;
    }
    let given = request.dead_letter_config.as_ref();
    if let Some(target) = fields::dead_letter(gateway, given, &function.key.namespace)? {
        config.dead_letter = target;
    }
    Echo::of_update(request)?.add_to(&mut config.echo);
    Ok(Reconfigured { config, publish })
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
        let package = versions::package(&serving).map_err(control)?;
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
        let key = key(caller, &request.function_name, request.namespace.as_deref())?;
        let deleted = match qualifier.filter(|text| !text.starts_with('$')) {
            Some(version) => gateway.control.delete_version(&key, version, false).await,
            None => gateway.control.delete_function(&key).await,
        };
        deleted.map_err(control)?;
        Ok(t::Empty {})
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
        name: FunctionName::parse(name).map_err(invalid)?,
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

/// Resolves a qualifier to what it serves, and its name.
pub(super) fn qualified<'a>(
    function: &'a Function,
    qualifier: Option<&str>,
) -> Result<(Serving<'a>, String), Error> {
    versions::resolve(function, qualifier).map_err(control)
}

fn handler(given: Option<&str>) -> Result<Option<Handler>, Error> {
    let given = given.filter(|text| !text.is_empty());
    given.map(Handler::parse).transpose().map_err(invalid)
}
