//! The account's concurrency quota, and reserved concurrency: memory that is reserved for a function and also limits its
//! instances.

use model::FunctionKey;
use scf::action::{
    DeleteReservedConcurrencyConfig, GetReservedConcurrencyConfig, PutReservedConcurrencyConfig,
    PutTotalConcurrencyConfig,
};
use scf::types as t;
use scf::{Code, Error};

use super::functions::{find, get, key};
use super::invoke::namespace;
use super::{Caller, Gateway, Serve, error};

impl Serve for PutTotalConcurrencyConfig {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::PutTotalConcurrencyConfigRequest,
    ) -> Result<t::Empty, Error> {
        let space = namespace(request.namespace.as_deref())?;
        if !gateway.catalog.has_namespace(caller.account, &space) {
            return Err(error::namespace(catalog::Error::NoNamespace(space)));
        }
        let given = request.total_concurrency_mem;
        let most = gateway.limits.concurrency_mb;
        let refused = |message| Error::new(Code::LimitExceededTotal, message);
        let mb = u32::try_from(given).ok().filter(|mb| *mb <= most);
        let mb = mb.ok_or_else(|| {
            refused(format!(
                "TotalConcurrencyMem: {given} is not allowed; up to {most} (MB) is"
            ))
        })?;
        loop {
            let set = gateway
                .catalog
                .set_total(caller.account, mb, &gateway.limits);
            match set.await {
                Ok(()) => {
                    // Requests after this response must see the new quota.
                    gateway.driver.total(caller.account, || {
                        gateway.catalog.total_mb(caller.account, &gateway.limits)
                    });
                    return Ok(t::Empty {});
                }
                Err(catalog::Error::Conflict) => {}
                Err(catalog::Error::Quota(least)) => {
                    return Err(refused(format!(
                        "TotalConcurrencyMem: {given} is not allowed; at least {least} (MB) is: the reserved concurrency of all \
                         functions, and {} for the others",
                        gateway.limits.unreservable_mb
                    )));
                }
                Err(e) => return Err(error::function(e)),
            }
        }
    }
}

impl Serve for PutReservedConcurrencyConfig {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::PutReservedConcurrencyConfigRequest,
    ) -> Result<t::Empty, Error> {
        let key = key(caller, &request.function_name, request.namespace.as_deref())?;
        let mb = request.reserved_concurrency_mem;
        let total = gateway.catalog.total_mb(caller.account, &gateway.limits);
        let most = total.saturating_sub(gateway.limits.unreservable_mb);
        let mb = u32::try_from(mb).ok().filter(|mb| *mb <= most);
        let mb = mb.ok_or_else(|| {
            let given = request.reserved_concurrency_mem;
            let message =
                format!("ReservedConcurrencyMem: {given} is not allowed; 0 to {most} (MB) is");
            Error::new(Code::LimitExceededReserved, message)
        })?;
        set(gateway, &key, Some(mb)).await
    }
}

impl Serve for GetReservedConcurrencyConfig {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::GetReservedConcurrencyConfigRequest,
    ) -> Result<t::GetReservedConcurrencyConfigResponse, Error> {
        let space = request.namespace.as_deref();
        let stored = find(gateway, caller, &request.function_name, space)?;
        Ok(t::GetReservedConcurrencyConfigResponse {
            reserved_mem: stored.value.reserved_mb.map(i64::from),
        })
    }
}

impl Serve for DeleteReservedConcurrencyConfig {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::DeleteReservedConcurrencyConfigRequest,
    ) -> Result<t::Empty, Error> {
        let key = key(caller, &request.function_name, request.namespace.as_deref())?;
        set(gateway, &key, None).await
    }
}

async fn set(gateway: &Gateway, key: &FunctionKey, mb: Option<u32>) -> Result<t::Empty, Error> {
    loop {
        let stored = get(gateway, key)?;
        let mut function = stored.value.clone();
        function.reserved_mb = mb;
        let kept = function.provisioned_mb();
        // 0 disables a function, whatever its provisioned concurrency.
        if let Some(mb @ 1..) = mb.filter(|mb| *mb < kept) {
            let message = format!(
                "ReservedConcurrencyMem: {mb} MB are not allowed; the function's provisioned concurrency is {kept} MB"
            );
            return Err(Error::new(Code::ProvisionedExceedReserved, message));
        }
        let keepable = gateway.driver.provisionable_mb();
        let reserved = gateway
            .catalog
            .update_concurrency(&stored, &function, &gateway.limits, keepable)
            .await;
        match (reserved, mb) {
            (Ok(()), _) => {
                // Requests after this response must see the new reservation.
                gateway
                    .driver
                    .reserve(key, || gateway.catalog.function(key)?.value.reserved_mb);
                return Ok(t::Empty {});
            }
            // A concurrent change; retry with the new version.
            (Err(catalog::Error::Conflict), _) => {}
            (Err(catalog::Error::Quota(left)), Some(mb)) => {
                let message = format!(
                    "ReservedConcurrencyMem: {mb} MB are not allowed; {left} MB of the account can still be reserved"
                );
                return Err(Error::new(Code::ReservedExceedTotal, message));
            }
            (Err(catalog::Error::Quota(left)), None) => {
                let message = format!(
                    "the function's provisioned concurrency is {kept} MB, and {left} MB of the account can be had without a \
                     reservation; delete the provisioned concurrency first"
                );
                return Err(Error::new(Code::ProvisionedExceedAvailable, message));
            }
            (Err(e), _) => return Err(error::function(e)),
        }
    }
}
