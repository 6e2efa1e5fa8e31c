//! Bounds of what requests hold: every text, list and document of every request has one.
//!
//! A [`Bounds`] has a default for each kind of value and exceptions for single fields. It is enforced while a request is
//! read, so that a list that is too long is never built. What is given is counted to its end, for the message.
//!
//! Three things have a bound:
//! * a text, in bytes or characters;
//! * a list, or the names in a free-form document, in items;
//! * a field of the request with all that is in it, in bytes of names and texts and 8 for any other value.

mod read;

use std::collections::HashMap;
use std::fmt;

pub(crate) use read::{Failed, read};

use crate::{Code, Error};

/// What a bound counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes of UTF-8.
    Bytes,
    /// Characters of a text.
    Characters,
    /// Items of a list, or names in a document.
    Items,
    /// Levels of lists and objects in each other.
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

/// The most that a value may have, and the code of its refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The most that is allowed.
    pub most: u64,
    /// What is counted.
    pub unit: Unit,
    /// The code of the refusal.
    pub code: Code,
}

/// The bounds of fields that have none of their own.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    /// A text, bytes.
    pub text: u64,
    /// A list, items.
    pub items: u64,
    /// A field of the request with all that is in it, bytes.
    pub field: u64,
    /// The same where the field is a free-form document.
    pub document: u64,
    /// Levels of lists and objects in each other.
    pub levels: u64,
    /// The code of a refusal, by the name of the field that is nearest to the value.
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

/// The bounds of all fields. Fields are named by their path, without indexes: `Environment.Variables.Value`.
#[derive(Clone, Debug)]
pub struct Bounds {
    defaults: Defaults,
    texts: HashMap<&'static str, Bound>,
    items: HashMap<&'static str, Bound>,
    wholes: HashMap<&'static str, Bound>,
    /// The smallest bounds of all: what is within them needs no look-up.
    text_floor: u64,
    items_floor: u64,
}

impl Bounds {
    /// Bounds without exceptions.
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

    /// Bounds a text, in bytes.
    #[must_use]
    pub fn text(self, path: &'static str, most: u64, code: Code) -> Self {
        self.with_text(path, most, Unit::Bytes, code)
    }

    /// Bounds a text, in characters.
    #[must_use]
    pub fn characters(self, path: &'static str, most: u64, code: Code) -> Self {
        self.with_text(path, most, Unit::Characters, code)
    }

    fn with_text(mut self, path: &'static str, most: u64, unit: Unit, code: Code) -> Self {
        self.text_floor = self.text_floor.min(most);
        self.texts.insert(path, Bound { most, unit, code });
        self
    }

    /// Bounds a list, in items.
    #[must_use]
    pub fn list(mut self, path: &'static str, most: u64, code: Code) -> Self {
        let unit = Unit::Items;
        self.items_floor = self.items_floor.min(most);
        self.items.insert(path, Bound { most, unit, code });
        self
    }

    /// Bounds a field of the request with all that is in it, in bytes.
    #[must_use]
    pub fn whole(mut self, field: &'static str, most: u64, code: Code) -> Self {
        let unit = Unit::Bytes;
        self.wholes.insert(field, Bound { most, unit, code });
        self
    }

    /// The bound of a text.
    pub fn of_text(&self, path: &str) -> Bound {
        self.own(&self.texts, path, self.defaults.text, Unit::Bytes)
    }

    /// The bound of a list.
    pub fn of_list(&self, path: &str) -> Bound {
        self.own(&self.items, path, self.defaults.items, Unit::Items)
    }

    /// The bound of a field of the request with all that is in it.
    pub fn of_whole(&self, field: &str, is_document: bool) -> Bound {
        let defaults = &self.defaults;
        let most = if is_document {
            defaults.document
        } else {
            defaults.field
        };
        self.own(&self.wholes, field, most, Unit::Bytes)
    }

    /// The bound of levels.
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
    /// How much a text has of what is counted.
    pub fn measure(&self, text: &str) -> u64 {
        match self.unit {
            Unit::Characters => text.chars().count() as u64,
            _ => text.len() as u64,
        }
    }

    /// The refusal of a value.
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
    fn what_is_within_its_bounds_is_read() {
        let most = json!({
            "Name": "n".repeat(1024),
            "Package": "p".repeat(5000),
            "Tags": [{"Value": "äöüß"}, {"Value": ""}, {"Value": "a"}],
            "Document": {"a": [1, null, true, 1.5], "b": "b".repeat(1024)},
            "Number": 7,
            // Nobody keeps what no type has.
            "Unknown": vec!["u".repeat(2000); 200],
        });
        let read = read(&most).expect("read");
        assert_eq!((read.name.len(), read.package.len()), (1024, 5000));
        assert_eq!(read.tags[0].value, "äöüß");
        assert_eq!(read.document, most["Document"]);
    }

    #[test]
    fn what_is_beyond_is_refused_with_its_field_what_was_given_and_what_is_allowed() {
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
                // A list of ten texts: eight bytes for the list, and what the texts have.
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
    fn the_first_fault_is_told() {
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
