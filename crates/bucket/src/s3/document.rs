//! The document of a create-bucket request. `s3s` does not parse its tags, so they are parsed here.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;
use futures_util::TryStreamExt;
use http::Extensions;
use http_body_util::StreamBody;
use hyper::body::Frame;
use s3s::xml::{Deserialize, Deserializer};
use s3s::{Body, S3Result, dto, s3_error};

use super::convert::tag_set;
use super::handler::XML;
use crate::store::Tags;

/// A copy of the document for a second parse.
#[derive(Clone, Default)]
struct CapturedDocument(Arc<Mutex<BytesMut>>);

/// Copies a body up to the maximum document size.
pub(super) fn capture(extensions: &mut Extensions, body: Body) -> Body {
    let copied = CapturedDocument::default();
    extensions.insert(copied.clone());
    let frames = body.map_ok(move |bytes| {
        let mut captured = copied.0.lock().unwrap_or_else(PoisonError::into_inner);
        if captured.len() + bytes.len() <= XML {
            captured.extend_from_slice(&bytes);
        }
        Frame::data(bytes)
    });
    Body::http_body_unsync(StreamBody::new(frames))
}

/// Parses the tags in the document.
///
/// # Errors
/// There are tags that cannot be parsed.
pub(super) fn tags(extensions: &Extensions) -> S3Result<Tags> {
    let Some(copied) = extensions.get::<CapturedDocument>() else {
        return Ok(Tags::default());
    };
    let captured = copied.0.lock().unwrap_or_else(PoisonError::into_inner);
    read(&String::from_utf8_lossy(&captured)).ok_or_else(|| {
        s3_error!(
            MalformedXML,
            "Tags of the CreateBucketConfiguration cannot be read; send them as <Tags><Tag><Key>K</Key><Value>V</Value></Tag></Tags>"
        )
    })
}

/// Parses the tags. `None` if there are tags that cannot be parsed.
fn read(document: &str) -> Option<Tags> {
    let Some((_, rest)) = document.split_once("<Tags>") else {
        // Tags in another spelling are rejected rather than ignored.
        let others = document.replace("<Tags/>", "");
        return (!others.contains("Tags")).then(Tags::default);
    };
    let (set, _) = rest.split_once("</Tags>")?;
    let tagging = format!("<Tagging><TagSet>{set}</TagSet></Tagging>");
    let mut document = Deserializer::new(tagging.as_bytes());
    let read = dto::Tagging::deserialize(&mut document).ok()?;
    let tags = tag_set(read.tag_set);
    // Unparsed content is rejected rather than ignored.
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

    fn is_read<T: for<'x> Deserialize<'x>>(input: &[u8]) -> bool {
        T::deserialize(&mut Deserializer::new(input)).is_ok()
    }

    #[test]
    fn fuzzed_documents_are_read_or_refused() {
        fuzzer::run("xml", 10_000, |input| {
            let text = String::from_utf8_lossy(input);
            let tags = read(&text).map(|tags| tags.len());
            let answer = crate::cos::response::document(&text);
            assert!(answer.len() <= text.len() + 100, "{text}");
            let kinds = [
                is_read::<dto::AccessControlPolicy>(input),
                is_read::<dto::CORSConfiguration>(input),
                is_read::<dto::CompletedMultipartUpload>(input),
                is_read::<dto::CreateBucketConfiguration>(input),
                is_read::<dto::Delete>(input),
                is_read::<dto::RestoreRequest>(input),
                is_read::<dto::Tagging>(input),
                is_read::<dto::VersioningConfiguration>(input),
            ];
            (kinds, tags)
        });
    }
}
