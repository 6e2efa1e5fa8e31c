//! COS's list of an account's buckets, with filters. Source: COS's page "GET Service".
//!
//! Clients act on filtered lists, so an unknown filter is rejected.

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use quick_xml::escape::escape;
use s3s::{Body, S3ErrorCode};

use super::signature::{self, TOKEN};
use crate::authorizer::{AccessRequest, Principal};
use crate::core::Core;
use crate::error_response::ErrorResponse;
use crate::request_head::RequestHead;
use crate::store::Bucket;

/// Maximum buckets per page.
const PAGE_MAX: usize = 2000;

/// Filters of the list.
#[derive(Debug, Default, PartialEq, Eq)]
struct Filter {
    region: Option<String>,
    tag: Option<(String, Option<String>)>,
    created: Option<CreatedFilter>,
    after: String,
    limit: usize,
}

/// Filter by creation time (s since 1970).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CreatedFilter {
    Before(u64),
    Until(u64),
    Since(u64),
    After(u64),
}

/// Lists the caller's buckets.
pub(crate) fn list(
    core: &Core,
    head: &RequestHead,
    principal: Option<&Principal>,
) -> Result<Response<Body>, ErrorResponse> {
    let filter = Filter::read(&head.query)?;
    let access = |principal: &Principal| AccessRequest {
        action: "GetService",
        app_id: principal.app_id,
        bucket: None,
        key: None,
    };
    let allows = |principal: &&Principal| core.authorizer.allows(principal, &access(principal));
    let Some(principal) = principal.filter(allows) else {
        return Err(S3ErrorCode::AccessDenied.into());
    };
    let region = core.authorizer.region();
    let mut buckets: Vec<_> = core.store.buckets(principal.app_id);
    buckets.retain(|bucket| filter.matches(bucket, &region));
    buckets.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
    let more = buckets.len() > filter.limit;
    buckets.truncate(filter.limit);
    let owner = core.authorizer.owner(principal.app_id);
    let owner = escape(owner.as_str());
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListAllMyBucketsResult><Owner><ID>{owner}</ID><DisplayName>{owner}</DisplayName></Owner>\
         <IsTruncated>{more}</IsTruncated>"
    );
    if !filter.after.is_empty() {
        text.push_str(&format!(
            "<Marker>{}</Marker>",
            escape(filter.after.as_str())
        ));
    }
    if let Some(last) = buckets.last().filter(|_| more) {
        text.push_str(&format!("<NextMarker>{}</NextMarker>", last.name.as_str()));
    }
    text.push_str("<Buckets>");
    for bucket in &buckets {
        let name = bucket.name.as_str();
        let at =
            jiff::Timestamp::from_second((bucket.created_ms / 1000) as i64).unwrap_or_default();
        let at = at.strftime("%Y-%m-%dT%H:%M:%SZ");
        let region = escape(region.as_str());
        text.push_str(&format!(
            "<Bucket><Name>{name}</Name><Location>{region}</Location><CreationDate>{at}</CreationDate><BucketType>cos</BucketType></Bucket>"
        ));
    }
    text.push_str("</Buckets></ListAllMyBucketsResult>");
    let mut response = Response::new(Body::from(text));
    let xml = HeaderValue::from_static("application/xml");
    response.headers_mut().insert(CONTENT_TYPE, xml);
    Ok(response)
}

