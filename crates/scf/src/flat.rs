//! Decoding of flattened parameters in a query or form: `A.0.B=c` for nested lists and objects, with all values as text.

use std::collections::BTreeMap;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use crate::{Code, Error};

/// Maximum nesting depth.
const DEPTH: usize = 16;
/// Maximum number of list items.
const ITEMS: usize = 1000;

/// A tree of text values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Flat {
    Text(String),
    Object(BTreeMap<String, Flat>),
}

/// Builds the tree. Lists remain objects with numeric keys until a list is deserialized.
pub(crate) fn unflatten<'a>(
    parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Flat, Error> {
    let mut root = BTreeMap::new();
    for (name, value) in parameters {
        let conflict = || {
            Error::new(
                Code::InvalidParameter,
                format!("{name} is given twice, or both as a value and as a structure"),
            )
        };
        if name.split('.').count() > DEPTH {
            let message = format!("{name} is nested too deeply; up to {DEPTH} levels are allowed");
            return Err(Error::new(Code::InvalidParameter, message));
        }
        let mut object = &mut root;
        let mut parts = name.split('.').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                if object
                    .insert(part.to_owned(), Flat::Text(value.to_owned()))
                    .is_some()
                {
                    return Err(conflict());
                }
                break;
            }
            match object
                .entry(part.to_owned())
                .or_insert_with(|| Flat::Object(BTreeMap::new()))
            {
                Flat::Object(inner) => object = inner,
                Flat::Text(_) => return Err(conflict()),
            }
        }
    }
    Ok(Flat::Object(root))
}

/// Decodes a query string or form: `+` is a space, `%xx` a byte.
pub(crate) fn parse_form(text: &str) -> Result<Vec<(String, String)>, Error> {
    let decode = |part: &str| {
        percent_decode(part).ok_or_else(|| {
            Error::new(
                Code::InvalidParameter,
                "a parameter is not percent-encoded UTF-8",
            )
        })
    };
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        })
        .collect()
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |b: u8| char::from(b).to_digit(16);
                (digit(rest.next()?)? * 16 + digit(rest.next()?)?) as u8
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

type DeError = serde_json::Error;

fn wrong(kind: &str, text: &str) -> DeError {
    let shown: String = text.chars().take(40).collect();
    de::Error::custom(format!("invalid type: string {shown:?}, expected {kind}"))
}

impl Flat {
    /// Converts an object with numeric keys into a list, in the order of the keys. Gaps are skipped.
    fn items(self) -> Result<Vec<Flat>, DeError> {
        let Flat::Object(fields) = self else {
            return Err(de::Error::custom("expected a list, NAME.0, NAME.1, …"));
        };
        if fields.len() > ITEMS {
            return Err(de::Error::custom(format!(
                "more than {ITEMS} items in a list"
            )));
        }
        let mut items = Vec::with_capacity(fields.len());
        for (key, value) in fields {
            let index: u64 = key
                .parse()
                .map_err(|_| de::Error::custom("expected a list, NAME.0, NAME.1, …"))?;
            items.push((index, value));
        }
        items.sort_by_key(|(index, _)| *index);
        Ok(items.into_iter().map(|(_, value)| value).collect())
    }
}

/// Whether the names of an object are numbers as clients write indexes.
fn is_list(fields: &BTreeMap<String, Flat>) -> bool {
    let is_index = |name: &String| {
        name.parse()
            .is_ok_and(|index: u64| index.to_string() == *name)
    };
    !fields.is_empty() && fields.keys().all(is_index)
}

