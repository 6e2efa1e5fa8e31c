//! The resources that each request references: functions, layers, domains, roles and objects, directly or through its target.
//! All of them are checked against the caller's policy before the request is served.
//!
//! Every field of every request is listed, so that a new field does not compile until it is classified. Fields after the `;`
//! reference no resource; the tests give the reasons.

use access::ResourceRef;
use scf::types as t;
use serde_json::Value;

use super::tags;

/// A request that reports the resources it references.
pub(super) trait Names {
    fn names(&self) -> Vec<ResourceRef<'_>>;
}

macro_rules! names {
    ($($request:ident { $($named:ident),* $(; $($other:ident),*)? } => $found:expr;)*) => {$(
        impl Names for t::$request {
            fn names(&self) -> Vec<ResourceRef<'_>> {
                let Self { $($named,)* $($($other: _,)*)? } = self;
                $found
            }
        }
    )*};
}

names! {
    AddResourceTagRequest { resource; tag_key, tag_value } => vec![tagged(resource)];
    AttachResourcesTagRequest {
        resource_ids;
        service_type, tag_key, tag_value, resource_region, resource_prefix
    } => resource_ids.iter().map(|id| of_id(id)).collect();
    CopyFunctionRequest {
        function_name, new_function_name, namespace, target_namespace;
        description, target_region, r#override, copy_configuration
    } => {
        let target = target_namespace.as_ref().filter(|space| !space.is_empty());
        vec![
            function(function_name, namespace),
            ResourceRef::Function {
                space: target.map_or(namespace_or_default(namespace), String::as_str),
                name: new_function_name,
            },
        ]
    };
    CreateAliasRequest {
        function_name, namespace;
        name, function_version, routing_config, description
    } => vec![function(function_name, namespace)];
    CreateCustomDomainRequest { domain, endpoints_config; protocol, cert_config, waf_config, tags } => {
        std::iter::once(ResourceRef::Domain(domain)).chain(targets(endpoints_config)).collect()
    };
    CreateFunctionRequest {
        function_name, namespace, code, role, layers, dead_letter_config;
        handler, description, memory_size, timeout, environment, runtime, vpc_config, install_dependency,
        cls_logset_id, cls_topic_id, r#type, code_source, public_net_config, cfs_config, init_timeout, tags,
        async_run_enable, trace_enable, auto_deploy_cls_topic_index, auto_create_cls_topic, protocol_type,
        protocol_params, instance_concurrency_config, dns_cache, intranet_config, l5_enable
    } => {
        let mut found = vec![function(function_name, namespace)];
        found.extend(object_of(code));
        found.extend(config_references(role, layers, dead_letter_config, namespace));
        found
    };
    CreateNamespaceRequest { namespace; description, resource_env } => vec![ResourceRef::Namespace(namespace)];
    CreateTagRequest { ; tag_key, tag_value } => vec![ResourceRef::Account];
    CreateTriggerRequest {
        function_name, namespace, r#type, trigger_name;
        trigger_desc, qualifier, enable, custom_argument, description
    } => trigger(function_name, namespace, r#type, trigger_name);
    DeleteAliasRequest { function_name, namespace; name } => vec![function(function_name, namespace)];
    DeleteCustomDomainRequest { domain } => vec![ResourceRef::Domain(domain)];
    DeleteFunctionRequest { function_name, namespace; qualifier } => vec![function(function_name, namespace)];
    DeleteFunctionVersionRequest {
        function_name, namespace;
        qualifier, force_delete
    } => vec![function(function_name, namespace)];
    DeleteLayerVersionRequest { layer_name; layer_version } => vec![ResourceRef::Layer(layer_name)];
    DeleteNamespaceRequest { namespace } => vec![ResourceRef::Namespace(namespace)];
    DeleteProvisionedConcurrencyConfigRequest {
        function_name, namespace;
        qualifier
    } => vec![function(function_name, namespace)];
    DeleteReservedConcurrencyConfigRequest { function_name, namespace } => vec![function(function_name, namespace)];
    DeleteResourceTagRequest { resource; tag_key } => vec![tagged(resource)];
    DeleteTagRequest { ; tag_key, tag_value } => vec![ResourceRef::Account];
    DeleteTriggerRequest {
        function_name, namespace;
        trigger_name, r#type, trigger_desc, qualifier
    } => vec![function(function_name, namespace)];
    DescribeResourceTagsByResourceIdsRequest {
        resource_ids;
        service_type, resource_prefix, resource_region, offset, limit, category
    } => resource_ids.iter().map(|id| of_id(id)).collect();
    DescribeResourceTagsRequest {
        ;
        create_uin, resource_region, service_type, resource_prefix, resource_id, offset, limit, cos_resource_id
    } => vec![ResourceRef::Account];
    DescribeTagsRequest {
        ;
        tag_key, tag_value, offset, limit, create_uin, tag_keys, show_project
    } => vec![ResourceRef::Account];
    DetachResourcesTagRequest {
        resource_ids;
        service_type, tag_key, resource_region, resource_prefix
    } => resource_ids.iter().map(|id| of_id(id)).collect();
    GetAccountRequest {} => vec![ResourceRef::Account];
    GetAliasRequest { function_name, namespace; name } => vec![function(function_name, namespace)];
    GetAsyncEventStatusRequest { ; invoke_request_id } => vec![ResourceRef::Account];
    GetCustomDomainRequest { domain } => vec![ResourceRef::Domain(domain)];
    GetFunctionAddressRequest { function_name, namespace; qualifier } => vec![function(function_name, namespace)];
    GetFunctionEventInvokeConfigRequest {
        function_name, namespace;
        qualifier
    } => vec![function(function_name, namespace)];
    GetFunctionLogsRequest {
        function_name, namespace;
        offset, limit, order, order_by, filter, qualifier, function_request_id, start_time, end_time, search_context
    } => match function_name.as_deref() {
        None | Some("") => vec![ResourceRef::Namespace(namespace_or_default(namespace))],
        Some(name) => vec![function(name, namespace)],
    };
    GetFunctionRequest {
        function_name, namespace;
        qualifier, show_code
    } => vec![function(function_name, namespace)];
    GetLayerVersionRequest { layer_name; layer_version } => vec![ResourceRef::Layer(layer_name)];
    GetProvisionedConcurrencyConfigRequest {
        function_name, namespace;
        qualifier
    } => vec![function(function_name, namespace)];
    GetRequestStatusRequest {
        function_name, namespace;
        function_request_id, start_time, end_time
    } => vec![function(function_name, namespace)];
    GetReservedConcurrencyConfigRequest { function_name, namespace } => vec![function(function_name, namespace)];
    GetResourcesRequest { resource_list; tag_filters, pagination_token, max_results } => {
        // Without a list, the result contains only functions that the caller may see.
        match resource_list.as_deref() {
            None | Some([]) => vec![ResourceRef::Account],
            Some(list) => list.iter().map(|resource| tagged(resource)).collect(),
        }
    };
    InvokeFunctionRequest {
        function_name, namespace;
        qualifier, event, log_type, routing_key
    } => vec![function(function_name, namespace)];
    InvokeRequest {
        function_name, namespace;
        invocation_type, qualifier, client_context, log_type, routing_key
    } => vec![function(function_name, namespace)];
    ListAliasesRequest {
        function_name, namespace;
        function_version, offset, limit
    } => vec![function(function_name, namespace)];
    ListAsyncEventsRequest {
        function_name, namespace;
        qualifier, invoke_type, status, start_time_interval, end_time_interval, order, orderby, offset, limit,
        invoke_request_id
    } => vec![function(function_name, namespace)];
    ListCustomDomainsRequest { ; offset, limit, order_by, order, filters } => vec![ResourceRef::Account];
    ListFunctionsRequest {
        namespace;
        order, orderby, offset, limit, search_key, description, filters
    } => vec![ResourceRef::Namespace(namespace_or_default(namespace))];
    ListLayerVersionsRequest { layer_name; compatible_runtime } => vec![ResourceRef::Layer(layer_name)];
    ListLayersRequest { ; compatible_runtime, offset, limit, search_key } => vec![ResourceRef::Account];
    ListNamespacesRequest { ; limit, offset, orderby, order, search_key } => vec![ResourceRef::Account];
    ListTriggersRequest {
        function_name, namespace;
        offset, limit, order_by, order, filters
    } => vec![function(function_name, namespace)];
    ListVersionByFunctionRequest {
        function_name, namespace;
        offset, limit, order, order_by
    } => vec![function(function_name, namespace)];
    ModifyResourceTagsRequest { resource; replace_tags, delete_tags } => vec![tagged(resource)];
    PublishLayerVersionRequest { layer_name, content; compatible_runtimes, description, license_info, tags } => {
        std::iter::once(ResourceRef::Layer(layer_name)).chain(object_of(content)).collect()
    };
    PublishVersionRequest { function_name, namespace; description } => vec![function(function_name, namespace)];
    PutProvisionedConcurrencyConfigRequest {
        function_name, namespace;
        qualifier, version_provisioned_concurrency_num, trigger_actions, provisioned_type, tracking_target,
        min_capacity, max_capacity
    } => vec![function(function_name, namespace)];
    PutReservedConcurrencyConfigRequest {
        function_name, namespace;
        reserved_concurrency_mem
    } => vec![function(function_name, namespace)];
    PutTotalConcurrencyConfigRequest { namespace; total_concurrency_mem } => {
        let namespace = namespace.as_deref().filter(|space| !space.is_empty());
        let namespace = namespace.map(ResourceRef::Namespace);
        std::iter::once(ResourceRef::Account).chain(namespace).collect()
    };
    TagResourcesRequest { resource_list; tags } => resource_list.iter().map(|resource| tagged(resource)).collect();
    TerminateAsyncEventRequest {
        function_name, namespace;
        invoke_request_id, grace_shutdown
    } => vec![function(function_name, namespace)];
    UnTagResourcesRequest { resource_list; tag_keys } => resource_list.iter().map(|resource| tagged(resource)).collect();
    UpdateAliasRequest {
        function_name, namespace;
        name, function_version, routing_config, description
    } => vec![function(function_name, namespace)];
    UpdateCustomDomainRequest { domain, endpoints_config; protocol, cert_config, waf_config } => {
        let targets = targets(endpoints_config.as_deref().unwrap_or_default());
        std::iter::once(ResourceRef::Domain(domain)).chain(targets).collect()
    };
    UpdateFunctionCodeRequest {
        function_name, namespace, code, cos_bucket_name, cos_object_name;
        handler, zip_file, cos_bucket_region, install_dependency, env_id, publish, code_source
    } => {
        // The fields may be in `Code`, beside it, or one in each.
        let inner = code.as_ref().map(bucket_and_key);
        let (bucket, key) = inner.unwrap_or_default();
        let object = object(
            bucket.or(cos_bucket_name.as_deref()),
            key.or(cos_object_name.as_deref()),
        );
        std::iter::once(function(function_name, namespace)).chain(object).collect()
    };
    UpdateFunctionConfigurationRequest {
        function_name, namespace, role, layers, dead_letter_config;
        description, memory_size, timeout, runtime, environment, vpc_config, install_dependency, cls_logset_id,
        cls_topic_id, publish, l5_enable, public_net_config, cfs_config, init_timeout, protocol_params,
        instance_concurrency_config, dns_cache, intranet_config, ignore_sys_log, trace_enable
    } => {
        let mut found = vec![function(function_name, namespace)];
        found.extend(config_references(role, layers, dead_letter_config, namespace));
        found
    };
    UpdateFunctionEventInvokeConfigRequest {
        function_name, namespace;
        async_trigger_config
    } => vec![function(function_name, namespace)];
    UpdateNamespaceRequest { namespace; description } => vec![ResourceRef::Namespace(namespace)];
    UpdateTriggerRequest {
        function_name, namespace, r#type, trigger_name;
        enable, qualifier, trigger_desc, description, custom_argument
    } => trigger(function_name, namespace, r#type, trigger_name);
    UpdateTriggerStatusRequest {
        function_name, namespace, r#type, trigger_name;
        enable, qualifier, trigger_desc
    } => trigger(function_name, namespace, r#type, trigger_name);
}

/// Returns the namespace, or `default` if it is absent.
fn namespace_or_default(space: &Option<String>) -> &str {
    let given = space.as_deref().filter(|space| !space.is_empty());
    given.unwrap_or("default")
}

fn function<'a>(name: &'a str, space: &'a Option<String>) -> ResourceRef<'a> {
    let space = namespace_or_default(space);
    ResourceRef::Function { space, name }
}

/// Parses a six-segment resource name. An invalid one is rejected later and counts as the account until then.
fn tagged(resource: &str) -> ResourceRef<'_> {
    of_path(tags::of_resource(resource))
}

/// Parses a function's id of the tag service.
fn of_id(id: &str) -> ResourceRef<'_> {
    of_path(tags::of_id(id))
}

fn of_path(place: Option<tags::FunctionPath<'_>>) -> ResourceRef<'_> {
    place.map_or(ResourceRef::Account, |place| ResourceRef::Function {
        space: place.space,
        name: place.name,
    })
}

/// Returns the resources that a function's settings reference: role, layers and dead-letter target.
fn config_references<'a>(
    role: &'a Option<String>,
    layers: &'a Option<Vec<Value>>,
    dead_letter: &'a Option<Value>,
    space: &'a Option<String>,
) -> impl Iterator<Item = ResourceRef<'a>> {
    let role = role.as_deref().filter(|role| !role.is_empty());
    let layers = layers.iter().flatten();
    let layers = layers.filter_map(|layer| layer["LayerName"].as_str());
    let layers = layers.filter(|name| !name.is_empty());
    let dead_letter_target = dead_letter.as_ref().and_then(|config| {
        let text = |name: &str| config[name].as_str();
        let name = text("Name").filter(|_| text("Type") == Some(FUNCTION))?;
        let (space, name) = name
            .split_once('/')
            .unwrap_or((namespace_or_default(space), name));
        Some(ResourceRef::Target { space, name })
    });
    let role = role.map(ResourceRef::Role);
    role.into_iter()
        .chain(layers.map(ResourceRef::UsedLayer))
        .chain(dead_letter_target)
}

