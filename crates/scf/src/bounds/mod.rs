//! Size limits of request values: every text, list and document of every request has one.
//!
//! A [`Bounds`] has a default for each kind of value and exceptions for single fields. It is enforced during
//! deserialization, so that an oversized list is never allocated. The rest of an oversized value is still counted, so that
//! the error message states its size.
//!
//! Three things are bounded:
//! * a text, in bytes or characters;
//! * a list, or the names in a free-form document, in items;
//! * a top-level field with all its content: the bytes of names and texts, and 8 bytes per other value.

mod place;
mod read;

use std::collections::HashMap;
use std::fmt;

pub(crate) use read::{Failed, read};

use crate::{Code, Error};

/// The unit of a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes of UTF-8.
    Bytes,
    /// Characters of a text.
    Characters,
    /// Items of a list, or names in a free-form document.
    Items,
    /// Nesting depth of lists and objects.
    Levels,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "bytes",
            Self::Characters => "characters",
            Self::Items => "items",
            Self::Levels => "levels of nesting",
        })
    }
}

/// The limit of a value, and the error code if it is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Maximum.
    pub most: u64,
    /// Unit of the maximum.
    pub unit: Unit,
    /// Error code.
    pub code: Code,
}

/// The default bounds of fields without an exception.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    /// Text (bytes).
    pub text: u64,
    /// List (items).
    pub items: u64,
    /// Top-level field with all its content (bytes).
    pub field: u64,
    /// Top-level field that is a free-form document (bytes).
    pub document: u64,
    /// Nesting depth of lists and objects.
    pub levels: u64,
    /// Maps the name of the innermost field to the error code.
    pub code: fn(&str) -> Code,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            text: 1024,
            items: 100,
            field: 16 << 10,
            document: 4 << 10,
            levels: 10,
            code: |_| Code::InvalidParameterValue,
        }
    }
}

/// The bounds of all fields. Fields are named by path without list indexes: `Environment.Variables.Value`.
#[derive(Clone, Debug)]
pub struct Bounds {
    defaults: Defaults,
    texts: HashMap<&'static str, Bound>,
    items: HashMap<&'static str, Bound>,
    wholes: HashMap<&'static str, Bound>,
    /// Minimum over all bounds. A value within it needs no lookup.
    text_floor: u64,
    items_floor: u64,
}

impl Bounds {
    /// Creates bounds without exceptions.
    pub fn new(defaults: Defaults) -> Self {
        Self {
            defaults,
            texts: HashMap::new(),
            items: HashMap::new(),
            wholes: HashMap::new(),
            text_floor: defaults.text,
            items_floor: defaults.items,
        }
    }

    /// Sets the bound of a text in bytes.
    #[must_use]
    pub fn text(self, path: &'static str, most: u64, code: Code) -> Self {
        self.with_text(path, most, Unit::Bytes, code)
    }

    /// Sets the bound of a text in characters.
    #[must_use]
    pub fn characters(self, path: &'static str, most: u64, code: Code) -> Self {
        self.with_text(path, most, Unit::Characters, code)
    }

    fn with_text(mut self, path: &'static str, most: u64, unit: Unit, code: Code) -> Self {
        self.text_floor = self.text_floor.min(most);
        self.texts.insert(path, Bound { most, unit, code });
        self
    }

    /// Sets the bound of a list in items.
    #[must_use]
    pub fn list(mut self, path: &'static str, most: u64, code: Code) -> Self {
        let unit = Unit::Items;
        self.items_floor = self.items_floor.min(most);
        self.items.insert(path, Bound { most, unit, code });
        self
    }

    /// Sets the bound of a top-level field with all its content, in bytes.
    #[must_use]
    pub fn whole(mut self, field: &'static str, most: u64, code: Code) -> Self {
        let unit = Unit::Bytes;
        self.wholes.insert(field, Bound { most, unit, code });
        self
    }

    /// Returns the bound of a text.
    pub fn of_text(&self, path: &str) -> Bound {
        self.own(&self.texts, path, self.defaults.text, Unit::Bytes)
    }

    /// Returns the bound of a list.
    pub fn of_list(&self, path: &str) -> Bound {
        self.own(&self.items, path, self.defaults.items, Unit::Items)
    }

    /// Returns the bound of a top-level field with all its content.
    pub fn of_whole(&self, field: &str, is_document: bool) -> Bound {
        let defaults = &self.defaults;
        let most = if is_document {
            defaults.document
        } else {
            defaults.field
        };
        self.own(&self.wholes, field, most, Unit::Bytes)
    }

    /// Returns the bound of the nesting depth.
    pub fn of_levels(&self, path: &str) -> Bound {
        Bound {
            most: self.defaults.levels,
            unit: Unit::Levels,
            code: self.code(path),
        }
    }

    fn own(
        &self,
        exceptions: &HashMap<&'static str, Bound>,
        path: &str,
        most: u64,
        unit: Unit,
    ) -> Bound {
        exceptions.get(path).copied().unwrap_or_else(|| Bound {
            most,
            unit,
            code: self.code(path),
        })
    }

