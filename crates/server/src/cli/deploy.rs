//! `virga deploy`.

use std::fs;
use std::io::{Cursor, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use scf::action::{CreateFunction, GetFunction, UpdateFunctionCode, UpdateFunctionConfiguration};
use scf::types as t;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::Failure;
use super::client::Client;
use super::output::Output;

/// What is never part of a package.
const LEFT_OUT: &[&str] = &[
    ".git",
    "__pycache__",
    ".venv",
    "venv",
    ".mypy_cache",
    ".pytest_cache",
    "node_modules/.cache",
];
/// Versions of Python 3 that a server is asked for.
const OLDEST: u8 = 6;
const NEWEST: u8 = 20;
const POLL: Duration = Duration::from_millis(200);

/// Flags of `virga deploy`.
#[derive(Args, Debug)]
pub(super) struct DeployArgs {
    /// Directory, file or zip archive with the code
    #[arg(default_value = ".")]
    source: PathBuf,
    /// Name of the function [default: the source's name]
    #[arg(long)]
    name: Option<String>,
    /// file.function to call [default for a new function: index.main_handler]
    #[arg(long)]
    handler: Option<String>,
    /// Runtime of a new function, such as Python3.11 [default: the server's newest]
    #[arg(long)]
    runtime: Option<String>,
    /// Memory of an instance, MB
    #[arg(long)]
    memory: Option<i64>,
    /// Longest run of a request, seconds
    #[arg(long)]
    timeout: Option<i64>,
    /// Longest start of an instance, seconds
    #[arg(long)]
    init_timeout: Option<i64>,
    /// HTTP makes a web function, whose scf_bootstrap starts a server on port 9000 [default for a new function: Event]
    #[arg(long = "type", value_name = "TYPE", value_parser = ["Event", "HTTP"])]
    kind: Option<String>,
    /// Environment variables, NAME=value; replace all that there are
    #[arg(long = "env", value_name = "NAME=VALUE")]
    environment: Vec<String>,
    /// Role in whose name it acts
    #[arg(long)]
    role: Option<String>,
    /// What the function is for
    #[arg(long)]
    description: Option<String>,
    /// DISABLE leaves the function no network but its loopback [default for a new function: ENABLE]
    #[arg(long, value_name = "STATUS", value_parser = ["ENABLE", "DISABLE"])]
    public_net: Option<String>,
    /// Install what requirements.txt asks for
    #[arg(long)]
    install: bool,
}

pub(super) fn run(client: &Client, args: &DeployArgs, output: &Output) -> Result<(), Failure> {
    let begun = Instant::now();
    let name = match &args.name {
        Some(name) => name.clone(),
        None => default_name(&args.source)?,
    };
    let environment = environment(&args.environment)?;
    let package = package(&args.source)?;
    output.progress(&format!(
        "packed {} ({} KB)",
        args.source.display(),
        package.len().div_ceil(1024)
    ));
    let zip_file = Some(STANDARD.encode(&package));
    let exists = match get(client, &name) {
        Ok(_) => true,
        Err(Failure::Client(e)) if e.is_not_found() => false,
        Err(e) => return Err(e),
    };
    let install_dependency = args.install.then(|| "TRUE".to_owned());
    if exists {
        update(
            client,
            args,
            &name,
            zip_file,
            install_dependency,
            environment,
            output,
        )?;
    } else {
        client.call::<CreateFunction>(&t::CreateFunctionRequest {
            function_name: name.clone(),
            namespace: client.namespace(),
            code: t::Code {
                zip_file,
                ..t::Code::default()
            },
            handler: args.handler.clone(),
            runtime: Some(match &args.runtime {
                Some(runtime) => runtime.clone(),
                None => newest_runtime(client, &name)?,
            }),
            r#type: args.kind.clone(),
            memory_size: args.memory,
            timeout: args.timeout,
            init_timeout: args.init_timeout,
            role: args.role.clone(),
            description: args.description.clone(),
            environment,
            public_net_config: public_net(args),
            install_dependency,
            ..t::CreateFunctionRequest::default()
        })?;
    }
    let function = wait_until_ready(client, &name, output)?;
    let done = if exists { "updated" } else { "created" };
    let next = if function.r#type.as_deref() == Some("HTTP") {
        format!("Give it a URL:\n  virga trigger url {name}")
    } else {
        format!("Invoke it:\n  virga invoke {name}")
    };
    let seconds = begun.elapsed().as_secs_f64();
    let words = format!("{done} {name} in {seconds:.1} s. {next}");
    output.result(&words, &function);
    Ok(())
}

