//! Conversion of functions into API responses.

use std::io::Read;
use std::path::Path;

use model::{
    Function, FunctionConfig, FunctionKind, FunctionState, InstanceConcurrency, RoleName, Serving,
    Timestamp, Version,
};
use sandbox::beneath::Directory;
use scf::types::{Environment, FunctionSummary, GetFunctionResponse, StatusReason, Tag, Variable};
use serde_json::{Value, json};

use super::Gateway;

/// Maximum size of a file that `ShowCode` returns, bytes.
const CODE_MAX: u64 = 1 << 20;

pub(super) fn kind(function: &Function) -> &'static str {
    match function.kind {
        FunctionKind::Event => "Event",
        FunctionKind::Http => "HTTP",
    }
}

/// What `GetFunction` shows of the state of a version.
struct State {
    /// Whether the last change of its code failed.
    failed: bool,
    status: FunctionState,
    /// Why it failed; empty if it did not.
    message: String,
    added: Timestamp,
    modified: Timestamp,
    description: String,
}

impl State {
    fn of(serving: &Serving<'_>) -> Self {
        let function = serving.function;
        // A published version is immutable, whatever the state of `$LATEST`.
        if let Version::Number(number) = serving.version
            && let Some(published) = function.versions.get(&number)
        {
            return Self {
                failed: false,
                status: FunctionState::Active,
                message: String::new(),
                added: published.added,
                modified: published.added,
                description: published.description.clone(),
            };
        }
        let failed = matches!(
            function.state,
            FunctionState::CreateFailed | FunctionState::UpdateFailed
        );
        Self {
            failed,
            status: function.state,
            message: if failed {
                first_message(function)
            } else {
                String::new()
            },
            added: function.added,
            modified: function.modified,
            description: serving.config.description.clone(),
        }
    }
}

/// Returns a function as `GetFunction` shows it.
pub(super) fn function(
    gateway: &Gateway,
    serving: &Serving<'_>,
    qualifier: &str,
    code: String,
) -> GetFunctionResponse {
    let Serving {
        function, config, ..
    } = *serving;
    let text = |name: &str| Some(stored_text(config, name));
    let flag = |name: &str| Some(flag(config, name));
    let state = State::of(serving);
    let mut reasons = reasons(function);
    reasons.extend(fallback(gateway, function));
    let size = serving.code.map(|code| code.size);
    let pending = function.pending.as_ref().map(|pending| pending.size);
    let role = config.role.as_ref();
    let layers = super::layers::attached(gateway, function.key.account, &config.layers);
    let idle = config.web.websocket_idle;
    let protocol_params = |seconds| json!({"WSParams": {"IdleTimeOut": seconds}});
    GetFunctionResponse {
        mod_time: Some(clock::format(state.modified)),
        code_info: Some(code),
        description: Some(state.description),
        triggers: None,
        handler: Some(config.handler.as_str().to_owned()),
        code_size: size.or(pending).map(|bytes| bytes as i64),
        timeout: Some(config.timeout.get().into()),
        function_version: Some(serving.version.to_string()),
        memory_size: Some(config.memory.mb().into()),
        runtime: Some(function.runtime.to_string()),
        function_name: Some(function.key.name.to_string()),
        vpc_config: Some(vpc(config)),
        use_gpu: Some("FALSE".into()),
        environment: Some(environment(config)),
        code_result: Some(if state.failed { "failed" } else { "success" }.into()),
        code_error: Some(state.message.clone()),
        err_no: Some(if state.failed { -1 } else { 0 }),
        namespace: Some(function.key.namespace.to_string()),
        role: Some(role.map_or_else(String::new, RoleName::to_string)),
        install_dependency: flag("InstallDependency"),
        status: Some(state.status.as_str().into()),
        status_desc: Some(state.message),
        cls_logset_id: text("ClsLogsetId"),
        cls_topic_id: text("ClsTopicId"),
        function_id: Some(function.id.as_str().to_owned()),
        tags: Some(tags(function)),
        eip_config: Some(json!({"EipFixed": flag_text(has_eip(config)), "Eips": []})),
        access_info: Some(json!({"Host": "", "Vip": ""})),
        r#type: Some(kind(function).into()),
        l5_enable: flag("L5Enable"),
        layers: Some(layers),
        dead_letter_config: Some(dead_letter(config)),
        add_time: Some(clock::format(state.added)),
        public_net_config: Some(public_net(config)),
        ons_enable: Some("FALSE".into()),
        cfs_config: Some(cfs(config)),
        available_status: Some("Available".into()),
        qualifier: Some(qualifier.to_owned()),
        init_timeout: Some(config.init_timeout.get().into()),
        status_reasons: Some(reasons),
        async_run_enable: Some(flag_text(function.async_run)),
        trace_enable: flag("TraceEnable"),
        image_config: None,
        protocol_type: Some(idle.map_or("", |_| "WS").into()),
        protocol_params: idle.map(protocol_params),
        instance_concurrency_config: config.web.concurrency.map(|held| concurrency(config, held)),
        dns_cache: flag("DnsCache"),
        intranet_config: Some(intranet(config)),
    }
}

