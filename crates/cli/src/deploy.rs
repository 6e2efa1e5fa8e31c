//! `virga deploy`.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use model::{FunctionName, Handler};
use scf::action::{CreateFunction, UpdateFunctionCode, UpdateFunctionConfiguration};
use scf::types as t;
use serde_json::Value;

use super::client::Client;
use super::deployments::Deployments;
use super::entry::{self, Contents, Wanted};
use super::failure::Failure;
use super::functions::get;
use super::layer;
use super::output::Output;
use super::pack::{Packed, pack, real_path};
use super::runtimes::default_runtime;
use super::upload::{UploadArgs, Uploaded};

const POLL: Duration = Duration::from_millis(200);
/// Maximum number of excluded files in a message.
const LEFT_OUT_SHOWN: usize = 8;

/// Flags of `virga deploy`.
#[derive(Args, Debug)]
pub(super) struct DeployArgs {
    /// Directory, file or zip archive with the code
    #[arg(default_value = ".")]
    source: PathBuf,
    /// Name of the function [default: the source's name]
    #[arg(long)]
    name: Option<String>,
    /// file.function to call [default for a new function: index.main_handler, or main_handler in a single file]
    #[arg(long)]
    handler: Option<String>,
    /// Runtime of a new function, such as Python3.11 [default: the server's newest]
    #[arg(long)]
    runtime: Option<String>,
    /// Memory of an instance, MB
    #[arg(long)]
    memory: Option<i64>,
    /// Maximum duration of a request, seconds
    #[arg(long)]
    timeout: Option<i64>,
    /// Maximum duration of an instance's start, seconds
    #[arg(long)]
    init_timeout: Option<i64>,
    /// HTTP makes a web function, whose scf_bootstrap starts a server on port 9000 [default for a new function: Event]
    #[arg(long = "type", value_name = "TYPE", value_parser = ["Event", "HTTP"])]
    kind: Option<String>,
    /// Environment variable, NAME=value; repeat for more; replaces all existing ones
    #[arg(long = "env", value_name = "NAME=VALUE")]
    environment: Vec<String>,
    /// Role of the function, which determines its permissions
    #[arg(long)]
    role: Option<String>,
    /// Layer, NAME or NAME:VERSION [default: its newest version]; repeat for more; replaces all existing ones
    #[arg(long = "layer", value_name = "LAYER")]
    layers: Vec<String>,
    /// Description of the function
    #[arg(long)]
    description: Option<String>,
    /// DISABLE restricts the function to virga's own services [default for a new function: ENABLE]
    #[arg(long, value_name = "STATUS", value_parser = ["ENABLE", "DISABLE"])]
    public_net: Option<String>,
    /// Install the dependencies in requirements.txt or package.json on the server [default: as last time]
    #[arg(long, conflicts_with = "no_install")]
    install: bool,
    /// Do not install dependencies on the server, even if the last deployment did
    #[arg(long)]
    no_install: bool,
    /// Pack this file or directory even if a rule excludes it; relative to the source
    #[arg(long, value_name = "PATH")]
    include: Vec<String>,
    /// Update without confirmation a function that was not deployed from this source
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    upload: UploadArgs,
}

