//! Runtimes: a language of functions, and its version.
//!
//! Each language has a file with its [`Description`], and a line in the list of [`Language`]. All other code looks up there how
//! languages differ.

mod custom;
mod description;
mod language;
mod node;
mod python;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::description::{Description, PackageManager, SourceFile};
pub use self::language::Language;
use crate::{Field, Invalid};

/// A runtime: a language and its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Runtime {
    language: Language,
    major: u8,
    minor: u8,
}

impl Runtime {
    /// Returns a version of a language.
    pub const fn new(language: Language, major: u8, minor: u8) -> Self {
        Self {
            language,
            major,
            minor,
        }
    }

    /// Parses a runtime name such as `Python3.11`. Any minor version of Python 3 and any version of Node.js is well-formed; the
    /// worker knows which ones are installed.
    ///
    /// # Errors
    /// [`Invalid`] for [`Field::Runtime`].
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let of = |language: Language| {
            let description = language.description();
            let rest = text.strip_prefix(description.prefix)?;
            match description.has_version {
                Some(_) => Self::of_version(language, rest),
                None => rest.is_empty().then(|| Self::new(language, 0, 0)),
            }
        };
        let mut all = Language::ALL.iter();
        all.find_map(|language| of(*language)).ok_or_else(|| {
            let all = Language::ALL.iter();
            let examples: Vec<_> = all.map(|one| one.description().example).collect();
            let allowed = match examples.split_last() {
                Some((last, others)) => format!("{}, and {last}", others.join(", ")),
                None => String::new(),
            };
            Invalid::new(Field::Runtime, text, allowed)
        })
    }

    /// Returns the runtime of a version of a language, such as `3.11`, if there is such a version.
    pub fn of_version(language: Language, version: &str) -> Option<Self> {
        let has_version = language.description().has_version?;
        let (major, minor) = numbers(version)?;
        has_version(major, minor).then(|| Self::new(language, major, minor))
    }

    /// Returns its language.
    pub fn language(self) -> Language {
        self.language
    }

    /// Returns its version: major, minor.
    pub fn version(self) -> (u8, u8) {
        (self.major, self.minor)
    }

    /// Returns the properties of its language.
    pub fn description(self) -> &'static Description {
        self.language.description()
    }

    /// Returns the highest version of its language that there can be.
    pub fn last(self) -> Self {
        Self::new(self.language, u8::MAX, u8::MAX)
    }

    /// Returns whether one can replace the other without a difference for users.
    pub fn is_compatible(self, other: Self) -> bool {
        let minors = self.description().minors_compatible || self.minor == other.minor;
        self.language == other.language && self.major == other.major && minors
    }

    /// Returns the name of the file with a handler, given without its extension.
    pub fn source_file(self, file: &str) -> String {
        match self.description().source {
            SourceFile::Program(file) => file.to_owned(),
            SourceFile::Extension(extension) => format!("{file}.{extension}"),
        }
    }

    /// Returns the paths under which SCF documents its interpreter; the last one is that of the version.
    pub fn paths(self) -> Vec<String> {
        (self.description().paths)(self.major, self.minor)
    }
}

/// Parses `major.minor`, without leading zeros.
fn numbers(version: &str) -> Option<(u8, u8)> {
    let (major, minor) = version.split_once('.')?;
    let number = |text: &str| {
        let number: u8 = text.parse().ok()?;
        (number.to_string() == text).then_some(number)
    };
    Some((number(major)?, number(minor)?))
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let description = self.description();
        f.write_str(description.prefix)?;
        match description.has_version {
            Some(_) => write!(f, "{}.{}", self.major, self.minor),
            None => Ok(()),
        }
    }
}

impl TryFrom<String> for Runtime {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(&text)
    }
}

impl From<Runtime> for String {
    fn from(runtime: Runtime) -> String {
        runtime.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes_round_trip() {
        for text in [
            "Python2.7",
            "Python3.6",
            "Python3.11",
            "Nodejs18.15",
            "CustomRuntime",
        ] {
            assert_eq!(
                Runtime::parse(text).map(|r| r.to_string()),
                Ok(text.to_owned())
            );
        }
        for bad in [
            "Python",
            "Python3",
            "python3.9",
            "Python3.09",
            "Python2.6",
            "Nodejs18",
            "Nodejs18.015",
            "Custom",
            "Python3.999",
        ] {
            assert!(Runtime::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn source_file_follows_from_the_language() {
        let rows = [
            ("Python3.9", "a/b", "a/b.py"),
            ("Nodejs18.15", "index", "index.js"),
            ("CustomRuntime", "index", "bootstrap"),
        ];
        for (runtime, handler, file) in rows {
            let runtime = Runtime::parse(runtime).expect("a runtime");
            assert_eq!(runtime.source_file(handler), file);
        }
    }
}