/// Returns a function as lists show it.
pub(super) fn summary(function: &Function) -> FunctionSummary {
    FunctionSummary {
        mod_time: clock::format(function.modified),
        add_time: clock::format(function.added),
        runtime: function.runtime.to_string(),
        function_name: function.key.name.to_string(),
        function_id: function.id.as_str().to_owned(),
        namespace: function.key.namespace.to_string(),
        status: function.state.as_str().into(),
        status_desc: first_message(function),
        description: function.config.description.clone(),
        tags: tags(function),
        r#type: kind(function).into(),
        status_reasons: reasons(function),
        total_provisioned_concurrency_mem: function.provisioned_mb().into(),
        reserved_concurrency_mem: function.reserved_mb.map_or(0, i64::from),
        async_run_enable: flag_text(function.async_run),
        trace_enable: flag(&function.config, "TraceEnable"),
    }
}

fn flag_text(value: bool) -> String {
    if value { "TRUE" } else { "FALSE" }.to_owned()
}

fn dead_letter(config: &FunctionConfig) -> Value {
    let target = config.dead_letter.as_ref();
    json!({
        "Type": target.map_or("", |target| target.kind()),
        "Name": target.map(|target| target.name()).unwrap_or_default(),
        "FilterType": stored_part(config, "DeadLetterConfig", "FilterType", json!("")),
    })
}

/// Returns a part of a stored document, or `unset` if it is absent.
fn stored_part(config: &FunctionConfig, document: &str, part: &str, unset: Value) -> Value {
    let given = config.echo.get(document).map(|document| &document[part]);
    given
        .filter(|given| !given.is_null())
        .cloned()
        .unwrap_or(unset)
}

/// Merges a stored document over its defaults, so that no published field is missing.
fn with_defaults(given: Option<&Value>, mut unset: Value) -> Value {
    let parts = given.and_then(Value::as_object).into_iter().flatten();
    for (name, part) in parts.filter(|(_, part)| !part.is_null()) {
        unset[name] = part.clone();
    }
    unset
}

/// Returns a stored text.
fn stored_text(config: &FunctionConfig, name: &str) -> String {
    let given = config.echo.get(name).and_then(Value::as_str);
    given.unwrap_or_default().to_owned()
}

/// Returns a stored flag.
fn flag(config: &FunctionConfig, name: &str) -> String {
    let given = config.echo.get(name).and_then(Value::as_str);
    let given = given.filter(|given| !given.is_empty());
    given.unwrap_or("FALSE").to_owned()
}

fn environment(config: &FunctionConfig) -> Environment {
    let variable = |(key, value): (&String, &String)| Variable {
        key: key.clone(),
        value: value.clone(),
    };
    Environment {
        variables: Some(config.environment.iter().map(variable).collect()),
    }
}

fn intranet(config: &FunctionConfig) -> Value {
    with_defaults(
        config.echo.get("IntranetConfig"),
        json!({"IpFixed": "DISABLE", "IpAddress": []}),
    )
}

fn vpc(config: &FunctionConfig) -> Value {
    with_defaults(
        config.echo.get("VpcConfig"),
        json!({"VpcId": "", "SubnetId": ""}),
    )
}

