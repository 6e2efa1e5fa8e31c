//! Listing tags, and finding functions by tags.

use std::collections::BTreeSet;

use md5::{Digest, Md5};
use model::Function;
use scf::action::{
    DescribeResourceTags, DescribeResourceTagsByResourceIds, DescribeTags, GetResources,
};
use scf::types as t;
use scf::{Action, Error};

use super::super::error::{self, Rejected};
use super::super::functions::get;
use super::super::{Caller, Gateway, Serve};
use super::resource::{ID_PREFIX, SERVICE};
use super::{
    CUSTOM, CommonFields, by_ids, by_paths, by_resource, id, ids_by_paths, of_id, six_parts, tagged,
};

/// Source: the tag service's page sizes.
const LIMIT_DEFAULT: i64 = 15;
const LIMIT_MAX: i64 = 1000;
const RESULTS_DEFAULT: i64 = 50;
const RESULTS_MAX: i64 = 200;

impl Serve for DescribeResourceTags {
    fn normalize(gateway: &Gateway, caller: Caller<'_>, request: &mut Self::Request) {
        let prefix = request.resource_prefix.as_deref();
        ids_by_paths(gateway, caller, prefix, &mut request.resource_id);
    }

    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::DescribeResourceTagsRequest,
    ) -> Result<t::DescribeResourceTagsResponse, Error> {
        let common = CommonFields {
            service: request.service_type.as_deref(),
            prefix: request.resource_prefix.as_deref(),
            region: request.resource_region.as_deref(),
        };
        common.check(gateway)?;
        if request.cos_resource_id.is_some_and(|cos| cos != 0) {
            let message = "CosResourceId: buckets have no tags of this service here; 0 is allowed";
            return Err(error::rejected(Rejected::ServiceType, message));
        }
        let page = Page::of(request.offset, request.limit)?;
        let wanted = request.resource_id.filter(|id| !id.is_empty());
        let is_wanted =
            |one: &Function| wanted.as_ref().is_none_or(|wanted| *wanted == id(&one.key));
        let mut rows = Vec::new();
        if created_by_uin(caller, request.create_uin) {
            for one in tagged(gateway, caller, Self::NAME) {
                if is_wanted(&one.value) {
                    rows.extend(of_function(&one.value, common.prefix));
                }
            }
        }
        let (total_count, rows) = page.cut(rows);
        Ok(t::DescribeResourceTagsResponse {
            total_count,
            offset: page.offset,
            limit: page.limit,
            rows,
        })
    }
}

impl Serve for DescribeResourceTagsByResourceIds {
    fn normalize(gateway: &Gateway, caller: Caller<'_>, request: &mut Self::Request) {
        let prefix = Some(&*request.resource_prefix);
        ids_by_paths(gateway, caller, prefix, &mut request.resource_ids);
    }

    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::DescribeResourceTagsByResourceIdsRequest,
    ) -> Result<t::DescribeResourceTagsByResourceIdsResponse, Error> {
        let common = CommonFields {
            service: Some(&request.service_type),
            prefix: Some(&request.resource_prefix),
            region: Some(&request.resource_region),
        };
        let keys = by_ids(gateway, caller, &request.resource_ids, &common)?;
        let page = Page::of(request.offset, request.limit)?;
        let mut rows = Vec::new();
        if wants_custom(request.category.as_deref())? {
            // A missing function has no tags.
            let found = keys.iter().filter_map(|key| gateway.catalog.function(key));
            rows.extend(found.flat_map(|one| of_function(&one.value, common.prefix)));
        }
        let (total_count, tags) = page.cut(rows);
        Ok(t::DescribeResourceTagsByResourceIdsResponse {
            total_count,
            offset: page.offset,
            limit: page.limit,
            tags,
        })
    }
}

impl Serve for DescribeTags {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::DescribeTagsRequest,
    ) -> Result<t::DescribeTagsResponse, Error> {
        let page = Page::of(request.offset, request.limit)?;
        // The list takes precedence over the single key.
        let keys = request.tag_keys.filter(|keys| !keys.is_empty());
        let key = request
            .tag_key
            .filter(|key| keys.is_none() && !key.is_empty());
        let value = request.tag_value.filter(|value| !value.is_empty());
        let is_wanted = |have: &String, with: &String| {
            keys.as_ref().is_none_or(|keys| keys.contains(have))
                && key.as_ref().is_none_or(|key| key == have)
                && value.as_ref().is_none_or(|value| value == with)
        };
        let mut found = BTreeSet::new();
        if created_by_uin(caller, request.create_uin) {
            for one in tagged(gateway, caller, Self::NAME) {
                let tags = one.value.tags.iter();
                let tags = tags.filter(|(key, value)| is_wanted(key, value));
                found.extend(tags.map(|(key, value)| (key.clone(), value.clone())));
            }
        }
        let entry = |(tag_key, tag_value)| t::TagEntry {
            tag_key,
            tag_value,
            // A tag in use cannot be deleted.
            can_delete: 0,
            category: CUSTOM.to_owned(),
        };
        let (total_count, tags) = page.cut(found.into_iter().map(entry).collect());
        Ok(t::DescribeTagsResponse {
            total_count,
            offset: page.offset,
            limit: page.limit,
            tags,
        })
    }
}