pub(super) fn run(client: &Client, args: &DeployArgs, output: &Output) -> Result<(), Failure> {
    let begun = Instant::now();
    let source = real_path(&args.source)?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => default_name(&args.source, &source)?,
    };
    let environment = environment(&args.environment)?;
    let existing = match get(client, &name) {
        Ok(existing) => Some(existing),
        Err(Failure::Client(e)) if e.is_not_found() => None,
        Err(e) => return Err(e),
    };
    let deployments = Deployments::load();
    if let Some(existing) = &existing {
        check_immutable(args, &name, existing)?;
        if !args.yes && !deployments.is_from(client, &name, &source) {
            confirm(&name, &source)?;
        }
    }
    let installs = installs(args, existing.as_ref());
    let packed = pack(&args.source, &args.include, installs)?;
    let (runtime, handler) = entry_point(
        client,
        args,
        &name,
        &source,
        &packed,
        existing.as_ref(),
        output,
    )?;
    let layers = layer::resolve(client, &args.layers, &runtime)?;
    output.progress(&format!(
        "packed {} ({} KB)",
        args.source.display(),
        packed.zip.len().div_ceil(1024)
    ));
    report_left_out(&packed, output);
    let uploaded = args.upload.put(client, &packed.zip, output)?;
    let package = Package {
        code: code(&packed.zip, uploaded.as_ref()),
        install_dependency: Some(if installs { "TRUE" } else { "FALSE" }.to_owned()),
    };
    let settings = Settings {
        environment,
        layers,
    };
    let sent = if existing.is_some() {
        update(client, args, &name, package, settings, output)
    } else {
        create(client, args, &name, package, runtime, handler, settings)
    };
    if let Some(uploaded) = uploaded {
        uploaded.remove(client, output);
    }
    sent?;
    if let Err(error) = deployments.note(client, &name, &source) {
        let next = "the next deployment will ask before it updates the function";
        output.note(&format!(
            "failed to record the source of {name}: {error}; {next}"
        ));
    }
    let function = wait_until_ready(client, &name, output)?;
    let done = if existing.is_some() {
        "updated"
    } else {
        "created"
    };
    let next = if function.r#type.as_deref() == Some("HTTP") {
        format!("Give it a URL:\n  virga trigger url {name} --callers everybody")
    } else {
        format!("Invoke it:\n  virga invoke {name}")
    };
    let seconds = begun.elapsed().as_secs_f64();
    let words = format!("{done} {name} in {seconds:.1} s. {next}");
    output.result(&words, &function);
    Ok(())
}

/// A package and its installation choice.
struct Package {
    code: t::Code,
    install_dependency: Option<String>,
}

/// Returns the code field: the package itself, or its object in a bucket.
fn code(zip: &[u8], uploaded: Option<&Uploaded>) -> t::Code {
    match uploaded {
        Some(uploaded) => t::Code {
            cos_bucket_name: Some(uploaded.bucket.clone()),
            cos_object_name: Some(uploaded.key.clone()),
            ..t::Code::default()
        },
        None => t::Code {
            zip_file: Some(STANDARD.encode(zip)),
            ..t::Code::default()
        },
    }
}

fn create(
    client: &Client,
    args: &DeployArgs,
    name: &str,
    package: Package,
    runtime: String,
    handler: Option<String>,
    settings: Settings,
) -> Result<(), Failure> {
    client.call::<CreateFunction>(&t::CreateFunctionRequest {
        function_name: name.to_owned(),
        namespace: client.namespace(),
        code: package.code,
        handler,
        runtime: Some(runtime),
        r#type: args.kind.clone(),
        memory_size: args.memory,
        timeout: args.timeout,
        init_timeout: args.init_timeout,
        role: args.role.clone(),
        description: args.description.clone(),
        environment: settings.environment,
        layers: settings.layers,
        public_net_config: public_net(args),
        install_dependency: package.install_dependency,
        ..t::CreateFunctionRequest::default()
    })?;
    Ok(())
}

/// Chooses runtime and handler, and refuses a package without an entry point.
fn entry_point(
    client: &Client,
    args: &DeployArgs,
    name: &str,
    source: &Path,
    packed: &Packed,
    existing: Option<&t::GetFunctionResponse>,
    output: &Output,
) -> Result<(String, Option<String>), Failure> {
    let runtime = match (existing, &args.runtime) {
        (Some(existing), _) => existing.runtime.clone(),
        (None, Some(runtime)) => Some(runtime.clone()),
        (None, None) => Some(default_runtime(client, name, source)?),
    };
    let runtime = runtime.unwrap_or_default();
    let handler = match (&args.handler, existing) {
        (None, None) if source.is_file() => entry::handler_of_file(source),
        (given, _) => given.clone(),
    };
    check_entry_point(packed, args, handler.as_deref(), &runtime, existing, output)?;
    Ok((runtime, handler))
}

