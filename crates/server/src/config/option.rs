//! The declaration of an option: its field, name, placeholder, default, help and parser are one entry of [`options`].
//!
//! Layering libraries (figment, config) end at the first wrong value and know no help, so they would not replace this.

/// Declares a group of options, each by one entry:
///
/// ```text
/// /// The help, which is also the line on the reference page.
/// name: Type = "PLACEHOLDER", "default", earlier "earlier_name" => parser;
/// ```
///
/// The group is a struct with a field of each option's name. The parser turns text into the field's type or names the
/// allowed values (`config::parse`); it must accept the default.
macro_rules! options {
    (
        $(#[doc = $about:literal])+
        $group:ident {
            $(
                $(#[doc = $help:literal])+
                $name:ident: $type:ty = $value:literal, $default:literal $(, earlier $earlier:literal)? => $parse:expr;
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug)]
        pub(crate) struct $group {
            $( $(#[doc = $help])+ pub(crate) $name: $type, )+
        }

        impl $group {
            /// The options of the group, in the order of the help.
            pub(in crate::config) const OPTIONS: &'static [$crate::config::opt::Opt] = &[$(
                $crate::config::opt::Opt::new(
                    stringify!($name),
                    options!(@earlier $($earlier)?),
                    $value,
                    $default,
                    concat!($($help),+),
                ),
            )+];

            /// Reads the group. Refused values are reported, and their defaults stand in for them.
            pub(in crate::config) fn read(raw: &mut $crate::config::raw::RawConfig) -> Self {
                Self { $( $name: raw.read(stringify!($name), $parse), )+ }
            }
        }
    };
    (@earlier) => { None };
    (@earlier $earlier:literal) => { Some($earlier) };
}

pub(super) use options;