impl Filter {
    fn read(query: &[(String, String)]) -> Result<Self, ErrorResponse> {
        let invalid = |name: &str, value: &str, allowed: &str| {
            let message = format!("{name} is {value:?}; it may be {allowed}");
            ErrorResponse::new(StatusCode::BAD_REQUEST, "InvalidArgument", message)
        };
        let mut filter = Self {
            limit: PAGE_MAX,
            ..Self::default()
        };
        let (mut tag, mut value_of_tag, mut at, mut range) = (None, None, None, None);
        for (name, value) in query {
            let text = value.clone();
            match name.as_str() {
                name if signature::is_parameter(name) || name == TOKEN => {}
                // Empty filters are ignored.
                "region" => filter.region = Some(text).filter(|text| !text.is_empty()),
                "marker" => filter.after = text,
                "tagkey" => tag = Some(text).filter(|text| !text.is_empty()),
                "tagvalue" => value_of_tag = Some(text).filter(|text| !text.is_empty()),
                "create-time" => at = Some(text).filter(|text| !text.is_empty()),
                "range" => range = Some(text).filter(|text| !text.is_empty()),
                "max-keys" if text.is_empty() => {}
                "max-keys" => {
                    let limit = text
                        .parse()
                        .ok()
                        .filter(|limit| (1..=PAGE_MAX).contains(limit));
                    filter.limit = limit.ok_or_else(|| invalid(name, value, "1 to 2000"))?;
                }
                _ => {
                    let message = format!(
                        "virga's list of buckets does not know the filter {name:?}; leave it out"
                    );
                    return Err(ErrorResponse::new(
                        StatusCode::NOT_IMPLEMENTED,
                        "NotImplemented",
                        message,
                    ));
                }
            }
        }
        filter.tag = match (tag, value_of_tag) {
            (None, Some(value)) => {
                return Err(invalid("tagvalue", &value, "given beside a tagkey alone"));
            }
            (tag, value) => tag.map(|tag| (tag, value)),
        };
        filter.created = match (at, range) {
            (None, None) => None,
            (Some(at), Some(range)) => {
                let seconds = at
                    .parse()
                    .map_err(|_| invalid("create-time", &at, "a time in seconds"))?;
                Some(match range.as_str() {
                    "lt" => CreatedFilter::Before(seconds),
                    "lte" => CreatedFilter::Until(seconds),
                    "gte" => CreatedFilter::Since(seconds),
                    "gt" => CreatedFilter::After(seconds),
                    _ => return Err(invalid("range", &range, "lt, lte, gt or gte")),
                })
            }
            (Some(at), None) => {
                return Err(invalid("create-time", &at, "given beside a range alone"));
            }
            (None, Some(range)) => {
                return Err(invalid("range", &range, "given beside a create-time alone"));
            }
        };
        Ok(filter)
    }

    fn matches(&self, bucket: &Bucket, region: &str) -> bool {
        let made = bucket.created_ms / 1000;
        let tagged = self.tag.as_ref().is_none_or(|(key, value)| {
            bucket.tags.iter().any(|(name, given)| {
                name == key && value.as_ref().is_none_or(|value| value == given)
            })
        });
        let created = match self.created {
            None => true,
            Some(CreatedFilter::Before(at)) => made < at,
            Some(CreatedFilter::Until(at)) => made <= at,
            Some(CreatedFilter::Since(at)) => made >= at,
            Some(CreatedFilter::After(at)) => made > at,
        };
        let there = self.region.as_ref().is_none_or(|asked| asked == region);
        tagged && created && there && bucket.name.as_str() > self.after.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Filter, String> {
        let pairs = pairs.iter();
        let query: Vec<_> = pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Filter::read(&query).map_err(|error_response| error_response.message)
    }

    #[test]
    fn unknown_or_invalid_filters_are_rejected() {
        let filter = read(&[
            ("q-ak", "a"),
            ("marker", ""),
            ("max-keys", "2"),
            ("range", "gt"),
            ("create-time", "7"),
        ])
        .expect("a filter");
        assert_eq!(
            (filter.limit, filter.created, filter.tag),
            (2, Some(CreatedFilter::After(7)), None)
        );
        for (pairs, named) in [
            (vec![("prefix", "a")], "prefix"),
            (vec![("max-keys", "0")], "max-keys"),
            (vec![("max-keys", "2001")], "max-keys"),
            (vec![("tagvalue", "a")], "tagvalue"),
            (vec![("create-time", "7")], "create-time"),
            (vec![("range", "lt")], "range"),
            (vec![("range", "about"), ("create-time", "7")], "range"),
            (
                vec![("range", "lt"), ("create-time", "noon")],
                "create-time",
            ),
        ] {
            let refused = read(&pairs).expect_err("refused");
            assert!(
                refused.starts_with(named) || refused.contains(&format!("{named:?}")),
                "{pairs:?}: {refused}"
            );
        }
    }
}
