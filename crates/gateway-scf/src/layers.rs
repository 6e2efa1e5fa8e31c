//! The actions on layers, and the layers of functions.

use std::collections::BTreeMap;

use model::{AccountId, Layer, LayerName, LayerRef, LayerVersion, Runtime, Sha256};
use scf::action::{
    DeleteLayerVersion, GetLayerVersion, ListLayerVersions, ListLayers, PublishLayerVersion,
};
use scf::types as t;
use scf::{Action, Code, Error};
use serde_json::Value;
use tracing::warn;
use worker::TreeSize;

use super::functions::{description, page, tags};
use super::{Caller, Gateway, Serve, code, download, error};

/// Source: SCF's limits of a layer.
const LICENSE_MAX: usize = 2000;
const RUNTIMES_MAX: usize = 15;

impl Serve for PublishLayerVersion {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::PublishLayerVersionRequest,
    ) -> Result<t::PublishLayerVersionResponse, Error> {
        let name = name(&request.layer_name)?;
        let description = description(request.description.as_deref(), &gateway.limits)?;
        let license = request.license_info.unwrap_or_default();
        if license.chars().count() > LICENSE_MAX {
            let message = format!("LicenseInfo: up to {LICENSE_MAX} characters are allowed");
            return Err(Error::new(Code::InvalidParameterValue, message));
        }
        check_runtimes(&request.compatible_runtimes)?;
        let tags = tags(request.tags.as_deref())?;
        let taken = code::store_package(gateway, caller, request.content).await?;
        let version = LayerVersion {
            runtimes: request.compatible_runtimes,
            description,
            license,
            package: taken.package,
            added: clock::now_ms(),
            tags,
        };
        let number = publish(gateway, caller, &name, version).await?;
        Ok(t::PublishLayerVersionResponse {
            layer_version: number as i64,
        })
    }
}

/// Publishes a version of a layer whose package is stored. Returns its number.
pub(super) async fn publish(
    gateway: &Gateway,
    caller: Caller<'_>,
    name: &LayerName,
    version: LayerVersion,
) -> Result<u64, Error> {
    compile_ahead(gateway, caller.account, &version.package, &version.runtimes);
    let published = gateway
        .catalog
        .publish_layer(caller.account, name, version, &gateway.limits);
    published.await.map_err(error::layer)
}

impl Serve for GetLayerVersion {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::GetLayerVersionRequest,
    ) -> Result<t::GetLayerVersionResponse, Error> {
        let name = name(&request.layer_name)?;
        let (number, version) = find(gateway, caller, &name, request.layer_version)?;
        Ok(t::GetLayerVersionResponse {
            code_sha256: version.package.to_string(),
            location: download::url(gateway, caller, &version.package),
            compatible_runtimes: version.runtimes,
            add_time: clock::format(version.added),
            description: version.description,
            license_info: version.license,
            layer_version: number as i64,
            layer_name: name.to_string(),
            status: ACTIVE.into(),
        })
    }
}

impl Serve for ListLayers {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::ListLayersRequest,
    ) -> Result<t::ListLayersResponse, Error> {
        let (offset, limit) = page(request.offset, request.limit)?;
        let search = request.search_key.unwrap_or_default();
        let runtime = request
            .compatible_runtime
            .filter(|runtime| !runtime.is_empty());
        let layers = gateway.catalog.layers(caller.account);
        let newest: Vec<_> = layers
            .iter()
            .filter(|layer| {
                let name = layer.value.name.as_str();
                gateway.lists_layer(caller, Self::NAME, name) && name.contains(&search)
            })
            .filter_map(|layer| {
                let fits = |(_, version): &(&u64, &LayerVersion)| {
                    runtime
                        .as_ref()
                        .is_none_or(|runtime| version.runtimes.contains(runtime))
                };
                let (number, version) = layer.value.versions.iter().rev().find(fits)?;
                Some(show(&layer.value.name, *number, Some(version)))
            })
            .collect();
        Ok(t::ListLayersResponse {
            total_count: newest.len() as i64,
            layers: newest.into_iter().skip(offset).take(limit).collect(),
        })
    }
}

