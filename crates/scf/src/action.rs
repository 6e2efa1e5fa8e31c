//! The API's actions: one list, from which routing, the command line and tests are made.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::types as t;

/// An action: its name, what goes in and what comes out.
pub trait Action {
    /// The name in `X-TC-Action`.
    const NAME: &'static str;
    /// The parameters.
    type Request: Serialize + DeserializeOwned;
    /// The answer, without its request id.
    type Response: Serialize + DeserializeOwned;
}

/// What is known of an action without its types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActionInfo {
    /// The name in `X-TC-Action`.
    pub name: &'static str,
    /// Whether virga serves it.
    pub built: bool,
}

/// Finds an action by its name.
pub fn find(name: &str) -> Option<&'static ActionInfo> {
    let index = ACTIONS
        .binary_search_by(|action| action.name.cmp(name))
        .ok()?;
    Some(&ACTIONS[index])
}

macro_rules! actions {
    ({ $($built:ident($request:ty) -> $response:ty,)* } { $($later:ident,)* }) => {
        $(
            #[doc = concat!("The action `", stringify!($built), "`.")]
            #[derive(Clone, Copy, Debug)]
            pub struct $built;

            impl Action for $built {
                const NAME: &'static str = stringify!($built);
                type Request = $request;
                type Response = $response;
            }
        )*

        const UNSORTED: &[ActionInfo] = &[
            $(ActionInfo { name: stringify!($built), built: true },)*
            $(ActionInfo { name: stringify!($later), built: false },)*
        ];
    };
}

actions! {
    {
    CreateAlias(t::CreateAliasRequest) -> t::Empty,
    DeleteAlias(t::DeleteAliasRequest) -> t::Empty,
    DeleteFunctionVersion(t::DeleteFunctionVersionRequest) -> t::Empty,
    GetAlias(t::GetAliasRequest) -> t::GetAliasResponse,
    ListAliases(t::ListAliasesRequest) -> t::ListAliasesResponse,
    ListVersionByFunction(t::ListVersionByFunctionRequest) -> t::ListVersionByFunctionResponse,
    PublishVersion(t::PublishVersionRequest) -> t::PublishVersionResponse,
    UpdateAlias(t::UpdateAliasRequest) -> t::Empty,
    DeleteLayerVersion(t::DeleteLayerVersionRequest) -> t::Empty,
    GetLayerVersion(t::GetLayerVersionRequest) -> t::GetLayerVersionResponse,
    ListLayerVersions(t::ListLayerVersionsRequest) -> t::ListLayerVersionsResponse,
    ListLayers(t::ListLayersRequest) -> t::ListLayersResponse,
    PublishLayerVersion(t::PublishLayerVersionRequest) -> t::PublishLayerVersionResponse,
    DeleteReservedConcurrencyConfig(t::DeleteReservedConcurrencyConfigRequest) -> t::Empty,
    GetReservedConcurrencyConfig(t::GetReservedConcurrencyConfigRequest) -> t::GetReservedConcurrencyConfigResponse,
    PutReservedConcurrencyConfig(t::PutReservedConcurrencyConfigRequest) -> t::Empty,
    CopyFunction(t::CopyFunctionRequest) -> t::Empty,
    CreateFunction(t::CreateFunctionRequest) -> t::Empty,
    CreateNamespace(t::CreateNamespaceRequest) -> t::Empty,
    DeleteFunction(t::DeleteFunctionRequest) -> t::Empty,
    DeleteNamespace(t::DeleteNamespaceRequest) -> t::Empty,
    GetFunction(t::GetFunctionRequest) -> t::GetFunctionResponse,
    GetFunctionAddress(t::GetFunctionAddressRequest) -> t::GetFunctionAddressResponse,
    GetFunctionLogs(t::GetFunctionLogsRequest) -> t::GetFunctionLogsResponse,
    Invoke(t::InvokeRequest) -> t::InvokeResponse,
    InvokeFunction(t::InvokeFunctionRequest) -> t::InvokeResponse,
    ListFunctions(t::ListFunctionsRequest) -> t::ListFunctionsResponse,
    ListNamespaces(t::ListNamespacesRequest) -> t::ListNamespacesResponse,
    UpdateFunctionCode(t::UpdateFunctionCodeRequest) -> t::Empty,
    UpdateFunctionConfiguration(t::UpdateFunctionConfigurationRequest) -> t::Empty,
    UpdateNamespace(t::UpdateNamespaceRequest) -> t::Empty,
    }
    {
    CreateCustomDomain, CreateTrigger, DeleteCustomDomain, DeleteProvisionedConcurrencyConfig, DeleteTrigger,
    GetAccount, GetAsyncEventStatus, GetCustomDomain, GetFunctionEventInvokeConfig, GetProvisionedConcurrencyConfig,
    GetRequestStatus, ListAsyncEvents, ListCustomDomains, ListTriggers, PutProvisionedConcurrencyConfig,
    PutTotalConcurrencyConfig, TerminateAsyncEvent, UpdateCustomDomain, UpdateFunctionEventInvokeConfig,
    UpdateTrigger, UpdateTriggerStatus,
    }
}

/// All of the API's actions, by name.
pub const ACTIONS: &[ActionInfo; UNSORTED.len()] = &sorted();

const fn sorted() -> [ActionInfo; UNSORTED.len()] {
    let mut list = [UNSORTED[0]; UNSORTED.len()];
    let mut at = 0;
    while at < UNSORTED.len() {
        let mut to = at;
        while to > 0 && before(UNSORTED[at].name.as_bytes(), list[to - 1].name.as_bytes()) {
            list[to] = list[to - 1];
            to -= 1;
        }
        list[to] = UNSORTED[at];
        at += 1;
    }
    list
}

const fn before(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while at < a.len() && at < b.len() {
        if a[at] != b[at] {
            return a[at] < b[at];
        }
        at += 1;
    }
    a.len() < b.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_the_apis_and_sorted() {
        assert_eq!(ACTIONS.len(), 52);
        assert!(ACTIONS.is_sorted_by(|a, b| a.name < b.name));
        assert_eq!(
            find("Invoke"),
            Some(&ActionInfo {
                name: "Invoke",
                built: true
            })
        );
        assert_eq!(find("GetAccount").map(|action| action.built), Some(false));
        assert_eq!(find("invoke"), None);
    }
}
