//! The actions on the account's concurrency quota and on reserved concurrency.

use scf::Error;
use scf::action::{
    DeleteReservedConcurrencyConfig, GetReservedConcurrencyConfig, PutReservedConcurrencyConfig,
    PutTotalConcurrencyConfig,
};
use scf::types as t;

use super::functions::{find, key};
use super::invoke::namespace;
use super::{Caller, Gateway, Serve, error};

impl Serve for PutTotalConcurrencyConfig {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::PutTotalConcurrencyConfigRequest,
    ) -> Result<t::Empty, Error> {
        let space = namespace(request.namespace.as_deref())?;
        let set = gateway.control.set_total_concurrency(
            caller.account,
            space,
            request.total_concurrency_mem,
        );
        set.await.map_err(error::control)?;
        Ok(t::Empty {})
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
        let reserved = gateway.control.reserve_concurrency(&key, mb).await;
        reserved.map_err(error::control)?;
        Ok(t::Empty {})
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
        let released = gateway.control.release_concurrency(&key).await;
        released.map_err(error::control)?;
        Ok(t::Empty {})
    }
}
