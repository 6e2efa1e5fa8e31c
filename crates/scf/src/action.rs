//! The list of actions of all services, from which routing, the command line and the tests are generated.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::service::{SCF, Service, TAG};
use crate::types as t;

/// An API action: its name and its request and response types.
pub trait Action {
    /// Name in `X-TC-Action`.
    const NAME: &'static str;
    /// Names in policies, as [`ActionInfo::names`].
    const NAMES: &'static [&'static str] = &[Self::NAME];
    /// API version in `X-TC-Version`.
    const VERSION: &'static str = crate::VERSION;
    /// Request parameters.
    type Request: Serialize + DeserializeOwned;
    /// Response, without the request id.
    type Response: Serialize + DeserializeOwned;
}

/// The untyped description of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActionInfo {
    /// Name in `X-TC-Action`, unique across services.
    pub name: &'static str,
    /// Service of the action.
    pub service: Service,
    /// Its names in policies: its own first, then the coarser one of SCF's list of actions that support authorisation.
    pub names: &'static [&'static str],
}

/// Finds an action by name.
pub fn find(name: &str) -> Option<&'static ActionInfo> {
    position(name).map(|index| &ACTIONS[index])
}

/// Returns the index of an action in [`ACTIONS`].
pub fn position(name: &str) -> Option<usize> {
    ACTIONS
        .binary_search_by(|action| action.name.cmp(name))
        .ok()
}

macro_rules! actions {
    (
        ($dollar:tt)
        $($service:ident { $($name:ident($request:ty) -> $response:ty $(as $alias:ident)?,)* })*
    ) => {
        $($(action!($service $name($request) -> $response $(as $alias)?);)*)*

        const UNSORTED: &[ActionInfo] = &[$($(ActionInfo {
            name: $name::NAME,
            service: $service,
            names: $name::NAMES,
        },)*)*];

        /// Passes the names of all actions to a macro, as `Invoke, ListFunctions,`.
        #[macro_export]
        macro_rules! each_action {
            ($dollar then:ident) => {
                $dollar then! { $($($name,)*)* }
            };
        }

        /// The name of each action, with a sample request and response that have all fields.
        #[cfg(test)]
        fn samples() -> Vec<(&'static str, serde_json::Value, serde_json::Value)> {
            vec![$($(tests::sample::<$name>(),)*)*]
        }
    };
}

macro_rules! action {
    ($service:ident $name:ident($request:ty) -> $response:ty $(as $alias:ident)?) => {
        #[doc = concat!("The action `", stringify!($name), "`.")]
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl Action for $name {
            const NAME: &'static str = stringify!($name);
            const NAMES: &'static [&'static str] = &[stringify!($name) $(, stringify!($alias))?];
            const VERSION: &'static str = $service.version;
            type Request = $request;
            type Response = $response;
        }
    };
}

