//! Provisioned concurrency: the minimum number of warm instances of a published version.

mod actions;

use catalog::Stored;
use engine::provisioner::ProvisionState;
use model::{Function, Provisioned, ProvisionedPolicy, Version};
use scf::action::{
    DeleteProvisionedConcurrencyConfig, GetProvisionedConcurrencyConfig,
    PutProvisionedConcurrencyConfig,
};
use scf::types as t;
use scf::{Code, Error};

use super::functions::{find, get, key};
use super::{Caller, Gateway, Serve, error};

impl Serve for PutProvisionedConcurrencyConfig {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::PutProvisionedConcurrencyConfigRequest,
    ) -> Result<t::Empty, Error> {
        let key = key(caller, &request.function_name, request.namespace.as_deref())?;
        let policy = policy(gateway, &request)?;
        loop {
            let stored = get(gateway, &key)?;
            let number = version(&stored.value, &request.qualifier)?;
            let progress = gateway.provisioner.progress(&stored.value, number);
            if let Some(ProvisionState::InProgress(why)) = progress.map(|progress| progress.state) {
                let message = format!(
                    "version {number} is still applying its last configuration ({why}); wait until its Status is Done, or delete it"
                );
                return Err(Error::new(Code::ProvisionedInProgress, message));
            }
            let provisioned = Provisioned {
                set: clock::now_ms(),
                policy: policy.clone(),
            };
            if set(gateway, &stored, number, Some(provisioned)).await? {
                return Ok(t::Empty {});
            }
        }
    }
}

impl Serve for DeleteProvisionedConcurrencyConfig {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::DeleteProvisionedConcurrencyConfigRequest,
    ) -> Result<t::Empty, Error> {
        let key = key(caller, &request.function_name, request.namespace.as_deref())?;
        loop {
            let stored = get(gateway, &key)?;
            let number = version(&stored.value, &request.qualifier)?;
            if set(gateway, &stored, number, None).await? {
                return Ok(t::Empty {});
            }
        }
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
        let wanted = wanted.map(|text| version(function, text)).transpose()?;
        let numbers = function.versions.keys().copied();
        let numbers = numbers.filter(|number| wanted.is_none_or(|wanted| wanted == *number));
        let config = wanted.and_then(|number| function.versions.get(&number));
        let each = config
            .map_or(&function.config, |one| &one.config)
            .memory
            .mb();
        Ok(t::GetProvisionedConcurrencyConfigResponse {
            unallocated_concurrency_num: (available_mb(gateway, function) / each).into(),
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
    let progress = gateway.provisioner.progress(function, number)?;
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

/// Returns the memory that is left for a function's provisioned concurrency, MB.
fn available_mb(gateway: &Gateway, function: &Function) -> u32 {
    let key = &function.key;
    let own = match function.reserved_mb {
        Some(mb) => mb,
        None => gateway.catalog.reservable_mb(key, &gateway.limits),
    };
    let node = gateway
        .catalog
        .provisionable_mb(key, gateway.driver.provisionable_mb());
    own.min(node).saturating_sub(function.provisioned_mb())
}

/// Stores the configuration of a version (compare-and-swap). Returns false if the function has changed concurrently.
async fn set(
    gateway: &Gateway,
    stored: &Stored<Function>,
    number: u64,
    provisioned: Option<Provisioned>,
) -> Result<bool, Error> {
    let mut function = stored.value.clone();
    let Some(published) = function.versions.get_mut(&number) else {
        return Ok(false);
    };
    published.provisioned = provisioned;
    let (was, kept) = (stored.value.provisioned_mb(), function.provisioned_mb());
    if let Some(mb) = function.reserved_mb.filter(|mb| kept > was.max(*mb)) {
        let message = format!(
            "all versions of the function would keep {kept} MB ready, and its reserved concurrency is {mb} MB"
        );
        return Err(Error::new(Code::ProvisionedExceedReserved, message));
    }
    let keepable = gateway.driver.provisionable_mb();
    let written = gateway
        .catalog
        .update_concurrency(stored, &function, &gateway.limits, keepable)
        .await;
    match written {
        Ok(()) => Ok(true),
        Err(catalog::Error::Conflict) => Ok(false),
        Err(catalog::Error::Quota(left)) => {
            let message = format!(
                "all versions of the function would keep {kept} MB ready, and {left} MB can be had"
            );
            Err(Error::new(Code::ProvisionedExceedAvailable, message))
        }
        Err(e) => Err(error::function(e)),
    }
}

/// Parses the number of a published version. `$LATEST` and aliases are not allowed, since they change.
fn version(function: &Function, qualifier: &str) -> Result<u64, Error> {
    let shown: String = qualifier.chars().take(64).collect();
    let Ok(Version::Number(number)) = Version::parse(qualifier) else {
        let message =
            format!("Qualifier: {shown:?} is not allowed; numbers of published versions are");
        return Err(Error::new(Code::InvalidQualifier, message));
    };
    if function.versions.contains_key(&number) {
        return Ok(number);
    }
    let name = &function.key.name;
    let message = format!("Qualifier: function {name} has no version {shown}");
    Err(Error::new(Code::FunctionVersionNotFound, message))
}

fn policy(
    gateway: &Gateway,
    request: &t::PutProvisionedConcurrencyConfigRequest,
) -> Result<ProvisionedPolicy, Error> {
    let given = request.version_provisioned_concurrency_num;
    let instances = count(given).ok_or_else(|| {
        let message =
            format!("VersionProvisionedConcurrencyNum: {given} is not allowed; 0 and more is");
        Error::new(Code::InvalidParameterValue, message)
    })?;
    let actions = request.trigger_actions.as_deref().unwrap_or_default();
    match request.provisioned_type.as_deref() {
        None | Some("" | "Default") => Ok(ProvisionedPolicy::Fixed {
            instances,
            actions: actions::read(gateway, actions)?,
        }),
        Some("ConcurrencyUtilizationTracking") => {
            if instances != 0 || !actions.is_empty() {
                let message = "ProvisionedType: with ConcurrencyUtilizationTracking the number follows use, so \
                               VersionProvisionedConcurrencyNum must be 0, and there can be no TriggerActions";
                return Err(Error::new(Code::InvalidProvisionType, message));
            }
            tracking(request)
        }
        Some(other) => {
            let shown: String = other.chars().take(64).collect();
            let message = format!(
                "ProvisionedType: {shown:?} is not allowed; Default and ConcurrencyUtilizationTracking are"
            );
            Err(Error::new(Code::InvalidProvisionType, message))
        }
    }
}

fn tracking(
    request: &t::PutProvisionedConcurrencyConfigRequest,
) -> Result<ProvisionedPolicy, Error> {
    let target = request.tracking_target.unwrap_or(0.0);
    let percent = (target * 100.0).round();
    if !(1.0..=99.0).contains(&percent) {
        let message = format!("TrackingTarget: {target} is not allowed; 0.01 to 0.99 is");
        return Err(Error::new(Code::InvalidTrackingTarget, message));
    }
    let (min, max) = (
        request.min_capacity.unwrap_or(0),
        request.max_capacity.unwrap_or(0),
    );
    match (count(min), count(max)) {
        (Some(min @ 1..), Some(max)) if min <= max => Ok(ProvisionedPolicy::Tracking {
            percent: percent as u32,
            min,
            max,
        }),
        _ => {
            let message = format!(
                "MinCapacity: {min} with MaxCapacity {max} is not allowed; 1 to MaxCapacity is"
            );
            Err(Error::new(Code::InvalidMinCapacity, message))
        }
    }
}

fn count(given: i64) -> Option<u32> {
    u32::try_from(given).ok()
}