    fn code(&self, path: &str) -> Code {
        let leaf = path.rsplit('.').next().unwrap_or(path);
        (self.defaults.code)(leaf)
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self::new(Defaults::default())
    }
}

impl Bound {
    /// Measures a text in the unit of the bound.
    pub fn measure(&self, text: &str) -> u64 {
        match self.unit {
            Unit::Characters => text.chars().count() as u64,
            _ => text.len() as u64,
        }
    }

    /// Creates the error of a value that exceeds the bound.
    fn refuse(&self, field: &dyn fmt::Display, given: u64) -> Error {
        let Self { most, unit, code } = self;
        Error::new(
            *code,
            format!("{field}: {given} {unit} are not allowed; up to {most} are"),
        )
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::{Value, json};

    use super::*;
    use crate::decode_json;

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Request {
        name: String,
        package: String,
        tags: Vec<Tag>,
        document: Value,
        #[allow(dead_code, reason = "numbers count, too")]
        number: Option<i64>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Tag {
        value: String,
    }

    fn bounds() -> Bounds {
        Bounds::default()
            .text("Package", 5000, Code::InvalidZipFile)
            .characters("Tags.Value", 4, Code::InvalidDescription)
            .list("Tags", 3, Code::LimitExceededLayers)
    }

    fn read(request: &Value) -> Result<Request, Error> {
        decode_json(request.to_string().as_bytes(), &bounds())
    }

    fn refusal(request: &Value) -> String {
        read(request).expect_err("beyond its bound").to_string()
    }

    #[test]
    fn request_within_bounds_is_decoded() {
        let most = json!({
            "Name": "n".repeat(1024),
            "Package": "p".repeat(5000),
            "Tags": [{"Value": "äöüß"}, {"Value": ""}, {"Value": "a"}],
            "Document": {"a": [1, null, true, 1.5], "b": "b".repeat(1024)},
            "Number": 7,
            // Unknown fields are discarded, so they need no bound.
            "Unknown": vec!["u".repeat(2000); 200],
        });
        let read = read(&most).expect("read");
        assert_eq!((read.name.len(), read.package.len()), (1024, 5000));
        assert_eq!(read.tags[0].value, "äöüß");
        assert_eq!(read.document, most["Document"]);
    }

    #[test]
    fn exceeded_bound_is_reported_with_field_size_and_limit() {
        let deep = (0..30).fold(json!(1), |inner, _| json!([inner]));
        let tags = |values: &[&str]| -> Vec<Value> {
            values.iter().map(|value| json!({"Value": value})).collect()
        };
        let names: serde_json::Map<_, _> = (0..150).map(|n| (n.to_string(), json!(0))).collect();
        for (request, expected) in [
            (
                json!({"Name": "n".repeat(1025)}),
                "InvalidParameterValue: Name: 1025 bytes are not allowed; up to 1024 are",
            ),
            (
                json!({"Package": "p".repeat(5001)}),
                "InvalidParameterValue.ZipFile: Package: 5001 bytes are not allowed; up to 5000 are",
            ),
            (
                json!({"Tags": tags(&["a", "äöüßä"])}),
                "InvalidParameterValue.Description: Tags[1].Value: 5 characters are not allowed; up to 4 are",
            ),
            (
                json!({"Tags": tags(&["a"; 7])}),
                "LimitExceeded.Layers: Tags: 7 items are not allowed; up to 3 are",
            ),
            (
                json!({"Document": {"a": {"b": "b".repeat(2000)}}}),
                "InvalidParameterValue: Document.a.b: 2000 bytes are not allowed; up to 1024 are",
            ),
            (
                json!({"Document": {"a": vec![0; 101]}}),
                "InvalidParameterValue: Document.a: 101 items are not allowed; up to 100 are",
            ),
            (
                json!({"Document": names}),
                "InvalidParameterValue: Document: 150 items are not allowed; up to 100 are",
            ),
            (
                json!({"Document": deep}),
                "InvalidParameterValue: Document: 30 levels of nesting are not allowed; up to 10 are",
            ),
            (
                // A list of ten texts: eight bytes for the list, plus the bytes of the texts.
                json!({"Document": vec!["d".repeat(500); 10]}),
                "InvalidParameterValue: Document: 5008 bytes are not allowed; up to 4096 are",
            ),
            (
                json!({"Document": {"d".repeat(2000): 1}}),
                "InvalidParameterValue: Document: 2000 bytes are not allowed; up to 1024 are",
            ),
        ] {
            assert_eq!(refusal(&request), expected);
        }
    }

    #[test]
    fn first_exceeded_bound_is_reported() {
        let long = "n".repeat(2000);
        let told = |request: String| {
            let read = decode_json::<Request>(request.as_bytes(), &bounds());
            read.expect_err("refused").to_string()
        };
        assert_eq!(
            told(format!(r#"{{"Tags": [{{"Other": 1}}], "Name": "{long}"}}"#)),
            "MissingParameter: Value is missing in Tags[0]"
        );
        let refused = told(format!(r#"{{"Name": "{long}", "Tags": [{{"Other": 1}}]}}"#));
        assert!(refused.contains("Name: 2000 bytes"), "{refused}");
    }
}