actions! {
    ($)
    SCF {
        CopyFunction(t::CopyFunctionRequest) -> t::Empty,
        CreateAlias(t::CreateAliasRequest) -> t::Empty,
        CreateCustomDomain(t::CreateCustomDomainRequest) -> t::Empty,
        CreateFunction(t::CreateFunctionRequest) -> t::Empty,
        CreateNamespace(t::CreateNamespaceRequest) -> t::Empty,
        CreateTrigger(t::CreateTriggerRequest) -> t::CreateTriggerResponse as SetTrigger,
        DeleteAlias(t::DeleteAliasRequest) -> t::Empty,
        DeleteCustomDomain(t::DeleteCustomDomainRequest) -> t::Empty,
        DeleteFunction(t::DeleteFunctionRequest) -> t::Empty,
        DeleteFunctionVersion(t::DeleteFunctionVersionRequest) -> t::Empty,
        DeleteLayerVersion(t::DeleteLayerVersionRequest) -> t::Empty,
        DeleteNamespace(t::DeleteNamespaceRequest) -> t::Empty,
        DeleteProvisionedConcurrencyConfig(t::DeleteProvisionedConcurrencyConfigRequest) -> t::Empty,
        DeleteReservedConcurrencyConfig(t::DeleteReservedConcurrencyConfigRequest) -> t::Empty,
        DeleteTrigger(t::DeleteTriggerRequest) -> t::Empty,
        GetAccount(t::GetAccountRequest) -> t::GetAccountResponse as GetAccountSettings,
        GetAlias(t::GetAliasRequest) -> t::GetAliasResponse,
        GetAsyncEventStatus(t::GetAsyncEventStatusRequest) -> t::GetAsyncEventStatusResponse,
        GetCustomDomain(t::GetCustomDomainRequest) -> t::GetCustomDomainResponse,
        GetFunction(t::GetFunctionRequest) -> t::GetFunctionResponse,
        GetFunctionAddress(t::GetFunctionAddressRequest) -> t::GetFunctionAddressResponse,
        GetFunctionEventInvokeConfig(t::GetFunctionEventInvokeConfigRequest) -> t::GetFunctionEventInvokeConfigResponse,
        GetFunctionLogs(t::GetFunctionLogsRequest) -> t::GetFunctionLogsResponse,
        GetLayerVersion(t::GetLayerVersionRequest) -> t::GetLayerVersionResponse,
        GetProvisionedConcurrencyConfig(t::GetProvisionedConcurrencyConfigRequest) -> t::GetProvisionedConcurrencyConfigResponse,
        GetRequestStatus(t::GetRequestStatusRequest) -> t::GetRequestStatusResponse,
        GetReservedConcurrencyConfig(t::GetReservedConcurrencyConfigRequest) -> t::GetReservedConcurrencyConfigResponse,
        Invoke(t::InvokeRequest) -> t::InvokeResponse as InvokeFunction,
        InvokeFunction(t::InvokeFunctionRequest) -> t::InvokeResponse as Invoke,
        ListAliases(t::ListAliasesRequest) -> t::ListAliasesResponse,
        ListAsyncEvents(t::ListAsyncEventsRequest) -> t::ListAsyncEventsResponse,
        ListCustomDomains(t::ListCustomDomainsRequest) -> t::ListCustomDomainsResponse,
        ListFunctions(t::ListFunctionsRequest) -> t::ListFunctionsResponse,
        ListLayerVersions(t::ListLayerVersionsRequest) -> t::ListLayerVersionsResponse,
        ListLayers(t::ListLayersRequest) -> t::ListLayersResponse,
        ListNamespaces(t::ListNamespacesRequest) -> t::ListNamespacesResponse,
        ListTriggers(t::ListTriggersRequest) -> t::ListTriggersResponse,
        ListVersionByFunction(t::ListVersionByFunctionRequest) -> t::ListVersionByFunctionResponse as ListVersion,
        PublishLayerVersion(t::PublishLayerVersionRequest) -> t::PublishLayerVersionResponse,
        PublishVersion(t::PublishVersionRequest) -> t::PublishVersionResponse,
        PutProvisionedConcurrencyConfig(t::PutProvisionedConcurrencyConfigRequest) -> t::Empty,
        PutReservedConcurrencyConfig(t::PutReservedConcurrencyConfigRequest) -> t::Empty,
        PutTotalConcurrencyConfig(t::PutTotalConcurrencyConfigRequest) -> t::Empty,
        TerminateAsyncEvent(t::TerminateAsyncEventRequest) -> t::Empty,
        UpdateAlias(t::UpdateAliasRequest) -> t::Empty,
        UpdateCustomDomain(t::UpdateCustomDomainRequest) -> t::Empty,
        UpdateFunctionCode(t::UpdateFunctionCodeRequest) -> t::Empty as UpdateFunction,
        UpdateFunctionConfiguration(t::UpdateFunctionConfigurationRequest) -> t::Empty as UpdateFunction,
        UpdateFunctionEventInvokeConfig(t::UpdateFunctionEventInvokeConfigRequest) -> t::Empty,
        UpdateNamespace(t::UpdateNamespaceRequest) -> t::Empty,
        UpdateTrigger(t::UpdateTriggerRequest) -> t::Empty as SetTrigger,
        UpdateTriggerStatus(t::UpdateTriggerStatusRequest) -> t::Empty as SetTrigger,
    }
    TAG {
        AddResourceTag(t::AddResourceTagRequest) -> t::Empty,
        AttachResourcesTag(t::AttachResourcesTagRequest) -> t::Empty,
        CreateTag(t::CreateTagRequest) -> t::Empty,
        DeleteResourceTag(t::DeleteResourceTagRequest) -> t::Empty,
        DeleteTag(t::DeleteTagRequest) -> t::Empty,
        DescribeResourceTags(t::DescribeResourceTagsRequest) -> t::DescribeResourceTagsResponse,
        DescribeResourceTagsByResourceIds(t::DescribeResourceTagsByResourceIdsRequest) -> t::DescribeResourceTagsByResourceIdsResponse,
        DescribeTags(t::DescribeTagsRequest) -> t::DescribeTagsResponse,
        DetachResourcesTag(t::DetachResourcesTagRequest) -> t::Empty,
        GetResources(t::GetResourcesRequest) -> t::GetResourcesResponse,
        ModifyResourceTags(t::ModifyResourceTagsRequest) -> t::Empty,
        TagResources(t::TagResourcesRequest) -> t::TagResourcesResponse,
        UnTagResources(t::UnTagResourcesRequest) -> t::UnTagResourcesResponse,
    }
}