impl<'de> IntoDeserializer<'de, DeError> for Flat {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! number {
    ($($method:ident $visit:ident $kind:ty;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
            match &self {
                Flat::Text(text) => match text.parse::<$kind>() {
                    Ok(number) => visitor.$visit(number),
                    Err(_) => Err(wrong("a number", text)),
                },
                Flat::Object(_) => Err(de::Error::custom("expected a number")),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for Flat {
    type Error = DeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match self {
            Flat::Text(text) => visitor.visit_string(text),
            // A free-form document does not say where it has lists; no published field has a number for its name.
            Flat::Object(fields) if is_list(&fields) => {
                Flat::Object(fields).deserialize_seq(visitor)
            }
            Flat::Object(fields) => visitor.visit_map(MapDeserializer::new(fields.into_iter())),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match self {
            Flat::Text(text) => visitor.visit_string(text),
            Flat::Object(fields) => visitor.visit_map(MapDeserializer::new(fields.into_iter())),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match self {
            Flat::Text(text) if text.eq_ignore_ascii_case("true") => visitor.visit_bool(true),
            Flat::Text(text) if text.eq_ignore_ascii_case("false") => visitor.visit_bool(false),
            Flat::Text(text) => Err(wrong("true or false", &text)),
            Flat::Object(_) => Err(de::Error::custom("expected true or false")),
        }
    }

    number! {
        deserialize_i64 visit_i64 i64;
        deserialize_u64 visit_u64 u64;
        deserialize_u32 visit_u32 u32;
        deserialize_f64 visit_f64 f64;
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        visitor.visit_seq(SeqDeserializer::new(self.items()?.into_iter()))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DeError> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u128 f32 char str string bytes byte_buf unit unit_struct tuple tuple_struct
        enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "PascalCase")]
    struct Sample {
        name: String,
        size: Option<i64>,
        on: Option<bool>,
        items: Option<Vec<Item>>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "PascalCase")]
    struct Item {
        key: String,
    }

    fn decode(form: &str) -> Result<Sample, String> {
        let pairs = parse_form(form).map_err(|e| e.to_string())?;
        let flat = unflatten(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())))
            .map_err(|e| e.to_string())?;
        Sample::deserialize(flat).map_err(|e| e.to_string())
    }

    #[test]
    fn text_values_are_converted_to_the_field_type() {
        let sample =
            decode("Name=7&Size=128&On=TRUE&Items.10.Key=c&Items.2.Key=b%20b&Items.0.Key=a+a");
        let item = |key: &str| Item { key: key.into() };
        let expected = Sample {
            name: "7".into(),
            size: Some(128),
            on: Some(true),
            items: Some(vec![item("a a"), item("b b"), item("c")]),
        };
        assert_eq!(sample, Ok(expected));
    }

    #[test]
    fn a_free_form_document_has_lists_and_a_struct_has_none() {
        let pairs = [
            ("A.List.1.X", "b"),
            ("A.List.0.X", "a"),
            ("A.Names.01", "c"),
            ("A.Names.1", "d"),
        ];
        let flat = unflatten(pairs).expect("a tree");
        let document = serde_json::Value::deserialize(flat).expect("a document");
        let expected = serde_json::json!({"A": {"List": [{"X": "a"}, {"X": "b"}], "Names": {"01": "c", "1": "d"}}});
        assert_eq!(document, expected);
        // A struct is not filled by position.
        let flat = unflatten([("0", "name"), ("1", "7")]).expect("a tree");
        assert!(Sample::deserialize(flat).is_err());
    }

    #[test]
    fn huge_index_allocates_nothing_and_malformed_forms_are_rejected() {
        assert_eq!(
            decode("Name=a&Items.999999999.Key=x").map(|s| s.items.map(|i| i.len())),
            Ok(Some(1))
        );
        for bad in [
            "Name=a&Size=x",
            "Name=a&Name=b",
            "Name=a&Name.B=b",
            "Name=%zz",
            "Name=a&Items.x.Key=1",
            "Name=a&On=1",
        ] {
            assert!(decode(bad).is_err(), "{bad}");
        }
        let deep = format!("Name=a&{}=x", vec!["A"; 100].join("."));
        assert!(decode(&deep).is_err());
    }

    #[test]
    fn form_round_trips_and_mutated_form_is_decoded_or_rejected() {
        let mut seeded = seeded::Random::new(1);
        let mut random = |below: usize| seeded.index(below);
        let letters: Vec<char> = "aB9.-_~ +%&=;/é\u{1f327}\0\n".chars().collect();
        let encoded = |text: &str| {
            let byte = |byte: u8| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' => char::from(byte).to_string(),
                b' ' => "+".to_owned(),
                byte => format!("%{byte:02X}"),
            };
            text.bytes().map(byte).collect::<String>()
        };
        for _ in 0..5000 {
            let mut text = |most: usize| -> String {
                (0..random(most))
                    .map(|_| letters[random(letters.len())])
                    .collect()
            };
            // The name must not be empty.
            let pairs: Vec<(String, String)> = (0..4).map(|_| (text(6) + "n", text(12))).collect();
            let form: Vec<String> = pairs
                .iter()
                .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
                .collect();
            let form = form.join("&");
            assert_eq!(parse_form(&form).expect("a form"), pairs);
            // A truncated and mutated form is decoded or rejected, and its decoded form is not larger.
            let mut bytes = form.into_bytes();
            let at = random(bytes.len());
            bytes[at] = b"%&=.+0\xffz"[random(8)];
            bytes.truncate(random(bytes.len() + 1));
            let changed = String::from_utf8_lossy(&bytes);
            if let Ok(pairs) = parse_form(&changed) {
                let length: usize = pairs
                    .iter()
                    .map(|(name, value)| name.len() + value.len())
                    .sum();
                assert!(length <= changed.len(), "{changed}");
                let pairs = pairs
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_str()));
                let _ = unflatten(pairs);
            }
        }
    }
}
