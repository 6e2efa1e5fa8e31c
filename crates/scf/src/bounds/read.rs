//! Deserialization within bounds: a deserializer that wraps another one and measures the values.
//!
//! A value that exceeds its bound is discarded: a text becomes empty, a list is truncated. The request is rejected after it
//! was read to its end.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

use serde::de;
use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};

use super::Bounds;
use super::place::{FieldPosition, OTHER, Path, Reading, Sum};
use crate::Error;

/// Deserializes a value within bounds.
///
/// # Errors
/// The error of the first value that exceeds its bound, or else the error of the wrapped deserializer.
pub(crate) fn read<'de, T: de::Deserialize<'de>, D: Deserializer<'de>>(
    inner: D,
    bounds: &Bounds,
) -> Result<T, Failed<D::Error>> {
    let reading = Reading {
        bounds,
        refusal: RefCell::new(None),
    };
    let place = FieldPosition {
        reading: &reading,
        path: Path::Root,
        sum: None,
    };
    let read = T::deserialize(Bounded { inner, place });
    match reading.refusal.into_inner() {
        Some(refusal) => Err(Failed::Bound(refusal)),
        None => read.map_err(Failed::Read),
    }
}

/// The reason why deserialization failed.
#[derive(Debug)]
pub(crate) enum Failed<E> {
    /// A value exceeds its bound.
    Bound(Error),
    /// The wrapped deserializer failed.
    Read(E),
}

struct Bounded<'p, D> {
    inner: D,
    place: FieldPosition<'p>,
}

macro_rules! forward {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$method(Watched { visitor, place: self.place })
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Bounded<'_, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        if let Some(sum) = self.place.sum {
            sum.is_document.set(true);
        }
        let place = self.place;
        self.inner.deserialize_any(Watched { visitor, place })
    }

    forward! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32
        deserialize_f64 deserialize_char deserialize_str deserialize_string deserialize_bytes
        deserialize_byte_buf deserialize_option deserialize_unit deserialize_seq deserialize_identifier
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        if let Some(sum) = self.place.sum {
            sum.is_document.set(true);
        }
        let place = self.place;
        self.inner.deserialize_map(Watched { visitor, place })
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let place = self.place;
        self.inner
            .deserialize_unit_struct(name, Watched { visitor, place })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let place = self.place;
        self.inner
            .deserialize_newtype_struct(name, Watched { visitor, place })
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let place = self.place;
        self.inner
            .deserialize_tuple(length, Watched { visitor, place })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let place = self.place;
        self.inner
            .deserialize_tuple_struct(name, length, Watched { visitor, place })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let place = self.place;
        self.inner
            .deserialize_struct(name, fields, Watched { visitor, place })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let place = self.place;
        self.inner
            .deserialize_enum(name, variants, Watched { visitor, place })
    }

    /// Discarded values need no bound.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_ignored_any(visitor)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// A visitor that measures each value before it passes it on.
struct Watched<'p, V> {
    visitor: V,
    place: FieldPosition<'p>,
}

