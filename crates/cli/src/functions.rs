//! `virga list`, `show` and `delete`.

use clap::Args;
use scf::action::{DeleteFunction, GetFunction, ListFunctions};
use scf::types as t;
use serde_json::json;

use super::client::Client;
use super::failure::Failure;
use super::output::Output;

const PAGE: i64 = 100;

/// Flags of `virga list`.
#[derive(Args, Debug)]
pub(super) struct ListArgs {
    /// Only functions whose name contains this text
    search: Option<String>,
}

/// Flags of `virga show`.
#[derive(Args, Debug)]
pub(super) struct ShowArgs {
    /// Name of the function
    name: String,
    /// Also print the handler's file
    #[arg(long)]
    code: bool,
}

/// Flags of `virga delete`.
#[derive(Args, Debug)]
pub(super) struct DeleteArgs {
    /// Name of the function
    name: String,
}

pub(super) fn list(client: &Client, args: &ListArgs, output: &Output) -> Result<(), Failure> {
    let mut functions: Vec<t::FunctionSummary> = Vec::new();
    loop {
        let page = client.call::<ListFunctions>(&t::ListFunctionsRequest {
            namespace: client.namespace(),
            search_key: args.search.clone(),
            offset: Some(functions.len() as i64),
            limit: Some(PAGE),
            orderby: Some("FunctionName".into()),
            order: Some("ASC".into()),
            ..t::ListFunctionsRequest::default()
        })?;
        let got = page.functions.len();
        functions.extend(page.functions);
        if got == 0 || functions.len() as i64 >= page.total_count {
            break;
        }
    }
    let row = |function: &t::FunctionSummary| {
        let f = function.clone();
        vec![
            f.function_name,
            f.runtime,
            f.status,
            clock::local(&f.mod_time),
            f.description,
        ]
    };
    let rows = functions.iter().map(row).collect();
    output.table(
        &["NAME", "RUNTIME", "STATUS", "CHANGED", "DESCRIPTION"],
        rows,
        &functions,
    );
    if functions.is_empty() && !output.is_json() {
        output.note("no functions yet; create one: virga new hello");
    }
    Ok(())
}

/// Returns a function's settings and state.
pub(super) fn get(client: &Client, name: &str) -> Result<t::GetFunctionResponse, Failure> {
    Ok(client.call::<GetFunction>(&t::GetFunctionRequest {
        function_name: name.to_owned(),
        namespace: client.namespace(),
        ..t::GetFunctionRequest::default()
    })?)
}

pub(super) fn show(client: &Client, args: &ShowArgs, output: &Output) -> Result<(), Failure> {
    let function = client.call::<GetFunction>(&t::GetFunctionRequest {
        function_name: args.name.clone(),
        namespace: client.namespace(),
        show_code: args.code.then(|| "TRUE".to_owned()),
        ..t::GetFunctionRequest::default()
    })?;
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let number = |field: Option<i64>| field.unwrap_or_default();
    let variables = function
        .environment
        .iter()
        .flat_map(|environment| environment.variables.iter().flatten());
    let variables: Vec<_> = variables
        .map(|variable| format!("{}={}", variable.key, variable.value))
        .collect();
    let reasons = function.status_reasons.iter().flatten();
    let reasons: Vec<_> = reasons
        .map(|reason| reason.error_message.trim_end().to_owned())
        .collect();
    let rows = [
        ("name", text(&function.function_name)),
        ("namespace", text(&function.namespace)),
        ("status", text(&function.status)),
        ("reasons", reasons.join("; ")),
        ("runtime", text(&function.runtime)),
        ("handler", text(&function.handler)),
        ("memory", format!("{} MB", number(function.memory_size))),
        ("timeout", format!("{} s", number(function.timeout))),
        (
            "init timeout",
            format!("{} s", number(function.init_timeout)),
        ),
        ("code", format!("{} bytes", number(function.code_size))),
        ("environment", variables.join(" ")),
        ("description", text(&function.description)),
        ("created", clock::local(&text(&function.add_time))),
        ("changed", clock::local(&text(&function.mod_time))),
    ];
    let rows = rows
        .iter()
        .map(|(name, value)| vec![(*name).to_owned(), value.clone()])
        .collect();
    output.table(&["FIELD", "VALUE"], rows, &function);
    if args.code && !output.is_json() {
        output.text(&format!("\n{}", text(&function.code_info)));
    }
    Ok(())
}

pub(super) fn delete(client: &Client, args: &DeleteArgs, output: &Output) -> Result<(), Failure> {
    client.call::<DeleteFunction>(&t::DeleteFunctionRequest {
        function_name: args.name.clone(),
        namespace: client.namespace(),
        qualifier: None,
    })?;
    output.result(
        &format!("deleted {}", args.name),
        &json!({"FunctionName": args.name}),
    );
    Ok(())
}
