//! `virga layer`, and the layers that `virga deploy` attaches by name.

use std::io::{Cursor, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use operator::{BuildLayer, BuildLayerRequest, ListRuntimes};
use scf::action::{ListLayerVersions, ListLayers};
use scf::types as t;
use serde_json::{Value, json};
use zip::ZipWriter;
use zip::result::ZipResult;
use zip::write::SimpleFileOptions;

use super::client::Client;
use super::failure::Failure;
use super::output::Output;

/// Libraries in SCF's Python runtimes.
const PYTHON: &[&str] = &[
    "cos-python-sdk-v5",
    "PyMySQL",
    "requests",
    "tencentcloud-sdk-python",
    "tencentserverless",
];
/// Libraries in SCF's Node.js runtimes.
const NODE: &[&str] = &[
    "cos-nodejs-sdk-v5",
    "jmespath",
    "lodash",
    "request",
    "tencentcloud-sdk-nodejs-scf",
    "xml2js",
];
/// The COS SDK under the module name of SCF's Python runtimes and Tencent's demos.
const COS: &str = "cos-python-sdk-v5";
const COS_ALIAS: (&str, &str) = (
    "qcloud_cos_v5.py",
    "import sys\nimport qcloud_cos\nsys.modules[__name__] = qcloud_cos\n",
);
const PAGE: i64 = 100;

/// Flags of `virga layer`.
#[derive(Args, Debug)]
pub(super) struct LayerArgs {
    #[command(subcommand)]
    task: LayerCommand,
}

#[derive(Debug, Subcommand)]
enum LayerCommand {
    /// Build a layer with the libraries of SCF's runtimes; the server installs them from the package registries
    Ready {
        /// Runtime of the layer's functions, such as Python3.11 or Nodejs20.20
        runtime: String,
        /// Name of the layer [default: ready- and the runtime]
        #[arg(long)]
        name: Option<String>,
        /// Additional library, with an optional version in the syntax of pip or npm; repeat for more
        #[arg(long, value_name = "LIBRARY")]
        with: Vec<String>,
        /// Install only the libraries of --with, not those of SCF's runtimes
        #[arg(long, requires = "with")]
        only: bool,
    },
    /// List layers with their newest versions
    List,
}

pub(super) fn run(client: &Client, args: &LayerArgs, output: &Output) -> Result<(), Failure> {
    match &args.task {
        LayerCommand::Ready {
            runtime,
            name,
            with,
            only,
        } => {
            let runtime = runtime_name(client, runtime)?;
            let usual = if *only { &[][..] } else { libraries(&runtime) };
            let usual = usual.iter().copied();
            let all: Vec<_> = usual.chain(with.iter().map(String::as_str)).collect();
            output.progress(&format!("the server installs {} …", all.join(", ")));
            let (file, manifest) = manifest(&runtime, &all);
            let alias = all.iter().any(|library| library.starts_with(COS));
            let alias = alias.then_some(COS_ALIAS).into_iter();
            let files: Vec<_> = alias.chain([(file, &manifest[..])]).collect();
            let zip = pack(&files).map_err(std::io::Error::from)?;
            let built = client.call::<BuildLayer>(&BuildLayerRequest {
                layer_name: name.clone().unwrap_or_else(|| default_name(&runtime)),
                runtime,
                zip_file: STANDARD.encode(zip),
                description: Some(described(&all)),
            })?;
            let name = &built.layer_name;
            let words = format!(
                "published layer {name} version {} for {}. Attach it:\n  virga deploy DIRECTORY --runtime {} --layer {name}",
                built.layer_version, built.runtime, built.runtime
            );
            output.result(&words, &built);
        }
        LayerCommand::List => list_all(client, output)?,
    }
    Ok(())
}

fn list_all(client: &Client, output: &Output) -> Result<(), Failure> {
    let mut layers: Vec<t::LayerVersionInfo> = Vec::new();
    loop {
        let page = client.call::<ListLayers>(&t::ListLayersRequest {
            offset: Some(layers.len() as i64),
            limit: Some(PAGE),
            ..t::ListLayersRequest::default()
        })?;
        let got = page.layers.len();
        layers.extend(page.layers);
        if got == 0 || layers.len() as i64 >= page.total_count {
            break;
        }
    }
    let row = |layer: &t::LayerVersionInfo| {
        let added = clock::local(&layer.add_time);
        let runtimes = layer.compatible_runtimes.join(", ");
        let version = layer.layer_version.to_string();
        let (name, description) = (layer.layer_name.clone(), layer.description.clone());
        vec![name, version, runtimes, added, description]
    };
    let headings = ["NAME", "VERSION", "RUNTIMES", "ADDED", "DESCRIPTION"];
    output.table(&headings, layers.iter().map(row).collect(), &layers);
    Ok(())
}

/// Resolves the layers of a function. Without a version, the newest one for the runtime is used. Returns `None` without layers.
pub(super) fn resolve(
    client: &Client,
    given: &[String],
    runtime: &str,
) -> Result<Option<Vec<Value>>, Failure> {
    if given.is_empty() {
        return Ok(None);
    }
    let resolved = given.iter().map(|layer| {
        let (name, version) = match layer.split_once(':') {
            Some((name, version)) => (name, Some(version)),
            None => (&layer[..], None),
        };
        let version = match version.map(str::parse::<i64>) {
            Some(Ok(version)) => version,
            Some(Err(_)) => {
                let allowed = "NAME, or NAME:VERSION with a number, is";
                return Err(Failure::Usage(format!(
                    "--layer: {layer:?} is not allowed; {allowed}"
                )));
            }
            None => newest(client, name, runtime)?,
        };
        Ok(json!({"LayerName": name, "LayerVersion": version}))
    });
    resolved.collect::<Result<_, _>>().map(Some)
}

/// Returns the newest version of a layer for a runtime.
fn newest(client: &Client, name: &str, runtime: &str) -> Result<i64, Failure> {
    let versions = client.call::<ListLayerVersions>(&t::ListLayerVersionsRequest {
        layer_name: name.to_owned(),
        compatible_runtime: Some(vec![runtime.to_owned()]),
    })?;
    let versions = versions.layer_versions.iter();
    let newest = versions.map(|version| version.layer_version).max();
    newest.ok_or_else(|| {
        Failure::Usage(format!(
            "--layer: {name} has no version for {runtime}; build one: virga layer ready {runtime} --name {name}"
        ))
    })
}

/// Returns a runtime's name in the server's spelling; the given one is case-insensitive. Unknown names are left to the server, which
/// may use a newer runtime.
fn runtime_name(client: &Client, given: &str) -> Result<String, Failure> {
    let runtimes = client.call::<ListRuntimes>(&t::Empty {})?.runtimes;
    let same = |name: &&String| name.eq_ignore_ascii_case(given);
    let found = runtimes.iter().find(same);
    Ok(found.cloned().unwrap_or_else(|| given.to_owned()))
}

fn is_node(runtime: &str) -> bool {
    runtime.starts_with("Nodejs")
}

fn libraries(runtime: &str) -> &'static [&'static str] {
    if is_node(runtime) { NODE } else { PYTHON }
}

