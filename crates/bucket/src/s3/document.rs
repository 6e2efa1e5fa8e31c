//! The document of a new bucket, of which `s3s` does not know all: its tags are read here.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;
use futures_util::TryStreamExt;
use http::Extensions;
use http_body_util::StreamBody;
use hyper::body::Frame;
use s3s::xml::{Deserialize, Deserializer};
use s3s::{Body, S3Result, dto, s3_error};

use super::XML;
use super::convert::tag_set;
use crate::store::Tags;

/// A document as it came, for who reads it a second time.
#[derive(Clone, Default)]
struct CapturedDocument(Arc<Mutex<BytesMut>>);

/// Keeps what a body has, up to the longest document.
pub(super) fn capture(extensions: &mut Extensions, body: Body) -> Body {
    let copied = CapturedDocument::default();
    extensions.insert(copied.clone());
    let frames = body.map_ok(move |bytes| {
        let mut kept = copied.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() + bytes.len() <= XML {
            kept.extend_from_slice(&bytes);
        }
        Frame::data(bytes)
    });
    Body::http_body_unsync(StreamBody::new(frames))
}

/// The tags that the document of a request names.
///
/// # Errors
/// It has some, and they cannot be read.
pub(super) fn tags(extensions: &Extensions) -> S3Result<Tags> {
    let Some(copied) = extensions.get::<CapturedDocument>() else {
        return Ok(Tags::default());
    };
    let kept = copied.0.lock().unwrap_or_else(PoisonError::into_inner);
    read(&String::from_utf8_lossy(&kept)).ok_or_else(|| {
        s3_error!(
            MalformedXML,
            "Tags of the CreateBucketConfiguration cannot be read; send them as <Tags><Tag><Key>K</Key><Value>V</Value></Tag></Tags>"
        )
    })
}

/// The tags of a document; none where it has such that cannot be read.
fn read(document: &str) -> Option<Tags> {
    let Some((_, rest)) = document.split_once("<Tags>") else {
        // Written otherwise they are not passed over.
        let others = document.replace("<Tags/>", "");
        return (!others.contains("Tags")).then(Tags::default);
    };
    let (set, _) = rest.split_once("</Tags>")?;
    let tagging = format!("<Tagging><TagSet>{set}</TagSet></Tagging>");
    let mut document = Deserializer::new(tagging.as_bytes());
    let read = dto::Tagging::deserialize(&mut document).ok()?;
    let tags = tag_set(read.tag_set);
    // What is there is not passed over.
    (set.trim().is_empty() || !tags.is_empty()).then_some(tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn create_bucket_tags_are_parsed_or_rejected() {
        let of = |inside: &str| {
            let text = format!(
                "<CreateBucketConfiguration xmlns=\"a\">{inside}</CreateBucketConfiguration>"
            );
            read(&text).map(|tags| {
                tags.iter()
                    .map(|(key, value)| format!("{key}={value}"))
                    .collect::<Vec<_>>()
            })
        };
        let none = Some(Vec::<String>::new());
        assert_eq!(of(""), none);
        assert_eq!(of("<LocationConstraint>x</LocationConstraint>"), none);
        assert_eq!(of("<Tags/>"), none);
        assert_eq!(
            of("<Tags><Tag><Key>a</Key><Value>1 &amp; 2</Value></Tag></Tags>"),
            Some(vec!["a=1 & 2".to_owned()])
        );
        for wrong in [
            "<Tags><Tag>",
            "<Tags ><Tag><Key>a</Key><Value>1</Value></Tag></Tags >",
            "<n:Tags></n:Tags>",
            "<Tags><Other/></Tags>",
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