fn public_net(args: &DeployArgs) -> Option<serde_json::Value> {
    let status = args.public_net.as_ref()?;
    Some(serde_json::json!({ "PublicNetStatus": status }))
}

fn update(
    client: &Client,
    args: &DeployArgs,
    name: &str,
    zip_file: Option<String>,
    install_dependency: Option<String>,
    environment: Option<t::Environment>,
    output: &Output,
) -> Result<(), Failure> {
    client.call::<UpdateFunctionCode>(&t::UpdateFunctionCodeRequest {
        function_name: name.to_owned(),
        namespace: client.namespace(),
        handler: args.handler.clone(),
        zip_file,
        install_dependency,
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

fn get(client: &Client, name: &str) -> Result<t::GetFunctionResponse, Failure> {
    let request = t::GetFunctionRequest {
        function_name: name.to_owned(),
        namespace: client.namespace(),
        ..t::GetFunctionRequest::default()
    };
    Ok(client.call::<GetFunction>(&request)?)
}

fn wait_until_ready(
    client: &Client,
    name: &str,
    output: &Output,
) -> Result<t::GetFunctionResponse, Failure> {
    let mut told = false;
    loop {
        let function = get(client, name)?;
        match function.status.as_deref() {
            Some("Creating" | "Updating") => {
                if !told {
                    output.progress("installing dependencies …");
                    told = true;
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

/// The newest Python that the server serves. The API has no list of them, but says of a request without code whether its
/// runtime is the trouble.
fn newest_runtime(client: &Client, name: &str) -> Result<String, Failure> {
    for minor in (OLDEST..=NEWEST).rev() {
        let runtime = format!("Python3.{minor}");
        let probe = t::CreateFunctionRequest {
            function_name: name.to_owned(),
            namespace: client.namespace(),
            runtime: Some(runtime.clone()),
            ..t::CreateFunctionRequest::default()
        };
        match client.call::<CreateFunction>(&probe) {
            Err(e) if e.is_code("InvalidParameterValue.Runtime") => {}
            Err(e) if e.is_code("MissingParameter.Code") => return Ok(runtime),
            Err(e) => return Err(e.into()),
            Ok(_) => return Ok(runtime),
        }
    }
    Err(Failure::Usage(
        "the server has no Python; install one there (virga doctor)".into(),
    ))
}

fn default_name(source: &Path) -> Result<String, Failure> {
    let real = source
        .canonicalize()
        .map_err(|e| Failure::Usage(format!("{}: {e}", source.display())))?;
    real.file_stem()
        .and_then(|name| name.to_str())
        .map(str::to_owned)
        .ok_or_else(|| {
            Failure::Usage(
                "the source has no name to call the function by; give one with --name".into(),
            )
        })
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

/// A zip archive of the source; one that is an archive already is taken as it is.
fn package(source: &Path) -> Result<Vec<u8>, Failure> {
    if source.extension().is_some_and(|end| end == "zip") {
        return Ok(fs::read(source)?);
    }
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let broken =
        |e: zip::result::ZipError| Failure::Usage(format!("cannot pack {}: {e}", source.display()));
    if source.is_file() {
        let name = source
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or("index.py");
        add_file(&mut writer, source, name).map_err(broken)?;
    } else {
        add_directory(&mut writer, source, "").map_err(broken)?;
    }
    Ok(writer.finish().map_err(broken)?.into_inner())
}

type Writer = ZipWriter<Cursor<Vec<u8>>>;

fn add_directory(
    writer: &mut Writer,
    directory: &Path,
    prefix: &str,
) -> zip::result::ZipResult<()> {
    let mut entries = fs::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?;
    // The same files make the same package.
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        if LEFT_OUT.contains(&name.as_str()) {
            continue;
        }
        let (path, inside) = (entry.path(), format!("{prefix}{name}"));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            add_directory(writer, &path, &format!("{inside}/"))?;
        } else if kind.is_symlink() {
            let target = fs::read_link(&path)?;
            writer.add_symlink(
                inside,
                target.to_string_lossy(),
                SimpleFileOptions::default(),
            )?;
        } else if kind.is_file() {
            add_file(writer, &path, &inside)?;
        }
    }
    Ok(())
}

fn add_file(writer: &mut Writer, path: &Path, name: &str) -> zip::result::ZipResult<()> {
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    writer.start_file(name, SimpleFileOptions::default().unix_permissions(mode))?;
    Ok(writer.write_all(&fs::read(path)?)?)
}
