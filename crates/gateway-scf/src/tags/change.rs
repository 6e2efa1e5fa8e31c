//! Adding tags to functions and removing them.

use control::Reason;
use control::tags::{self, Tags};
use model::{Field, FunctionKey};
use scf::action::{
    AddResourceTag, AttachResourcesTag, CreateTag, DeleteResourceTag, DeleteTag,
    DetachResourcesTag, ModifyResourceTags, TagResources, UnTagResources,
};
use scf::types as t;
use scf::{Action, Error};

use super::super::error::{self, Rejected};
use super::super::{Caller, Gateway, Serve};
use super::{CommonFields, by_ids, by_paths, by_resource, ids_by_paths, is_attached};

impl Serve for AddResourceTag {
    fn normalize(gateway: &Gateway, caller: Caller<'_>, request: &mut Self::Request) {
        by_paths(gateway, caller, [&mut request.resource]);
    }

    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::AddResourceTagRequest,
    ) -> Result<t::Empty, Error> {
        let key = by_resource(gateway, caller, &request.resource)?;
        let (tag, value) = (&request.tag_key, &request.tag_value);
        let control = &gateway.control;
        let changed = control.change_tags(&key, |tags| tags::add(tags, tag, value));
        changed.await.map_err(error::control)?;
        Ok(t::Empty {})
    }
}

impl Serve for DeleteResourceTag {
    fn normalize(gateway: &Gateway, caller: Caller<'_>, request: &mut Self::Request) {
        by_paths(gateway, caller, [&mut request.resource]);
    }

    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::DeleteResourceTagRequest,
    ) -> Result<t::Empty, Error> {
        let key = by_resource(gateway, caller, &request.resource)?;
        let control = &gateway.control;
        let changed = control.change_tags(&key, |tags| tags::remove(tags, &request.tag_key));
        changed.await.map_err(error::control)?;
        Ok(t::Empty {})
    }
}

impl Serve for ModifyResourceTags {
    fn normalize(gateway: &Gateway, caller: Caller<'_>, request: &mut Self::Request) {
        by_paths(gateway, caller, [&mut request.resource]);
    }

    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::ModifyResourceTagsRequest,
    ) -> Result<t::Empty, Error> {
        let key = by_resource(gateway, caller, &request.resource)?;
        let replace = request.replace_tags.unwrap_or_default();
        let delete = request.delete_tags.unwrap_or_default();
        if replace.is_empty() && delete.is_empty() {
            let message = "ReplaceTags, DeleteTags: one of them must name a tag";
            return Err(error::parameter(message));
        }
        let both = |tag: &&t::TagPair| delete.iter().any(|one| one.tag_key == tag.tag_key);
        if let Some(tag) = replace.iter().find(both) {
            let message = format!(
                "DeleteTags: {:?} is in ReplaceTags, too; one of them alone may name it",
                tag.tag_key
            );
            return Err(error::rejected(Rejected::DeletedTags, message));
        }
        let changed = gateway.control.change_tags(&key, |tags| {
            // Deleting a missing tag is not an error.
            tags.retain(|have, _| !delete.iter().any(|one| one.tag_key == *have));
            let mut replaced = replace.iter();
            replaced.try_for_each(|tag| tags::put(tags, &tag.tag_key, &tag.tag_value))
        });
        changed.await.map_err(error::control)?;
        Ok(t::Empty {})
    }
}

impl Serve for AttachResourcesTag {
    fn normalize(gateway: &Gateway, caller: Caller<'_>, request: &mut Self::Request) {
        let prefix = request.resource_prefix.as_deref();
        ids_by_paths(gateway, caller, prefix, &mut request.resource_ids);
    }

    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::AttachResourcesTagRequest,
    ) -> Result<t::Empty, Error> {
        let common = CommonFields {
            service: Some(&request.service_type),
            prefix: request.resource_prefix.as_deref(),
            region: request.resource_region.as_deref(),
        };
        let (tag, value) = (&request.tag_key, &request.tag_value);
        let keys = by_ids(gateway, caller, &request.resource_ids, &common)?;
        let add = |tags: &mut Tags| tags::add(tags, tag, value);
        let changed = gateway.control.change_tags_of_all(&keys, add);
        changed.await.map_err(error::control)?;
        Ok(t::Empty {})
    }
}