impl Serve for GetResources {
    fn normalize(gateway: &Gateway, caller: Caller<'_>, request: &mut Self::Request) {
        by_paths(gateway, caller, request.resource_list.iter_mut().flatten());
    }

    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::GetResourcesRequest,
    ) -> Result<t::GetResourcesResponse, Error> {
        let filters = request.tag_filters.unwrap_or_default();
        let has_all = |one: &Function| filters.iter().all(|filter| has(one, filter));
        let mapping = |one: &Function| t::TaggedResource {
            resource: six_parts(gateway, caller, &id(&one.key)),
            tags: one.tags.iter().map(pair).collect(),
        };
        if let Some(list) = request.resource_list.filter(|list| !list.is_empty()) {
            let mut found = Vec::new();
            for resource in &list {
                let key = by_resource(gateway, caller, resource)?;
                let one = get(gateway, &key)?;
                if has_all(&one.value) {
                    found.push(mapping(&one.value));
                }
            }
            return Ok(t::GetResourcesResponse {
                pagination_token: String::new(),
                resource_tag_mapping_list: found,
            });
        }
        let most = request.max_results.unwrap_or(RESULTS_DEFAULT);
        if !(1..=RESULTS_MAX).contains(&most) {
            let message = format!("MaxResults: {most} is not allowed; 1 to {RESULTS_MAX} are");
            return Err(error::parameter(message));
        }
        let mut functions = tagged(gateway, caller, Self::NAME);
        functions.retain(|one| has_all(&one.value));
        if let Some(token) = request.pagination_token.filter(|token| !token.is_empty()) {
            let last = of_id(&token).ok_or_else(|| {
                let message =
                    "PaginationToken: it is not valid; use the one of the previous response";
                error::rejected(Rejected::PaginationToken, message)
            })?;
            let last = (last.space, last.name);
            functions.retain(|one| sort_key(&one.value) > last);
        }
        functions.sort_by(|one, other| sort_key(&one.value).cmp(&sort_key(&other.value)));
        let is_last = functions.len() <= most as usize;
        functions.truncate(most as usize);
        let token = functions.last().filter(|_| !is_last);
        Ok(t::GetResourcesResponse {
            pagination_token: token.map_or(String::new(), |last| id(&last.value.key)),
            resource_tag_mapping_list: functions.iter().map(|one| mapping(&one.value)).collect(),
        })
    }
}

fn sort_key(one: &Function) -> (&str, &str) {
    (one.key.namespace.as_str(), one.key.name.as_str())
}

/// Returns whether a function has a tag that matches a filter.
fn has(one: &Function, filter: &t::TagFilter) -> bool {
    let values = filter.tag_value.as_deref().unwrap_or_default();
    let value = one.tags.get(&filter.tag_key);
    value.is_some_and(|value| values.is_empty() || values.contains(value))
}

fn pair((key, value): (&String, &String)) -> t::TagPair {
    t::TagPair {
        tag_key: key.clone(),
        tag_value: value.clone(),
        category: Some(CUSTOM.to_owned()),
    }
}

/// Returns the tags of a function as rows of a list. They name it in the form that the request's prefix asks for.
fn of_function(one: &Function, prefix: Option<&str>) -> impl Iterator<Item = t::TagRow> + use<> {
    let resource = match prefix == Some(ID_PREFIX) {
        true => one.id.as_str().to_owned(),
        false => id(&one.key),
    };
    let digest = |text: &str| hex::encode(Md5::digest(text.as_bytes()));
    let row = |(key, value): (&String, &String)| t::TagRow {
        tag_key: key.clone(),
        tag_value: value.clone(),
        resource_id: resource.clone(),
        tag_key_md5: digest(key),
        tag_value_md5: digest(value),
        service_type: SERVICE.to_owned(),
        category: CUSTOM.to_owned(),
    };
    let rows: Vec<_> = one.tags.iter().map(row).collect();
    rows.into_iter()
}

/// Parses whether custom tags are requested.
fn wants_custom(category: Option<&str>) -> Result<bool, Error> {
    match category {
        None | Some("" | "All" | "Custom") => Ok(true),
        Some("System") => Ok(false),
        Some(other) => {
            let shown: String = other.chars().take(60).collect();
            let message = format!("Category: {shown:?} is not allowed; Custom, System and All are");
            Err(error::parameter(message))
        }
    }
}

/// Returns whether the creator filter matches. The account's owner created all of its tags.
fn created_by_uin(caller: Caller<'_>, uin: Option<i64>) -> bool {
    uin.is_none_or(|uin| uin == 0 || uin.to_string() == caller.principal.owner.uin)
}

/// A page of a list.
#[derive(Clone, Copy, Debug)]
struct Page {
    offset: i64,
    limit: i64,
}

impl Page {
    fn of(offset: Option<i64>, limit: Option<i64>) -> Result<Self, Error> {
        let (offset, limit) = (offset.unwrap_or(0), limit.unwrap_or(LIMIT_DEFAULT));
        if !(1..=LIMIT_MAX).contains(&limit) {
            let message = format!("{limit} is not allowed; 1 to {LIMIT_MAX} are");
            return Err(error::wire_field("Limit", message));
        }
        if offset < 0 || offset % limit != 0 {
            let message =
                format!("{offset} is not allowed; 0 and multiples of the Limit {limit} are");
            return Err(error::wire_field("Offset", message));
        }
        Ok(Self { offset, limit })
    }

    /// Returns the total count and the items of the page.
    fn cut<T>(self, all: Vec<T>) -> (i64, Vec<T>) {
        let total = all.len() as i64;
        // `of` has checked both.
        let (skip, take) = (self.offset as usize, self.limit as usize);
        (total, all.into_iter().skip(skip).take(take).collect())
    }
}
