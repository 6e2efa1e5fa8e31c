//! The actions on provisioned concurrency.

mod actions;

use control::provisioned::{instances, published, tracking};
use engine::provisioner::ProvisionState;
use model::{Field, Function, ProvisionedPolicy};
use scf::Error;
use scf::action::{
    DeleteProvisionedConcurrencyConfig, GetProvisionedConcurrencyConfig,
    PutProvisionedConcurrencyConfig,
};
use scf::types as t;

use super::functions::{find, key};
use super::{Caller, Gateway, Serve, error};

impl Serve for PutProvisionedConcurrencyConfig {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::PutProvisionedConcurrencyConfigRequest,
    ) -> Result<t::Empty, Error> {
        let key = key(caller, &request.function_name, request.namespace.as_deref())?;
        let policy = policy(gateway, &request).map_err(error::control)?;
        let control = &gateway.control;
        let put = control.put_provisioned(&key, &request.qualifier, &policy);
        put.await.map_err(error::control)?;
        Ok(t::Empty {})
    }
}

impl Serve for DeleteProvisionedConcurrencyConfig {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::DeleteProvisionedConcurrencyConfigRequest,
    ) -> Result<t::Empty, Error> {
        let key = key(caller, &request.function_name, request.namespace.as_deref())?;
        let deleted = gateway.control.delete_provisioned(&key, &request.qualifier);
        deleted.await.map_err(error::control)?;
        Ok(t::Empty {})
    }
}

impl Serve for GetProvisionedConcurrencyConfig {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::GetProvisionedConcurrencyConfigRequest,
    ) -> Result<t::GetProvisionedConcurrencyConfigResponse, Error> {
        let space = request.namespace.as_deref();
        let stored = find(gateway, caller, &request.function_name, space)?;
        let function = &stored.value;
        let wanted = request.qualifier.as_deref().filter(|text| !text.is_empty());
        let wanted = wanted.map(|text| published(function, text)).transpose();
        let wanted = wanted.map_err(error::control)?;
        let numbers = function.versions.keys().copied();
        let numbers = numbers.filter(|number| wanted.is_none_or(|wanted| wanted == *number));
        let config = wanted.and_then(|number| function.versions.get(&number));
        let each = config
            .map_or(&function.config, |one| &one.config)
            .memory
            .mb();
        Ok(t::GetProvisionedConcurrencyConfigResponse {
            unallocated_concurrency_num: (gateway.control.provisionable_mb(function) / each).into(),
            allocated: numbers
                .filter_map(|number| show(gateway, function, number))
                .collect(),
        })
    }
}

fn show(
    gateway: &Gateway,
    function: &Function,
    number: u64,
) -> Option<t::VersionProvisionedConcurrencyInfo> {
    let provisioned = function.versions.get(&number)?.provisioned.as_ref()?;
    let progress = gateway.control.provision_progress(function, number)?;
    let (status, reason) = match progress.state {
        ProvisionState::Done => ("Done", String::new()),
        ProvisionState::InProgress(why) => ("InProgress", why),
        ProvisionState::Failed(why) => ("Failed", why),
    };
    Some(t::VersionProvisionedConcurrencyInfo {
        allocated_provisioned_concurrency_num: progress.allocated as i64,
        available_provisioned_concurrency_num: progress.available as i64,
        status: status.into(),
        status_reason: reason,
        qualifier: number.to_string(),
        trigger_actions: actions::show(provisioned),
    })
}

fn policy(
    gateway: &Gateway,
    request: &t::PutProvisionedConcurrencyConfigRequest,
) -> Result<ProvisionedPolicy, control::Error> {
    let instances = instances(request.version_provisioned_concurrency_num)?;
    let actions = request.trigger_actions.as_deref().unwrap_or_default();
    let refused = |message| Err(control::Error::invalid(Field::ProvisionedPolicy, message));
    match request.provisioned_type.as_deref() {
        None | Some("" | "Default") => Ok(ProvisionedPolicy::Fixed {
            instances,
            actions: actions::read(gateway, actions)?,
        }),
        Some("ConcurrencyUtilizationTracking") => {
            if instances != 0 || !actions.is_empty() {
                let message = "with ConcurrencyUtilizationTracking the number follows use, so \
                               VersionProvisionedConcurrencyNum must be 0, and there can be no TriggerActions";
                return refused(message.to_owned());
            }
            tracking(
                request.tracking_target.unwrap_or(0.0),
                request.min_capacity.unwrap_or(0),
                request.max_capacity.unwrap_or(0),
            )
        }
        Some(other) => {
            let shown: String = other.chars().take(64).collect();
            refused(format!(
                "{shown:?} is not allowed; Default and ConcurrencyUtilizationTracking are"
            ))
        }
    }
}
