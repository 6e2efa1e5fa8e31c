//! Test support: finds every field of every request by deserializing a request in which all fields are present.
//!
//! A type reveals its structure when it is deserialized. [`Everything`] provides whatever a type requests: each field of an
//! object, one item of a list, a word for a text.

use scf::{Action, Bounds, Error};
use serde::Deserialize;
use serde::de::value::{BorrowedStrDeserializer, Error as Fault};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// The placeholder for an arbitrary document.
const ANYTHING: &str = "any document";

/// An action's request with all its fields.
pub(super) struct Probed {
    pub(super) action: &'static str,
    pub(super) sample: Value,
    /// Decodes a request and enforces the size limits.
    pub(super) read: fn(&Value, &Bounds) -> Result<(), Error>,
}

/// Returns the requests of all actions, including the operator's.
pub(super) fn requests() -> Vec<Probed> {
    macro_rules! probed {
        ($($action:ident,)*) => {
            vec![$(probe::<scf::action::$action>(),)*]
        };
    }
    let mut all = scf::each_action!(probed);
    all.extend(super::operator::probed());
    all
}

pub(super) fn probe<A: Action>() -> Probed {
    let request = A::Request::deserialize(Everything);
    let request = request.unwrap_or_else(|e| panic!("{}: {e}", A::NAME));
    Probed {
        action: A::NAME,
        sample: serde_json::to_value(request).expect("plain data"),
        read: |request, bounds| {
            let text = request.to_string();
            scf::decode_json::<A::Request>(text.as_bytes(), bounds).map(drop)
        },
    }
}

/// The kind of a request field of variable size.
pub(super) enum Kind {
    Text,
    /// A list, and an item of it.
    List(Value),
    Document,
}

/// Returns the paths of all fields of variable size in a sample.
pub(super) fn fields(sample: &Value) -> Vec<(String, Kind)> {
    let mut found = Vec::new();
    walk(sample, String::new(), &mut found);
    found
}

fn walk(value: &Value, at: String, found: &mut Vec<(String, Kind)>) {
    match value {
        Value::String(text) if text == ANYTHING => found.push((at, Kind::Document)),
        Value::String(_) => found.push((at, Kind::Text)),
        Value::Array(items) => {
            found.push((at.clone(), Kind::List(items[0].clone())));
            walk(&items[0], format!("{at}[0]"), found);
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                let dot = if at.is_empty() { "" } else { "." };
                walk(value, format!("{at}{dot}{name}"), found);
            }
        }
        _ => {}
    }
}

/// Removes the indexes from a path.
pub(super) fn name(at: &str) -> String {
    at.replace("[0]", "")
}

/// Returns the sample with another value at a path. Creates the documents on that path.
pub(super) fn with(sample: &Value, at: &str, value: Value) -> Value {
    let mut request = sample.clone();
    let mut place = &mut request;
    for part in at.split('.') {
        let (name, is_item) = match part.strip_suffix("[0]") {
            Some(name) => (name, true),
            None => (part, false),
        };
        if !place.is_object() {
            *place = Value::Object(serde_json::Map::new());
        }
        place = &mut place[name];
        if is_item {
            if !place.is_array() {
                *place = Value::Array(vec![Value::Null]);
            }
            place = &mut place[0];
        }
    }
    *place = value;
    request
}

/// A deserializer that provides every requested field.
#[derive(Clone, Copy)]
struct Everything;

macro_rules! answers {
    ($($method:ident => $visit:ident($($value:expr)?);)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            visitor.$visit($($value)?)
        })*
    };
}

impl<'de> Deserializer<'de> for Everything {
    type Error = Fault;

    answers! {
        deserialize_any => visit_str(ANYTHING);
        deserialize_bool => visit_bool(true);
        deserialize_i8 => visit_i64(1);
        deserialize_i16 => visit_i64(1);
        deserialize_i32 => visit_i64(1);
        deserialize_i64 => visit_i64(1);
        deserialize_u8 => visit_u64(1);
        deserialize_u16 => visit_u64(1);
        deserialize_u32 => visit_u64(1);
        deserialize_u64 => visit_u64(1);
        deserialize_f32 => visit_f64(0.5);
        deserialize_f64 => visit_f64(0.5);
        deserialize_str => visit_str("word");
        deserialize_string => visit_str("word");
        deserialize_unit => visit_unit();
        deserialize_seq => visit_seq(One(true));
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_map(Fields(fields))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    // No request uses these types yet.
    serde::forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit_struct tuple tuple_struct map enum identifier ignored_any
    }
}

struct One(bool);

impl<'de> SeqAccess<'de> for One {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        match std::mem::take(&mut self.0) {
            true => seed.deserialize(Everything).map(Some),
            false => Ok(None),
        }
    }
}

struct Fields(&'static [&'static str]);

impl<'de> MapAccess<'de> for Fields {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        let Some((name, rest)) = self.0.split_first() else {
            return Ok(None);
        };
        self.0 = rest;
        seed.deserialize(BorrowedStrDeserializer::new(name))
            .map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        seed.deserialize(Everything)
    }
}
