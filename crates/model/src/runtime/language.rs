//! The languages of functions.

use super::description::Description;
use super::{custom, node, python};

/// Declares the languages: one line each, with the description of the language's file.
macro_rules! languages {
    ($($(#[$doc:meta])* $name:ident = $description:path,)+) => {
        /// A language of functions.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Language {
            $($(#[$doc])* $name,)+
        }

        impl Language {
            /// All languages.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Returns its description.
            pub fn description(self) -> &'static Description {
                match self {
                    $(Self::$name => &$description,)+
                }
            }
        }
    };
}

languages! {
    /// Python.
    Python = python::PYTHON,
    /// Node.js.
    Node = node::NODE,
    /// Any: an executable supplied by the user.
    Custom = custom::CUSTOM,
}

impl Language {
    /// Returns the names of the languages whose dependencies can be installed.
    pub fn with_packages() -> Vec<&'static str> {
        let all = Self::ALL.iter().map(|language| language.description());
        all.filter(|description| description.packages.is_some())
            .map(|description| description.name)
            .collect()
    }
}
