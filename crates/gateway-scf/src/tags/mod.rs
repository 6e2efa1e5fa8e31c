//! The tag service for functions: adding, removing and listing tags, and finding functions by tags.
//!
//! A tag exists as long as a function has it. Functions are named by six-segment resource names,
//! `qcs::scf:<region>:uin/<uin>:namespace/<namespace>/function/<function>`, or by the part after `namespace/`; or by their
//! ids, `lam/<FunctionId>`, which [`by_paths`] replaces before anything else looks at them.

mod change;
mod list;
mod resource;

use std::borrow::BorrowMut;
use std::sync::Arc;

use catalog::Stored;
use control::Reason;
use model::{Function, FunctionKey, Namespace};
use scf::Error;

use super::error::{self, Rejected};
use super::{Caller, Gateway};

use resource::SERVICE;
pub(super) use resource::{FunctionPath, of_id, of_resource};

/// The category of user-defined tags; virga defines none itself.
const CUSTOM: &str = "Custom";

/// Returns the functions of the caller's account, by namespace and name.
fn functions(gateway: &Gateway, caller: Caller<'_>) -> impl Iterator<Item = Arc<Stored<Function>>> {
    let others = gateway.catalog.namespaces(caller.account);
    let others = others.iter().map(|space| space.value.name.clone());
    let others = others.filter(|name| !name.is_default());
    let spaces = std::iter::once(Namespace::default()).chain(others);
    let all: Vec<_> = spaces
        .flat_map(|space| gateway.catalog.functions(caller.account, &space))
        .collect();
    all.into_iter()
}

/// Returns the path of the function with this id.
fn path_of(gateway: &Gateway, caller: Caller<'_>, function: &str) -> Option<String> {
    let mut all = functions(gateway, caller);
    let found = all.find(|one| one.value.id.as_str() == function)?;
    Some(id(&found.value.key))
}

/// Replaces functions' ids in six-segment resource names by their paths.
fn by_paths<'a>(
    gateway: &Gateway,
    caller: Caller<'_>,
    resources: impl IntoIterator<Item = &'a mut String>,
) {
    for resource in resources {
        if let Some(path) = resource::with_path(resource, |id| path_of(gateway, caller, id)) {
            *resource = path;
        }
    }
}

/// Replaces functions' ids by their paths, if the request's prefix says that they are ids.
fn ids_by_paths(
    gateway: &Gateway,
    caller: Caller<'_>,
    prefix: Option<&str>,
    ids: impl IntoIterator<Item = impl BorrowMut<String>>,
) {
    if prefix != Some(resource::ID_PREFIX) {
        return;
    }
    for mut one in ids {
        let one = one.borrow_mut();
        if let Some(path) = path_of(gateway, caller, one) {
            *one = path;
        }
    }
}

/// Returns the tagged functions that the caller may list, by namespace and name.
fn tagged(gateway: &Gateway, caller: Caller<'_>, list: &str) -> Vec<Arc<Stored<Function>>> {
    let shown = |one: &Arc<Stored<Function>>| {
        !one.value.tags.is_empty() && gateway.lists_function(caller, list, &one.value.key)
    };
    functions(gateway, caller).filter(shown).collect()
}

/// Returns whether a function that the caller may list has a tag.
fn is_attached(gateway: &Gateway, caller: Caller<'_>, list: &str, key: &str, value: &str) -> bool {
    let functions = tagged(gateway, caller, list);
    let has =
        |one: &Arc<Stored<Function>>| one.value.tags.get(key).is_some_and(|have| have == value);
    functions.iter().any(has)
}