/// Refuses a package without an entry point. If a layer or an installed dependency may have it, only says so.
fn check_entry_point(
    packed: &Packed,
    args: &DeployArgs,
    handler: Option<&str>,
    runtime: &str,
    existing: Option<&t::GetFunctionResponse>,
    output: &Output,
) -> Result<(), Failure> {
    let current = existing.and_then(|function| function.handler.as_deref());
    let kind = existing.and_then(|function| function.r#type.as_deref());
    let web = args.kind.as_deref().or(kind) == Some("HTTP");
    let index = Handler::default();
    let wanted = Wanted {
        handler: handler.or(current).unwrap_or(index.as_str()),
        runtime,
        web,
        exists: existing.is_some(),
    };
    let contents = Contents::of(&packed.zip);
    let Some(missing) = contents.and_then(|contents| contents.missing(&wanted)) else {
        return Ok(());
    };
    let attached = existing.and_then(|function| function.layers.as_deref());
    let layers = !args.layers.is_empty() || attached.is_some_and(|layers| !layers.is_empty());
    // A program starts from the code alone.
    let is_module = !web && runtime != entry::CUSTOM;
    if is_module && (layers || installs(args, existing)) {
        output.note(&format!(
            "{missing}; or a layer or an installed dependency has it, else the function will fail with 437"
        ));
        return Ok(());
    }
    Err(Failure::Usage(missing))
}

/// Returns an error for flags that would change an immutable setting, before anything is changed.
fn check_immutable(
    args: &DeployArgs,
    name: &str,
    existing: &t::GetFunctionResponse,
) -> Result<(), Failure> {
    let fixed = [
        ("--runtime", &args.runtime, &existing.runtime),
        ("--type", &args.kind, &existing.r#type),
    ];
    for (flag, wanted, is) in fixed {
        if let (Some(wanted), Some(is)) = (wanted, is)
            && wanted != is
        {
            return Err(Failure::Usage(format!(
                "{flag}: {wanted} is not allowed; {name} exists with {is}, which cannot change; omit {flag}, \
                 choose another --name, or delete it first: virga delete {name}"
            )));
        }
    }
    Ok(())
}

/// Asks for confirmation to overwrite a function that was not deployed from this source.
fn confirm(name: &str, source: &Path) -> Result<(), Failure> {
    let shown = source.display();
    let state = format!("function {name} exists and was not deployed from {shown}");
    let mut terminal = std::io::stderr();
    if !(terminal.is_terminal() && std::io::stdin().is_terminal()) {
        let allowed = "to update it, add --yes; to create another one, add --name NAME";
        return Err(Failure::Usage(format!("{state}; {allowed}")));
    }
    write!(terminal, "{state}. Update it? [y/N] ")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::Usage(format!(
            "{name} was not changed; to create another function, add --name NAME"
        ))),
    }
}

/// Returns whether the server installs the dependencies: as the flags say, otherwise as in the last deployment.
fn installs(args: &DeployArgs, existing: Option<&t::GetFunctionResponse>) -> bool {
    let last = existing.and_then(|function| function.install_dependency.as_deref());
    args.install || (!args.no_install && last == Some("TRUE"))
}

/// Reports the files that were excluded from the package.
fn report_left_out(packed: &Packed, output: &Output) {
    let named = |files: &[String]| {
        let mut words = files
            .iter()
            .take(LEFT_OUT_SHOWN)
            .cloned()
            .collect::<Vec<_>>();
        if files.len() > LEFT_OUT_SHOWN {
            words.push(format!("and {} more", files.len() - LEFT_OUT_SHOWN));
        }
        words.join(", ")
    };
    if !packed.secrets.is_empty() {
        let files = named(&packed.secrets);
        output.note(&format!(
            "left out, since it may contain secrets: {files}; pass values with --env, or pack a file with --include PATH"
        ));
    }
    if !packed.special.is_empty() {
        let files = named(&packed.special);
        output.note(&format!(
            "left out, since only files, directories and links can be packed: {files}"
        ));
    }
    if !packed.ignored.is_empty() {
        let files = named(&packed.ignored);
        output.note(&format!(
            "left out by the ignore files: {files}; --include PATH packs it, and a .virgaignore replaces .gitignore"
        ));
    }
}

fn public_net(args: &DeployArgs) -> Option<Value> {
    let status = args.public_net.as_ref()?;
    Some(serde_json::json!({ "PublicNetStatus": status }))
}

/// Settings that are assembled from several flags.
struct Settings {
    environment: Option<t::Environment>,
    layers: Option<Vec<Value>>,
}

