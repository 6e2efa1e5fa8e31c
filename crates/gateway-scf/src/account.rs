//! `GetAccount`: the usage and the limits of an account.

use catalog::Stored;
use model::{Function, Namespace};
use scf::action::GetAccount;
use scf::types as t;
use scf::{Action, Error};
use std::sync::Arc;

use super::{Caller, Gateway, Serve};

/// Source: SCF's namespace limits. virga does not enforce these.
const TRIGGER_TYPES: i64 = 11;
const TEST_MODELS: i64 = 20;
const CONCURRENT_EXECUTIONS: i64 = 100;

impl Serve for GetAccount {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        _: t::GetAccountRequest,
    ) -> Result<t::GetAccountResponse, Error> {
        let limits = &gateway.limits;
        let others = gateway.catalog.namespaces(caller.account);
        let others = others.iter().map(|stored| stored.value.name.clone());
        let others = others.filter(|name| !name.is_default());
        let all = std::iter::once(Namespace::default()).chain(others);
        let namespaces: Vec<_> = all
            .filter(|name| gateway.lists_namespace(caller, Self::NAME, name.as_str()))
            .collect();
        let total = i64::from(gateway.catalog.total_mb(caller.account, limits));
        let mut reserved = 0;
        let usage: Vec<_> = namespaces
            .iter()
            .map(|name| {
                let functions = gateway.catalog.functions(caller.account, name);
                let own = reserved_of(&functions);
                reserved += own;
                t::NamespaceUsage {
                    functions: functions
                        .iter()
                        .filter(|stored| {
                            gateway.lists_function(caller, Self::NAME, &stored.value.key)
                        })
                        .map(|stored| stored.value.key.name.to_string())
                        .collect(),
                    namespace: name.to_string(),
                    functions_count: functions.len() as i64,
                    total_concurrency_mem: total,
                    total_allocated_concurrency_mem: own,
                    total_allocated_provisioned_mem: provisioned_of(&functions),
                }
            })
            .collect();
        let each = |name: &Namespace| t::NamespaceLimit {
            functions_count: limits.functions_per_namespace.into(),
            trigger: triggers(limits.triggers_per_type.into()),
            namespace: name.to_string(),
            concurrent_executions: CONCURRENT_EXECUTIONS,
            timeout_limit: limits.timeout_max_s.into(),
            test_model_limit: TEST_MODELS,
            init_timeout_limit: limits.init_timeout_max_s.into(),
            retry_num_limit: limits.retry_num_max.into(),
            min_msg_ttl: limits.msg_ttl_min_s.into(),
            max_msg_ttl: limits.msg_ttl_max_s.into(),
        };
        Ok(t::GetAccountResponse {
            account_limit: t::LimitsInfo {
                namespaces_count: limits.namespaces.into(),
                namespace: namespaces.iter().map(each).collect(),
            },
            account_usage: t::UsageInfo {
                namespaces_count: namespaces.len() as i64,
                namespace: usage,
                total_concurrency_mem: limits.concurrency_mb.into(),
                total_allocated_concurrency_mem: reserved,
                user_concurrency_mem_limit: total,
            },
        })
    }
}

fn reserved_of(functions: &[Arc<Stored<Function>>]) -> i64 {
    let reserved = functions
        .iter()
        .filter_map(|stored| stored.value.reserved_mb);
    reserved.map(i64::from).sum()
}

fn provisioned_of(functions: &[Arc<Stored<Function>>]) -> i64 {
    let kept = functions.iter().map(|stored| stored.value.provisioned_mb());
    kept.map(i64::from).sum()
}

fn triggers(each: i64) -> t::TriggerCount {
    t::TriggerCount {
        cos: each,
        timer: each,
        cmq: each,
        total: each * TRIGGER_TYPES,
        ckafka: each,
        apigw: each,
        cls: each,
        clb: each,
        mps: each,
        cm: each,
        vod: each,
        eb: each,
    }
}