/// Parses a six-segment resource name of a function.
fn by_resource(gateway: &Gateway, caller: Caller<'_>, text: &str) -> Result<FunctionKey, Error> {
    let Some(place) = of_resource(text) else {
        let shown: String = text.chars().take(200).collect();
        if resource::function_id(text).is_some() {
            let message = format!("Resource: no function has the id in {shown:?}");
            return Err(missing(message));
        }
        let why = match resource::is_layer(text) {
            true => "a layer's version has the Tags that it is published with",
            false => "only functions have tags here",
        };
        let message = format!(
            "Resource: {shown:?} is not allowed; {} is, since {why}",
            six_parts(gateway, caller, "<namespace>/function/<function>")
        );
        return Err(error::rejected(Rejected::ResourceName, message));
    };
    check_region(gateway, "Resource", Some(place.region))?;
    let (uin, id) = (&caller.principal.owner.uin, caller.account.to_string());
    let owner = place.owner;
    let own = owner.is_empty()
        || owner.strip_prefix("uin/").unwrap_or(owner) == uin
        || owner.strip_prefix("uid/") == Some(&id);
    if !own {
        let shown: String = owner.chars().take(60).collect();
        let message = format!("Resource: {shown:?} is not allowed; uin/{uin} is, or nothing");
        return Err(error::rejected(Rejected::ResourceName, message));
    }
    key(caller, &place)
}

/// Parses the ids of functions, with their common service, prefix and region.
fn by_ids(
    gateway: &Gateway,
    caller: Caller<'_>,
    ids: &[String],
    common: &CommonFields<'_>,
) -> Result<Vec<FunctionKey>, Error> {
    common.check(gateway)?;
    let named = ids.iter().map(|id| {
        let place = of_id(id).ok_or_else(|| {
            let shown: String = id.chars().take(200).collect();
            if common.prefix == Some(resource::ID_PREFIX) {
                let message = format!("ResourceIds: no function has the id {shown:?}");
                return missing(message);
            }
            let message = format!(
                "ResourceIds: {shown:?} is not allowed; <namespace>/function/<function> is"
            );
            error::rejected(Rejected::ResourceId, message)
        })?;
        key(caller, &place)
    });
    named.collect()
}

fn key(caller: Caller<'_>, place: &FunctionPath<'_>) -> Result<FunctionKey, Error> {
    super::functions::key(caller, place.name, Some(place.space))
}

/// The common fields of the ids in a request.
#[derive(Clone, Copy, Debug)]
struct CommonFields<'a> {
    service: Option<&'a str>,
    prefix: Option<&'a str>,
    region: Option<&'a str>,
}

impl CommonFields<'_> {
    /// Rejects values that no function has. Absent fields match every function.
    fn check(&self, gateway: &Gateway) -> Result<(), Error> {
        let wrong = |field: &str, given: &str, allowed: &str, part| {
            let given: String = given.chars().take(60).collect();
            let message = format!(
                "{field}: {given:?} is not allowed; {allowed} is, since only functions have tags here"
            );
            Err(error::rejected(part, message))
        };
        let given = |text: Option<&'_ str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        match given(self.service) {
            Some(service) if service != SERVICE => {
                return wrong("ServiceType", &service, SERVICE, Rejected::ServiceType);
            }
            _ => {}
        }
        match given(self.prefix) {
            Some(prefix) if ![resource::PREFIX, resource::ID_PREFIX].contains(&&*prefix) => {
                let (allowed, part) = ("namespace (or lam)", Rejected::ResourcePrefix);
                return wrong("ResourcePrefix", &prefix, allowed, part);
            }
            _ => {}
        }
        check_region(gateway, "ResourceRegion", self.region)
    }
}

fn check_region(gateway: &Gateway, field: &str, given: Option<&str>) -> Result<(), Error> {
    match given {
        Some(region) if !region.is_empty() && region != gateway.region => {
            let shown: String = region.chars().take(60).collect();
            let message = format!(
                "{field}: the region {shown:?} is not allowed; {} is",
                gateway.region
            );
            Err(error::rejected(Rejected::ResourceRegion, message))
        }
        _ => Ok(()),
    }
}

fn missing(message: String) -> Error {
    error::control(control::Error::new(Reason::FunctionMissing, message))
}

/// Returns a function's path in the tag service.
fn id(key: &FunctionKey) -> String {
    format!("{}/function/{}", key.namespace, key.name)
}

/// Returns the six-segment resource name for an id.
fn six_parts(gateway: &Gateway, caller: Caller<'_>, id: &str) -> String {
    let uin = &caller.principal.owner.uin;
    let prefix = resource::PREFIX;
    format!("qcs::{SERVICE}:{}:uin/{uin}:{prefix}/{id}", gateway.region)
}
