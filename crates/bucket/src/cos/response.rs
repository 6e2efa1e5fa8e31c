//! Translation of S3 responses to COS.

use http::{HeaderMap, HeaderName};

const COS_PREFIX: &str = "x-cos-";
const S3_PREFIX: &str = "x-amz-";
/// XML namespace of S3's documents. COS's have none.
const NAMESPACE: &str = " xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"";

/// Renames the headers.
pub(crate) fn headers(given: HeaderMap) -> HeaderMap {
    let mut renamed = HeaderMap::with_capacity(given.len());
    let mut last = None;
    for (name, value) in given {
        // A repeated header comes without its name.
        last = name.or(last);
        let Some(name) = &last else { continue };
        let ours = name.as_str().strip_prefix(S3_PREFIX);
        let ours = ours.and_then(|rest| HeaderName::try_from(format!("{COS_PREFIX}{rest}")).ok());
        renamed.append(ours.unwrap_or_else(|| name.clone()), value);
    }
    renamed
}

/// URI prefixes of grantee groups, in S3 and in COS.
pub(crate) const GROUPS: [&str; 2] = [
    "http://acs.amazonaws.com/groups/global/",
    "http://cam.qcloud.com/groups/global/",
];

/// Rewrites a document.
pub(crate) fn document(given: &str) -> String {
    given.replacen(NAMESPACE, "", 1).replace(
        &format!("<URI>{}", GROUPS[0]),
        &format!("<URI>{}", GROUPS[1]),
    )
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn s3_headers_are_translated_to_cos() {
        let mut given = HeaderMap::new();
        for (name, value) in [("x-amz-meta-a", "1"), ("x-amz-meta-a", "2"), ("etag", "3")] {
            given.append(name, HeaderValue::from_static(value));
        }
        let said = headers(given);
        let values: Vec<_> = said.get_all("x-cos-meta-a").iter().collect();
        assert_eq!(values, ["1", "2"]);
        assert_eq!(said["etag"], "3");
        assert_eq!(said.len(), 3);
    }

    #[test]
    fn documents_have_no_s3_namespace() {
        let other = "<Tagging xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"></Tagging>";
        assert_eq!(document(other), "<Tagging></Tagging>");
        let group = "<URI>http://acs.amazonaws.com/groups/global/AllUsers</URI>";
        assert_eq!(
            document(group),
            "<URI>http://cam.qcloud.com/groups/global/AllUsers</URI>"
        );
    }
}