fn default_name(runtime: &str) -> String {
    format!("ready-{}", runtime.replace('.', "-"))
}

/// Returns the description of a layer, cut to the maximum length.
fn described(libraries: &[&str]) -> String {
    const LONGEST: usize = 200;
    let words = format!("Libraries: {}", libraries.join(", "));
    words.chars().take(LONGEST).collect()
}

/// Returns the name and the content of the file that lists the dependencies.
fn manifest(runtime: &str, libraries: &[&str]) -> (&'static str, String) {
    if !is_node(runtime) {
        return ("requirements.txt", libraries.join("\n") + "\n");
    }
    let dependencies: serde_json::Map<_, _> = libraries
        .iter()
        .map(|library| {
            // A leading `@` starts a scope.
            let at = library.char_indices().skip(1).find(|(_, c)| *c == '@');
            let (name, version) = match at {
                Some((at, _)) => (&library[..at], &library[at + 1..]),
                None => (*library, "*"),
            };
            (name.to_owned(), Value::from(version))
        })
        .collect();
    let package = json!({"private": true, "dependencies": dependencies});
    ("package.json", package.to_string())
}

fn pack(files: &[(&str, &str)]) -> ZipResult<Vec<u8>> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (file, content) in files {
        archive.start_file(*file, SimpleFileOptions::default())?;
        archive.write_all(content.as_bytes())?;
    }
    Ok(archive.finish()?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn library_manifest_suits_the_package_manager() {
        assert_eq!(
            manifest("Python3.11", &["requests", "six==1.17.0"]),
            ("requirements.txt", "requests\nsix==1.17.0\n".to_owned())
        );
        let (file, text) = manifest("Nodejs20.20", &["request", "lodash@4.17.21", "@a/b@^2"]);
        let expected = json!({"private": true, "dependencies": {"request": "*", "lodash": "4.17.21", "@a/b": "^2"}});
        let read: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((file, read), ("package.json", expected));
    }

    #[test]
    fn default_layer_name_and_description_are_valid() {
        let runtimes = ["Python3.11", "Nodejs20.20"];
        for name in runtimes.map(default_name) {
            assert!(model::LayerName::parse(&name).is_ok(), "{name}");
        }
        assert!(described(&["a-library"; 100]).len() <= 200);
    }
}