/// Shows the file systems. They are mounted from the function's VPC, whose ids are the defaults.
fn cfs(config: &FunctionConfig) -> Value {
    let mut shown = with_defaults(config.echo.get("CfsConfig"), json!({"CfsInsList": []}));
    let vpc = vpc(config);
    for one in shown["CfsInsList"].as_array_mut().into_iter().flatten() {
        *one = with_defaults(
            Some(one),
            json!({
                "UserId": "", "UserGroupId": "", "CfsId": "", "MountInsId": "", "LocalMountDir": "", "RemoteMountDir": "",
                "IpAddress": "", "MountVpcId": vpc["VpcId"], "MountSubnetId": vpc["SubnetId"],
            }),
        );
    }
    shown
}

fn concurrency(config: &FunctionConfig, held: InstanceConcurrency) -> Value {
    let stored_part =
        |part: &str, unset: Value| stored_part(config, "InstanceConcurrencyConfig", part, unset);
    json!({
        "DynamicEnabled": flag_text(held.dynamic),
        "MaxConcurrency": held.max,
        "InstanceIsolationEnabled": stored_part("InstanceIsolationEnabled", json!("")),
        "Type": stored_part("Type", json!("")),
        "MixNodeConfig": stored_part("MixNodeConfig", Value::Null),
        "SessionConfig": stored_part("SessionConfig", Value::Null),
    })
}

fn tags(function: &Function) -> Vec<Tag> {
    function
        .tags
        .iter()
        .map(|(key, value)| Tag {
            key: key.clone(),
            value: value.clone(),
        })
        .collect()
}

fn reasons(function: &Function) -> Vec<StatusReason> {
    let show = |reason: &model::StatusReason| StatusReason {
        error_code: reason.code.clone(),
        error_message: reason.message.clone(),
    };
    function.reasons.iter().map(show).collect()
}

fn first_message(function: &Function) -> String {
    function
        .reasons
        .first()
        .map(|reason| reason.message.clone())
        .unwrap_or_default()
}

/// Returns a note if another interpreter than the requested one runs the function.
fn fallback(gateway: &Gateway, function: &Function) -> Option<StatusReason> {
    let message = match gateway.worker.interpreters().serve(function.runtime) {
        Ok(served) => served.note(function.runtime)?,
        Err(e) => e.to_string(),
    };
    Some(StatusReason {
        error_code: "RuntimeFallback".into(),
        error_message: message,
    })
}

/// Returns the text of the handler's file; empty if it is not UTF-8 or exceeds [`CODE_MAX`].
pub(super) async fn code(gateway: &Gateway, serving: &Serving<'_>) -> String {
    let Some(code) = serving.code else {
        return String::new();
    };
    let tree = gateway.packages.tree(&code.tree);
    let file = serving
        .config
        .handler
        .as_str()
        .rsplit_once('.')
        .map_or("", |(file, _)| file);
    let name = match serving.function.kind {
        FunctionKind::Http => "scf_bootstrap".to_owned(),
        FunctionKind::Event => serving.function.runtime.source_file(file),
    };
    let read = tokio::task::spawn_blocking(move || read_inside(&tree, Path::new(&name)));
    read.await.ok().flatten().unwrap_or_default()
}

/// Reads a short text file in a tree. Symbolic links are followed only within the tree, since they come from the package.
fn read_inside(tree: &Path, path: &Path) -> Option<String> {
    let file = Directory::open(tree).and_then(|tree| tree.open_file(path));
    let mut text = String::new();
    file.ok()?
        .take(CODE_MAX + 1)
        .read_to_string(&mut text)
        .ok()?;
    (text.len() as u64 <= CODE_MAX).then_some(text)
}

/// Returns whether an EIP was requested. Functions use the host's address, so there is no EIP to show.
fn has_eip(config: &FunctionConfig) -> bool {
    stored_part(config, "PublicNetConfig", "EipConfig", Value::Null)["EipStatus"] == "ENABLE"
}

fn public_net(config: &FunctionConfig) -> Value {
    let status = |on| if on { "ENABLE" } else { "DISABLE" };
    json!({
        "PublicNetStatus": status(config.public_net),
        "EipConfig": {"EipStatus": status(has_eip(config)), "EipAddress": []},
    })
}
