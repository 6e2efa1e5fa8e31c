//! Parsers of options' values. Each returns the value, or the wrong part and the allowed values.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// A part of a value that is not allowed.
#[derive(Debug)]
pub(super) struct Refused {
    /// The wrong part, as it was given.
    pub(super) given: String,
    /// The end of the sentence "… is not allowed; …".
    pub(super) allowed: String,
}

/// A value, or everything that is wrong with it.
pub(super) type Parsed<T> = Result<T, Vec<Refused>>;

/// Refuses a value.
pub(super) fn refused<T>(given: impl Display, allowed: impl Into<String>) -> Parsed<T> {
    Err(vec![Refused {
        given: given.to_string(),
        allowed: allowed.into(),
    }])
}

/// Parses text that must not be empty.
pub(super) fn text(text: &str) -> Parsed<String> {
    match text {
        "" => refused("", "it must not be empty"),
        text => Ok(text.to_owned()),
    }
}

/// Parses by the type's own `FromStr`.
pub(super) fn parsed<T: FromStr>(allowed: &'static str) -> impl Fn(&str) -> Parsed<T> {
    move |text| text.parse().or_else(|_| refused(text, allowed))
}

/// Parses a number in a range.
pub(super) fn number<T: TryFrom<u64>>(range: RangeInclusive<u64>) -> impl Fn(&str) -> Parsed<T> {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        let number = number.and_then(|number| T::try_from(number).ok());
        let allowed = || format!("a number from {} to {}", range.start(), range.end());
        number.map_or_else(|| refused(text, allowed()), Ok)
    }
}

/// Parses a time in seconds, up to a year.
pub(super) fn seconds(text: &str) -> Parsed<Duration> {
    number(1..=31_536_000)(text).map(Duration::from_secs)
}

/// Parses a time in milliseconds, up to a day.
pub(super) fn milliseconds(from: u64) -> impl Fn(&str) -> Parsed<Duration> {
    move |text| number(from..=86_400_000)(text).map(Duration::from_millis)
}

/// Parses a time in days, up to a hundred years.
pub(super) fn days(text: &str) -> Parsed<Duration> {
    number(1..=36_500)(text).map(|days: u64| Duration::from_secs(86_400 * days))
}

/// Parses one of a few words.
pub(super) fn one_of<T: Copy, const N: usize>(
    words: [(&'static str, T); N],
) -> impl Fn(&str) -> Parsed<T> {
    move |text| match words.iter().find(|(word, _)| *word == text) {
        Some((_, meaning)) => Ok(*meaning),
        None => refused(text, words.map(|(word, _)| word).join(", ")),
    }
}

/// Parses `on` or `off`.
pub(super) fn switch(text: &str) -> Parsed<bool> {
    one_of([("on", true), ("off", false)])(text)
}

/// Parses a value that may be empty.
pub(super) fn optional<T>(parse: impl Fn(&str) -> Parsed<T>) -> impl Fn(&str) -> Parsed<Option<T>> {
    move |text| match text {
        "" => Ok(None),
        text => parse(text).map(Some),
    }
}

/// Parses a value whose default depends on the host.
pub(super) fn or_host<T>(
    host: impl Fn() -> T,
    parse: impl Fn(&str) -> Parsed<T>,
) -> impl Fn(&str) -> Parsed<T> {
    move |text| match text {
        "" => Ok(host()),
        text => parse(text),
    }
}

/// Parses a comma-separated list. Every wrong item is reported.
pub(super) fn list<T: FromStr>(allowed: &'static str) -> impl Fn(&str) -> Parsed<Vec<T>> {
    items(move |item| item.parse().or_else(|_| refused(item, allowed)))
}

/// Parses each item of a comma-separated list. Every wrong item is reported.
pub(super) fn items<T>(parse: impl Fn(&str) -> Parsed<T>) -> impl Fn(&str) -> Parsed<Vec<T>> {
    move |text| {
        let (mut parsed, mut wrong) = (Vec::new(), Vec::new());
        for item in words(text) {
            match parse(item) {
                Ok(item) => parsed.push(item),
                Err(refused) => wrong.extend(refused),
            }
        }
        if wrong.is_empty() {
            Ok(parsed)
        } else {
            Err(wrong)
        }
    }
}

/// Parses a list of existing paths.
pub(super) fn paths(text: &str) -> Parsed<Vec<PathBuf>> {
    items(|item| {
        let path = PathBuf::from(item);
        if path.exists() {
            Ok(path)
        } else {
            refused(item, "paths that exist, separated by commas")
        }
    })(text)
}

/// Parses a base URL and strips its trailing `/`.
pub(super) fn base_url(text: &str) -> Parsed<String> {
    if text.starts_with("http://") || text.starts_with("https://") {
        Ok(text.trim_end_matches('/').to_owned())
    } else {
        refused(text, "a URL that starts with http:// or https://")
    }
}

/// Parses a host name into lower case.
pub(super) fn host_name(allowed: &'static str) -> impl Fn(&str) -> Parsed<String> {
    move |name| {
        let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        let mut labels = name.split('.');
        if labels.all(|label| !label.is_empty() && label.bytes().all(fine)) {
            Ok(name.to_ascii_lowercase())
        } else {
            refused(name, allowed)
        }
    }
}

/// Splits a comma-separated list.
pub(super) fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed<T>(parsed: Parsed<T>) -> Vec<(String, String)> {
        let wrong = parsed.err().unwrap_or_default();
        wrong.into_iter().map(|w| (w.given, w.allowed)).collect()
    }

    #[test]
    fn number_is_in_its_range_and_its_type() {
        assert_eq!(number::<u32>(1..=10)("10").expect("allowed"), 10);
        for bad in ["0", "11", "-1", "", "ten"] {
            let row = (bad.to_owned(), "a number from 1 to 10".to_owned());
            assert_eq!(allowed(number::<u32>(1..=10)(bad)), [row], "{bad}");
        }
        assert!(number::<u8>(0..=1000)("256").is_err());
    }

    #[test]
    fn list_reports_every_wrong_item() {
        let parse = list::<u8>("small numbers");
        assert_eq!(parse(" 1, 2,,3 ").expect("allowed"), [1, 2, 3]);
        let wrong = allowed(parse("1,a,300"));
        let given: Vec<_> = wrong.iter().map(|(given, _)| given.as_str()).collect();
        assert_eq!(given, ["a", "300"]);
    }

    #[test]
    fn one_of_names_all_words() {
        assert!(switch("on").expect("allowed"));
        assert_eq!(allowed(switch("yes")), [("yes".into(), "on, off".into())]);
    }
}