impl Serve for DetachResourcesTag {
    fn normalize(gateway: &Gateway, caller: Caller<'_>, request: &mut Self::Request) {
        let prefix = request.resource_prefix.as_deref();
        ids_by_paths(gateway, caller, prefix, &mut request.resource_ids);
    }

    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::DetachResourcesTagRequest,
    ) -> Result<t::Empty, Error> {
        let common = CommonFields {
            service: Some(&request.service_type),
            prefix: request.resource_prefix.as_deref(),
            region: request.resource_region.as_deref(),
        };
        let keys = by_ids(gateway, caller, &request.resource_ids, &common)?;
        let remove = |tags: &mut Tags| tags::remove(tags, &request.tag_key);
        let changed = gateway.control.change_tags_of_all(&keys, remove);
        changed.await.map_err(error::control)?;
        Ok(t::Empty {})
    }
}

impl Serve for TagResources {
    fn normalize(gateway: &Gateway, caller: Caller<'_>, request: &mut Self::Request) {
        by_paths(gateway, caller, &mut request.resource_list);
    }

    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::TagResourcesRequest,
    ) -> Result<t::TagResourcesResponse, Error> {
        for tag in &request.tags {
            tags::check(&tag.tag_key, &tag.tag_value).map_err(error::control)?;
        }
        let put = |tags: &mut Tags| {
            let mut all = request.tags.iter();
            all.try_for_each(|tag| tags::put(tags, &tag.tag_key, &tag.tag_value))
        };
        Ok(t::TagResourcesResponse {
            failed_resources: all(gateway, caller, &request.resource_list, put).await,
        })
    }
}

impl Serve for UnTagResources {
    fn normalize(gateway: &Gateway, caller: Caller<'_>, request: &mut Self::Request) {
        by_paths(gateway, caller, &mut request.resource_list);
    }

    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::UnTagResourcesRequest,
    ) -> Result<t::UnTagResourcesResponse, Error> {
        let take_off = |tags: &mut Tags| {
            tags.retain(|have, _| !request.tag_keys.contains(have));
            Ok(())
        };
        Ok(t::UnTagResourcesResponse {
            failed_resources: all(gateway, caller, &request.resource_list, take_off).await,
        })
    }
}

/// Changes the tags of functions independently. Returns the failures.
async fn all(
    gateway: &Gateway,
    caller: Caller<'_>,
    resources: &[String],
    edit: impl Fn(&mut Tags) -> Result<(), control::Error>,
) -> Vec<t::FailedResource> {
    let mut failed = Vec::new();
    for resource in resources {
        let done: Result<FunctionKey, Error> = by_resource(gateway, caller, resource);
        let done = match done {
            Ok(key) => {
                let changed = gateway.control.change_tags(&key, &edit);
                changed.await.map_err(error::control)
            }
            Err(e) => Err(e),
        };
        if let Err(e) = done {
            failed.push(t::FailedResource {
                resource: resource.clone(),
                code: e.code.as_str().to_owned(),
                message: e.message,
            });
        }
    }
    failed
}

/// Only validates the tag: a tag exists exactly as long as a function has it.
impl Serve for CreateTag {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::CreateTagRequest,
    ) -> Result<t::Empty, Error> {
        let (tag, value) = (&request.tag_key, &request.tag_value);
        tags::check(tag, value).map_err(error::control)?;
        if is_attached(gateway, caller, Self::NAME, tag, value) {
            let message = format!("a function has {tag:?} with this value already");
            return Err(refused(Reason::TagExists, message));
        }
        Ok(t::Empty {})
    }
}

impl Serve for DeleteTag {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::DeleteTagRequest,
    ) -> Result<t::Empty, Error> {
        let (tag, value) = (&request.tag_key, &request.tag_value);
        tags::check(tag, value).map_err(error::control)?;
        if is_attached(gateway, caller, Self::NAME, tag, value) {
            let message = format!("functions have {tag:?} with this value; take it off first");
            return Err(refused(Reason::TagInUse, message));
        }
        Ok(t::Empty {})
    }
}

fn refused(reason: Reason, message: String) -> Error {
    error::control(control::Error::of(Field::TagKey, reason, message))
}