macro_rules! other {
    ($($method:ident($kind:ty);)*) => {
        $(fn $method<E: de::Error>(self, value: $kind) -> Result<V::Value, E> {
            self.place.other();
            self.visitor.$method(value)
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Watched<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    other! {
        visit_bool(bool);
        visit_i64(i64);
        visit_i128(i128);
        visit_u64(u64);
        visit_u128(u128);
        visit_f64(f64);
        visit_char(char);
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<V::Value, E> {
        let kept = self.place.keeps(text);
        self.visitor.visit_str(if kept { text } else { "" })
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<V::Value, E> {
        let kept = self.place.keeps(text);
        self.visitor
            .visit_borrowed_str(if kept { text } else { "" })
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<V::Value, E> {
        let kept = self.place.keeps(&text);
        self.visitor
            .visit_string(if kept { text } else { String::new() })
    }

    fn visit_none<E: de::Error>(self) -> Result<V::Value, E> {
        self.place.other();
        self.visitor.visit_none()
    }

    fn visit_unit<E: de::Error>(self) -> Result<V::Value, E> {
        self.place.other();
        self.visitor.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let place = self.place;
        self.visitor.visit_some(Bounded { inner, place })
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let place = self.place;
        self.visitor.visit_newtype_struct(Bounded { inner, place })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.place.enter();
        self.visitor.visit_seq(Items {
            inner,
            place: self.place,
            count: 0,
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.place.enter();
        self.visitor.visit_map(Names {
            inner,
            place: self.place,
            name: Cow::Borrowed(""),
            count: 0,
        })
    }

    /// Not supported: no request contains an enum.
    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_enum(data)
    }
}

struct Seeded<'p, S> {
    seed: S,
    place: FieldPosition<'p>,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Seeded<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        let place = self.place;
        self.seed.deserialize(Bounded { inner, place })
    }
}

/// The items of a list.
struct Items<'p, A> {
    inner: A,
    place: FieldPosition<'p>,
    count: u64,
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Items<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        if let (true, Some(sum)) = (self.place.is_over(), self.place.sum) {
            let level = self.place.path.depth() + 1;
            while self
                .inner
                .next_element_seed(Weigh { sum, level })?
                .is_some()
            {}
            return Ok(None);
        }
        if let Some(bound) = self.place.exceeds(self.count + 1) {
            while self.inner.next_element::<IgnoredAny>()?.is_some() {
                self.count += 1;
            }
            if self.count > bound.most {
                self.place.refuse(&bound, self.count);
            }
            return Ok(None);
        }
        let path = Path::Item(&self.place.path, self.count as usize);
        let place = FieldPosition { path, ..self.place };
        self.count += 1;
        self.inner.next_element_seed(Seeded { seed, place })
    }

    fn size_hint(&self) -> Option<usize> {
        None
    }
}

/// The fields of an object.
struct Names<'p, 'de, A> {
    inner: A,
    place: FieldPosition<'p>,
    name: Cow<'de, str>,
    count: u64,
}

impl<'de, A: MapAccess<'de>> Names<'_, 'de, A> {
    /// Whether the next name is kept. Only a free-form document can have more names than a type has fields.
    fn goes_on(&mut self) -> Result<bool, A::Error> {
        if let (true, Some(sum)) = (self.place.is_over(), self.place.sum) {
            let level = self.place.path.depth() + 1;
            while let Some(name) = self.inner.next_key_seed(Name)? {
                sum.add(name.len() as u64);
                self.inner.next_value_seed(Weigh { sum, level })?;
            }
            return Ok(false);
        }
        if !self.place.is_document() {
            return Ok(true);
        }
        let Some(bound) = self.place.exceeds(self.count + 1) else {
            return Ok(true);
        };
        while self.inner.next_key::<IgnoredAny>()?.is_some() {
            self.inner.next_value::<IgnoredAny>()?;
            self.count += 1;
        }
        if self.count > bound.most {
            self.place.refuse(&bound, self.count);
        }
        Ok(false)
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Names<'_, 'de, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        if !self.goes_on()? {
            return Ok(None);
        }
        let Some(name) = self.inner.next_key_seed(Name)? else {
            return Ok(None);
        };
        self.count += 1;
        // A type has only a few names, so they need no bound.
        let kept = !self.place.is_document() || self.place.keeps(&name);
        self.name = if kept { name } else { Cow::Borrowed("") };
        let name: &str = &self.name;
        let name: StrDeserializer<'_, A::Error> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let path = Path::Field(&self.place.path, &self.name);
        let place = FieldPosition { path, ..self.place };
        if !matches!(self.place.path, Path::Root) {
            return self.inner.next_value_seed(Seeded { seed, place });
        }
        let sum = Sum::new();
        let place = FieldPosition {
            sum: Some(&sum),
            ..place
        };
        let value = self.inner.next_value_seed(Seeded { seed, place });
        place.leave(&sum);
        value
    }

    fn size_hint(&self) -> Option<usize> {
        None
    }
}

/// Deserializes a name.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<Cow<'de, str>, D::Error> {
        inner.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E: de::Error>(self, name: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(name.to_owned()))
    }

    fn visit_string<E: de::Error>(self, name: String) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(name))
    }
}

/// Measures a value and discards it.
#[derive(Clone, Copy)]
struct Weigh<'p> {
    sum: &'p Sum,
    level: u64,
}

impl Weigh<'_> {
    fn inner(self) -> Self {
        self.sum.add(OTHER);
        self.sum.deepen(self.level);
        Self {
            level: self.level + 1,
            ..self
        }
    }
}

impl<'de> DeserializeSeed<'de> for Weigh<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<(), D::Error> {
        inner.deserialize_any(self)
    }
}

macro_rules! weigh {
    ($($method:ident($kind:ty);)*) => {
        $(fn $method<E: de::Error>(self, _: $kind) -> Result<(), E> {
            self.sum.add(OTHER);
            Ok(())
        })*
    };
}

impl<'de> Visitor<'de> for Weigh<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    weigh! {
        visit_bool(bool);
        visit_i64(i64);
        visit_u64(u64);
        visit_f64(f64);
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.sum.add(OTHER);
        Ok(())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        self.sum.add(text.len() as u64);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let inner = self.inner();
        while list.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        let inner = self.inner();
        while let Some(name) = object.next_key_seed(Name)? {
            self.sum.add(name.len() as u64);
            object.next_value_seed(inner)?;
        }
        Ok(())
    }
}
