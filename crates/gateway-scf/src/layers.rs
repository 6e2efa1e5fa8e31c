//! The actions on layers, and the layers of functions.

use ::control::layers::NewLayerVersion;
use model::{LayerName, LayerRef, LayerVersion, Runtime};
use scf::action::{
    DeleteLayerVersion, GetLayerVersion, ListLayerVersions, ListLayers, PublishLayerVersion,
};
use scf::types as t;
use scf::{Action, Error};
use serde_json::Value;

use super::functions::number;
use super::page::page;
use super::{Caller, Gateway, Serve, code, download, error};

impl Serve for PublishLayerVersion {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::PublishLayerVersionRequest,
    ) -> Result<t::PublishLayerVersionResponse, Error> {
        let tags = request.tags.unwrap_or_default().into_iter();
        let new = NewLayerVersion {
            runtimes: request.compatible_runtimes,
            description: request.description.as_deref(),
            license: request.license_info.unwrap_or_default(),
            tags: tags.map(|tag| (tag.key, tag.value)).collect(),
        };
        let package = code::store_package(gateway, caller, request.content);
        let published =
            gateway
                .control
                .publish_layer(caller.account, &request.layer_name, new, package);
        Ok(t::PublishLayerVersionResponse {
            layer_version: published.await? as i64,
        })
    }
}

impl Serve for GetLayerVersion {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::GetLayerVersionRequest,
    ) -> Result<t::GetLayerVersionResponse, Error> {
        let name = LayerName::parse(&request.layer_name).map_err(error::invalid)?;
        let number = request.layer_version;
        let found = gateway.control.layer_version(caller.account, &name, number);
        let (number, version) = found.map_err(error::control)?;
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
        let wanted = request.compatible_runtime.unwrap_or_default();
        let layer = gateway.control.layer(caller.account, &request.layer_name);
        let layer = layer.map_err(error::control)?;
        let versions = layer.versions.iter().rev().filter(|(_, version)| {
            wanted.is_empty()
                || wanted
                    .iter()
                    .any(|runtime| version.runtimes.contains(runtime))
        });
        Ok(t::ListLayerVersionsResponse {
            layer_versions: versions
                .map(|(number, version)| show(&layer.name, *number, Some(version)))
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
        let (name, number) = (&request.layer_name, request.layer_version);
        let control = &gateway.control;
        let deleted = control.delete_layer_version(caller.account, name, number);
        deleted.await.map_err(error::control)?;
        Ok(t::Empty {})
    }
}

const ACTIVE: &str = "Active";
const DELETED: &str = "Deleted";

/// Finds the layers in a request for a function. A single one without a name clears them, as the tool-kit does.
pub(super) fn attachable(
    gateway: &Gateway,
    caller: Caller<'_>,
    given: &[Value],
    runtime: Runtime,
    attached: &[LayerRef],
) -> Result<Vec<LayerRef>, Error> {
    let given = given.iter().map(|layer| {
        let name = layer["LayerName"].as_str().unwrap_or_default();
        (name.to_owned(), number(&layer["LayerVersion"]).unwrap_or(0))
    });
    let control = &gateway.control;
    let found = control.attachable_layers(caller.account, given, runtime, attached);
    found.map_err(error::control)
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