impl Serve for ListLayerVersions {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::ListLayerVersionsRequest,
    ) -> Result<t::ListLayerVersionsResponse, Error> {
        let name = name(&request.layer_name)?;
        let wanted = request.compatible_runtime.unwrap_or_default();
        let layer = existing(gateway, caller, &name)?;
        let versions = layer.versions.iter().rev().filter(|(_, version)| {
            wanted.is_empty()
                || wanted
                    .iter()
                    .any(|runtime| version.runtimes.contains(runtime))
        });
        Ok(t::ListLayerVersionsResponse {
            layer_versions: versions
                .map(|(number, version)| show(&name, *number, Some(version)))
                .collect(),
        })
    }
}

impl Serve for DeleteLayerVersion {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::DeleteLayerVersionRequest,
    ) -> Result<t::Empty, Error> {
        let name = name(&request.layer_name)?;
        let (number, _) = find(gateway, caller, &name, request.layer_version)?;
        gateway
            .catalog
            .delete_layer_version(caller.account, &name, number)
            .await
            .map_err(error::layer)?;
        Ok(t::Empty {})
    }
}

/// Compiles a layer in the background for the interpreters that can import it. A merged tree of several layers contains the
/// bytecode that was compiled by the time of the merge.
fn compile_ahead(gateway: &Gateway, account: AccountId, package: &Sha256, runtimes: &[String]) {
    let served = runtimes.iter().filter_map(|name| {
        let runtime = Runtime::parse(name).ok()?;
        let served = gateway.worker.interpreters().serve(runtime).ok()?;
        Some((served.interpreter.runtime, served.interpreter))
    });
    // One interpreter may serve several runtimes.
    let served: BTreeMap<_, _> = served.collect();
    let (builds, package) = (gateway.builds.clone(), package.clone());
    tokio::spawn(async move {
        for interpreter in served.values() {
            let compiled = builds.compile(account, &package, interpreter);
            if let Err(error) = compiled.await {
                warn!(%package, %error, "failed to precompile a layer; each cold start compiles it");
            }
        }
    });
}

const ACTIVE: &str = "Active";
const DELETED: &str = "Deleted";

/// Parses the layers of a function, if present. A single one without a name clears them, as the tool-kit does.
pub(super) fn given(
    gateway: &Gateway,
    caller: Caller<'_>,
    layers: Option<&[Value]>,
    runtime: Runtime,
    attached: &[LayerRef],
) -> Result<Option<Vec<LayerRef>>, Error> {
    let Some(layers) = layers else {
        return Ok(None);
    };
    let most = gateway.limits.layers_per_function as usize;
    let mut refs: Vec<LayerRef> = Vec::new();
    for layer in layers {
        let text = layer["LayerName"].as_str().unwrap_or_default();
        if text.is_empty() {
            continue;
        }
        let name = name(text)?;
        if refs.len() == most {
            let message = format!("Layers: a function has up to {most}");
            return Err(Error::new(Code::LimitExceededLayers, message));
        }
        if refs.iter().any(|one| one.name == name) {
            let message = format!("Layers: {name} is given twice");
            return Err(Error::new(Code::InvalidLayers, message));
        }
        // Older protocols transmit numbers as text.
        let number = &layer["LayerVersion"];
        let number = number
            .as_i64()
            .or_else(|| number.as_str()?.parse().ok())
            .unwrap_or(0);
        // The function keeps a layer that it already has, even if that version was deleted.
        let same = |one: &&LayerRef| one.name == name && i64::try_from(one.version) == Ok(number);
        if let Some(kept) = attached.iter().find(same) {
            refs.push(kept.clone());
            continue;
        }
        let (number, version) = find(gateway, caller, &name, number)?;
        let runtime = runtime.to_string();
        if !version.runtimes.contains(&runtime) {
            let message = format!(
                "Layers: version {number} of {name} is for {}, not for {runtime}",
                version.runtimes.join(", ")
            );
            return Err(Error::new(Code::InvalidLayers, message));
        }
        refs.push(LayerRef {
            name,
            version: number,
            package: version.package,
        });
    }
    Ok(Some(refs))
}

