//! `virga api`: any action of the API.

use clap::Args;
use clap::builder::PossibleValuesParser;
use scf::ACTIONS;
use serde_json::Value;

use super::client::Client;
use super::failure::Failure;
use super::output::Output;

/// Flags of `virga api`.
#[derive(Args, Debug)]
pub(super) struct ApiArgs {
    /// Name of the action
    #[arg(value_parser = PossibleValuesParser::new(ACTIONS.iter().map(|action| action.name)), hide_possible_values = true)]
    action: String,
    /// Parameters of the action, a JSON object
    #[arg(default_value = "{}")]
    parameters: String,
}

pub(super) fn run(client: &Client, args: &ApiArgs, output: &Output) -> Result<(), Failure> {
    let parameters: Value = serde_json::from_str(&args.parameters).map_err(|e| {
        Failure::Usage(format!(
            "the parameters are not JSON: {e}; pass a JSON object"
        ))
    })?;
    if !parameters.is_object() {
        return Err(Failure::Usage(
            "the parameters are not a JSON object; pass one such as '{\"FunctionName\": \"hello\"}'".into(),
        ));
    }
    let answer: Value = client.call_by_name(&args.action, &parameters)?;
    output.pretty(&answer);
    Ok(())
}