/// The `Type` of a dead-letter target that is a function.
const FUNCTION: &str = "function";

/// Returns the functions that a domain's routes lead to.
fn targets(endpoints: &[t::EndpointsConf]) -> impl Iterator<Item = ResourceRef<'_>> {
    endpoints.iter().filter_map(|endpoint| {
        let t::EndpointsConf {
            namespace,
            function_name,
            qualifier: _,
            path_match: _,
            path_rewrite: _,
        } = endpoint;
        let name = function_name.as_deref()?;
        let space = namespace_or_default(namespace);
        Some(ResourceRef::Target { space, name })
    })
}

/// Returns the bucket and the key of code in a bucket.
fn bucket_and_key(code: &t::Code) -> (Option<&str>, Option<&str>) {
    let t::Code {
        cos_bucket_name,
        cos_object_name,
        // These reference no other bucket.
        zip_file: _,
        cos_bucket_region: _,
        // Unsupported sources.
        demo_id: _,
        temp_cos_object_name: _,
        git_url: _,
        git_user_name: _,
        git_password: _,
        git_password_secret: _,
        git_branch: _,
        git_directory: _,
        git_commit_id: _,
        git_user_name_secret: _,
        image_config: _,
    } = code;
    (cos_bucket_name.as_deref(), cos_object_name.as_deref())
}

fn object_of(code: &t::Code) -> Option<ResourceRef<'_>> {
    let (bucket, key) = bucket_and_key(code);
    object(bucket, key)
}

fn object<'a>(bucket: Option<&'a str>, key: Option<&'a str>) -> Option<ResourceRef<'a>> {
    let (bucket, key) = (bucket.unwrap_or_default(), key.unwrap_or_default());
    let given = !bucket.is_empty() || !key.is_empty();
    given.then_some(ResourceRef::Object { bucket, key })
}

/// Returns a trigger's function and, for a bucket trigger, the bucket.
fn trigger<'a>(
    name: &'a str,
    space: &'a Option<String>,
    kind: &str,
    trigger: &'a str,
) -> Vec<ResourceRef<'a>> {
    let bucket = (kind == model::TriggerKind::Cos.as_str()).then_some(ResourceRef::Bucket(trigger));
    std::iter::once(function(name, space))
        .chain(bucket)
        .collect()
}

#[cfg(test)]
mod tests;