/// Checks the total unpacked size of a function's code and layers. Reads the disk.
pub(super) async fn check_size(
    gateway: &Gateway,
    code: Option<&Sha256>,
    layers: &[LayerRef],
) -> Result<(), Error> {
    if layers.is_empty() {
        return Ok(());
    }
    let packages = gateway.packages.clone();
    let trees: Vec<_> = layers.iter().map(|layer| layer.package.clone()).collect();
    let code = code.cloned();
    let measured = tokio::task::spawn_blocking(move || {
        let mut size = TreeSize::default();
        for tree in trees.iter().chain(&code) {
            packages.unpack(tree)?;
            size += packages.size(tree)?;
        }
        Ok(size)
    });
    let size = measured
        .await
        .map_err(|e| error::internal(&e))?
        .map_err(error::package)?;
    let limits = &gateway.limits;
    let rows = [
        (size.bytes, limits.unpacked_bytes, "bytes"),
        (
            size.inodes,
            limits.unpacked_entries,
            "files, directories and links",
        ),
    ];
    for (size, most, what) in rows {
        if size > most {
            let message = format!(
                "Layers: code and layers have {size} {what} unpacked; up to {most} are allowed"
            );
            return Err(Error::new(Code::InvalidLayers, message));
        }
    }
    Ok(())
}

/// Shows the layers of a function.
pub(super) fn attached(
    gateway: &Gateway,
    account: model::AccountId,
    layers: &[LayerRef],
) -> Vec<t::LayerVersionInfo> {
    let shown = layers.iter().map(|attached| {
        let layer = gateway.catalog.layer(account, &attached.name);
        let version = layer
            .as_ref()
            .and_then(|layer| layer.value.versions.get(&attached.version));
        show(&attached.name, attached.version, version)
    });
    shown.collect()
}

fn show(name: &LayerName, number: u64, version: Option<&LayerVersion>) -> t::LayerVersionInfo {
    let status = version.map_or(DELETED, |_| ACTIVE);
    let version = version.cloned();
    t::LayerVersionInfo {
        add_time: version
            .as_ref()
            .map_or(String::new(), |version| clock::format(version.added)),
        layer_version: number as i64,
        layer_name: name.to_string(),
        status: status.into(),
        stamp: String::new(),
        tags: version.as_ref().map_or(Vec::new(), |version| {
            let tag = |(key, value): (&String, &String)| t::Tag {
                key: key.clone(),
                value: value.clone(),
            };
            version.tags.iter().map(tag).collect()
        }),
        description: version
            .as_ref()
            .map_or(String::new(), |version| version.description.clone()),
        license_info: version
            .as_ref()
            .map_or(String::new(), |version| version.license.clone()),
        compatible_runtimes: version.map_or(Vec::new(), |version| version.runtimes),
    }
}

pub(super) fn name(text: &str) -> Result<LayerName, Error> {
    LayerName::parse(text).map_err(error::invalid)
}

fn existing(gateway: &Gateway, caller: Caller<'_>, name: &LayerName) -> Result<Layer, Error> {
    let layer = gateway.catalog.layer(caller.account, name);
    let layer = layer.filter(|layer| !layer.value.versions.is_empty());
    layer.map(|layer| layer.value.clone()).ok_or_else(|| {
        Error::new(
            Code::LayerNotFound,
            format!("LayerName: there is no layer {name}"),
        )
    })
}

fn find(
    gateway: &Gateway,
    caller: Caller<'_>,
    name: &LayerName,
    number: i64,
) -> Result<(u64, LayerVersion), Error> {
    let mut layer = existing(gateway, caller, name)?;
    let found = u64::try_from(number)
        .ok()
        .and_then(|number| layer.versions.remove_entry(&number));
    found.ok_or_else(|| {
        let message = format!("LayerVersion: layer {name} has no version {number}");
        Error::new(Code::LayerVersionNotFound, message)
    })
}

fn check_runtimes(runtimes: &[String]) -> Result<(), Error> {
    let fine = |name: &String| {
        (1..=30).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.')
    };
    if !(1..=RUNTIMES_MAX).contains(&runtimes.len()) || !runtimes.iter().all(fine) {
        let message = format!(
            "CompatibleRuntimes: 1 to {RUNTIMES_MAX} names of runtimes are allowed, such as Python3.9"
        );
        return Err(Error::new(Code::InvalidParameterValue, message));
    }
    let unique: BTreeMap<_, ()> = runtimes.iter().map(|name| (name, ())).collect();
    if unique.len() < runtimes.len() {
        let message = "CompatibleRuntimes: a runtime is given twice";
        return Err(Error::new(Code::InvalidParameterValue, message));
    }
    Ok(())
}