/// The actions of all services, by name.
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
    use serde_json::{Map, Value};
    use std::collections::BTreeSet;

    /// The published fields of every action, a service after the other. Source: the official Python SDK and `tccli`.
    const PUBLISHED: [&str; 2] = [
        include_str!("../tests/api-2018-04-16.json"),
        include_str!("../tests/tag-2018-08-13.json"),
    ];

    /// Fields that SCF has though its SDKs do not. Source: SCF's Serverless tool-kit.
    const UNPUBLISHED: &str = include_str!("../tests/unpublished.json");

    pub(super) fn sample<A: Action>() -> (&'static str, Value, Value)
    where
        A::Request: Default,
        A::Response: Default,
    {
        let request = serde_json::to_value(A::Request::default()).expect("plain data");
        let response = serde_json::to_value(A::Response::default()).expect("plain data");
        (A::NAME, request, response)
    }

    fn names(object: &Value) -> BTreeSet<&str> {
        let fields = object.as_object().map(Map::keys);
        fields.into_iter().flatten().map(String::as_str).collect()
    }

    #[test]
    fn every_action_has_the_published_fields_and_no_others() {
        let mut actions = Map::new();
        for published in PUBLISHED {
            let published: Value = serde_json::from_str(published).expect("the published fields");
            let own = published["actions"].as_object().expect("actions");
            for (name, action) in own {
                let service = find(name).map(|action| action.service.name);
                assert_eq!(service, published["product"].as_str(), "{name}");
                let twice = actions.insert(name.clone(), action.clone());
                assert_eq!(twice, None, "{name} is an action of two services");
            }
        }
        let actions = Value::Object(actions);
        let samples = samples();
        let own: BTreeSet<_> = samples.iter().map(|(name, ..)| *name).collect();
        assert_eq!(own, names(&actions));
        let unpublished: Value = serde_json::from_str(UNPUBLISHED).expect("JSON");
        let mut wrong = Vec::new();
        for (name, request, response) in &samples {
            let mut answered = names(&actions[name]["response"]);
            // The envelope adds it to every response.
            assert!(answered.remove("RequestId"), "{name}");
            let sides = [
                (
                    "request",
                    names(request),
                    &names(&actions[name]["request"]) | &names(&unpublished["requests"][name]),
                ),
                ("response", names(response), answered),
            ];
            for (side, own, wanted) in sides {
                let differ: Vec<_> = own.symmetric_difference(&wanted).collect();
                if !differ.is_empty() {
                    wrong.push(format!("{name} {side}: {differ:?}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn the_list_is_the_apis_and_sorted() {
        assert_eq!(ACTIONS.len(), 52 + 13);
        assert!(ACTIONS.is_sorted_by(|a, b| a.name < b.name));
        let invoke = ActionInfo {
            name: "Invoke",
            service: SCF,
            names: &["Invoke", "InvokeFunction"],
        };
        assert_eq!(find("Invoke"), Some(&invoke));
        assert_eq!(find("TagResources").map(|found| found.service), Some(TAG));
        assert_eq!(find("invoke"), None);
    }
}