fn update(
    client: &Client,
    args: &DeployArgs,
    name: &str,
    package: Package,
    settings: Settings,
    output: &Output,
) -> Result<(), Failure> {
    let Settings {
        environment,
        layers,
    } = settings;
    client.call::<UpdateFunctionCode>(&t::UpdateFunctionCodeRequest {
        function_name: name.to_owned(),
        namespace: client.namespace(),
        handler: args.handler.clone(),
        zip_file: package.code.zip_file,
        cos_bucket_name: package.code.cos_bucket_name,
        cos_object_name: package.code.cos_object_name,
        install_dependency: package.install_dependency,
        ..t::UpdateFunctionCodeRequest::default()
    })?;
    let settings = t::UpdateFunctionConfigurationRequest {
        function_name: name.to_owned(),
        namespace: client.namespace(),
        runtime: args.runtime.clone(),
        memory_size: args.memory,
        timeout: args.timeout,
        init_timeout: args.init_timeout,
        role: args.role.clone(),
        description: args.description.clone(),
        environment,
        layers,
        public_net_config: public_net(args),
        ..t::UpdateFunctionConfigurationRequest::default()
    };
    let only_code = t::UpdateFunctionConfigurationRequest {
        function_name: name.to_owned(),
        namespace: client.namespace(),
        ..t::UpdateFunctionConfigurationRequest::default()
    };
    if settings != only_code {
        wait_until_ready(client, name, output)?;
        client.call::<UpdateFunctionConfiguration>(&settings)?;
    }
    Ok(())
}

fn wait_until_ready(
    client: &Client,
    name: &str,
    output: &Output,
) -> Result<t::GetFunctionResponse, Failure> {
    let mut announced = false;
    loop {
        let function = get(client, name)?;
        match function.status.as_deref() {
            Some("Creating" | "Updating") => {
                if !announced {
                    output.progress("installing dependencies …");
                    announced = true;
                }
                std::thread::sleep(POLL);
            }
            Some("CreateFailed" | "UpdateFailed") => {
                let reasons = function.status_reasons.unwrap_or_default();
                let why: Vec<_> = reasons
                    .into_iter()
                    .map(|reason| reason.error_message)
                    .collect();
                output.note(&why.join("\n"));
                return Err(Failure::Function);
            }
            _ => return Ok(function),
        }
    }
}

/// Returns the default name of the function: that of the directory, or of the file without its extension.
fn default_name(given: &Path, source: &Path) -> Result<String, Failure> {
    let name = if source.is_dir() {
        source.file_name()
    } else {
        source.file_stem()
    };
    let name = name.unwrap_or_default().to_string_lossy().into_owned();
    if FunctionName::parse(&name).is_ok() {
        return Ok(name);
    }
    let suggested = suggested_name(&name);
    Err(Failure::Usage(format!(
        "{name:?} is not allowed as a function name; {} are; choose one: virga deploy {} --name {suggested}",
        FunctionName::ALLOWED,
        given.display()
    )))
}

/// Returns a valid name that resembles an invalid one.
fn suggested_name(name: &str) -> String {
    let allowed = |c: char| {
        if c.is_ascii_alphanumeric() || c == '_' {
            c
        } else {
            '-'
        }
    };
    let name: String = name.chars().map(allowed).take(60).collect();
    let name = name.trim_start_matches(|c: char| !c.is_ascii_alphabetic());
    let name = name.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
    if FunctionName::parse(name).is_ok() {
        name.to_owned()
    } else {
        "my-function".to_owned()
    }
}

fn environment(pairs: &[String]) -> Result<Option<t::Environment>, Failure> {
    if pairs.is_empty() {
        return Ok(None);
    }
    let variable = |pair: &String| {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            Failure::Usage(format!("--env: {pair:?} is not allowed; NAME=value is"))
        })?;
        Ok(t::Variable {
            key: key.to_owned(),
            value: value.to_owned(),
        })
    };
    let variables = pairs.iter().map(variable).collect::<Result<_, Failure>>()?;
    Ok(Some(t::Environment {
        variables: Some(variables),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_function_name_yields_a_valid_suggestion() {
        for (name, suggested) in [
            ("hi.v2", "hi-v2"),
            ("2nd app", "nd-app"),
            ("grüße", "gr--e"),
            ("...", "my-function"),
            ("x", "my-function"),
        ] {
            assert_eq!(suggested_name(name), suggested);
        }
    }
}
