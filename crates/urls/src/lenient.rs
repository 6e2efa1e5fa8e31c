//! JSON as serialisers and programs write it, which strict parsers refuse.
//!
//! Python writes `NaN` and `Infinity`. Python and Node.js write lone surrogates, e.g. for text that was cut within a
//! character. Java and others write UTF-16 code units one by one in UTF-8 (CESU-8), Windows tools a byte order mark, and
//! shells raw line breaks.

use std::borrow::Cow;

/// The byte order mark in UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Removes a byte order mark and white space before a document.
pub(super) fn trimmed(document: &[u8]) -> &[u8] {
    let document = document.strip_prefix(MARK).unwrap_or(document);
    document.trim_ascii_start()
}

/// Returns the document for a strict parser, in UTF-8: such numbers become `null`, lone surrogates and bytes that are no
/// text U+FFFD, surrogate pairs their character, and control characters in texts escape sequences.
pub(super) fn strict(document: &[u8]) -> Vec<u8> {
    let document = &*utf8(trimmed(document));
    let mut out = Vec::with_capacity(document.len());
    let mut at = 0;
    let mut in_text = false;
    while let Some(&byte) = document.get(at) {
        let rest = &document[at..];
        let taken = match (in_text, byte) {
            (true, b'\\') => escape(rest, &mut out),
            (true, ..0x20) => {
                out.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
                1
            }
            (false, b'N' | b'I' | b'-') => number(rest, &mut out),
            _ => {
                in_text ^= byte == b'"';
                out.push(byte);
                1
            }
        };
        at += taken;
    }
    out
}

/// Returns a text in UTF-8.
fn utf8(text: &[u8]) -> Cow<'_, [u8]> {
    if std::str::from_utf8(text).is_ok() {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut plain = 0;
    let mut at = 0;
    // A surrogate's first byte begins no character of UTF-8, so nothing else is cut here.
    while let Some(first) = text.get(at..).map(surrogate) {
        let Some(first) = first else {
            at += 1;
            continue;
        };
        out.extend_from_slice(String::from_utf8_lossy(&text[plain..at]).as_bytes());
        let units = [Some(first), text.get(at + 3..).and_then(surrogate)];
        let pair = char::decode_utf16(units.into_iter().flatten()).next();
        let (character, length) = match pair {
            Some(Ok(character)) => (character, 6),
            _ => (char::REPLACEMENT_CHARACTER, 3),
        };
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        at += length;
        plain = at;
    }
    out.extend_from_slice(String::from_utf8_lossy(&text[plain..]).as_bytes());
    Cow::Owned(out)
}

/// Returns the surrogate that a text begins with, written as if it were a character.
fn surrogate(text: &[u8]) -> Option<u16> {
    match text {
        [0xed, second @ 0xa0..=0xbf, third @ 0x80..=0xbf, ..] => {
            Some(0xd000 | u16::from(second & 0x3f) << 6 | u16::from(third & 0x3f))
        }
        _ => None,
    }
}

/// Copies an escape sequence and returns its length.
fn escape(text: &[u8], out: &mut Vec<u8>) -> usize {
    const LONE: &[u8] = br"\ufffd";
    const UNIT: usize = 6;
    let Some(first) = unit(text) else {
        let length = text.len().min(2);
        out.extend_from_slice(&text[..length]);
        return length;
    };
    let second = text.get(UNIT..).and_then(unit);
    match (first, second) {
        (0xd800..=0xdbff, Some(0xdc00..=0xdfff)) => {
            out.extend_from_slice(&text[..2 * UNIT]);
            2 * UNIT
        }
        (0xd800..=0xdfff, _) => {
            out.extend_from_slice(LONE);
            UNIT
        }
        _ => {
            out.extend_from_slice(&text[..UNIT]);
            UNIT
        }
    }
}

/// Returns the code unit of an escape sequence `\uXXXX` at the beginning of a text.
fn unit(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(br"\u")?.get(..4)?;
    let digits = std::str::from_utf8(digits).ok()?;
    let plain = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    plain.then(|| u16::from_str_radix(digits, 16).ok())?
}

/// Copies the start of a number, or replaces one that JSON does not have. Returns the length of the input.
fn number(text: &[u8], out: &mut Vec<u8>) -> usize {
    for name in ["NaN", "Infinity", "-Infinity"] {
        if text.starts_with(name.as_bytes()) {
            out.extend_from_slice(b"null");
            return name.len();
        }
    }
    out.push(text[0]);
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_json_tokens_are_replaced() {
        for (given, wanted) in [
            (
                r#"{"a":NaN,"b":[Infinity,-Infinity,-1]}"#,
                r#"{"a":null,"b":[null,null,-1]}"#,
            ),
            (r#""NaN \" Infinity""#, r#""NaN \" Infinity""#),
            (r#""rain \ud83c""#, r#""rain \ufffd""#),
            (
                r#""\udf27 \ud83c\ud83c\udf27""#,
                r#""\ufffd \ufffd\ud83c\udf27""#,
            ),
            (r#""\\ud83c \u00e9\n""#, r#""\\ud83c \u00e9\n""#),
            (r#""\ud83c\"""#, r#""\ufffd\"""#),
            (r#""\u12"#, r#""\u12"#),
            ("\"\\", "\"\\"),
            ("", ""),
        ] {
            let strict = strict(given.as_bytes());
            assert_eq!(String::from_utf8_lossy(&strict), wanted, "{given}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_become_text() {
        let rows: &[(&[u8], &str)] = &[
            (b"\xef\xbb\xbf{}", "{}"),
            (b"\xef\xbb\xbf \n{}", "{}"),
            (b"\"\xed\xa0\xbc\xed\xbc\xa7\"", "\"\u{1f327}\""),
            (b"\"a\xed\xa0\xbc\"", "\"a\u{fffd}\""),
            (b"\"\xed\xbc\xa7b\"", "\"\u{fffd}b\""),
            (
                b"\"\xed\xa0\xbc\xed\xa0\xbc\xed\xbc\xa7\"",
                "\"\u{fffd}\u{1f327}\"",
            ),
            (b"\"\xed\x95\x9c\xff\"", "\"\u{d55c}\u{fffd}\""),
            (b"\"\xed\xa0\"", "\"\u{fffd}\u{fffd}\""),
            (b"{\"a\":\n\"b\nc\td\"}", "{\"a\":\n\"b\\u000ac\\u0009d\"}"),
        ];
        for (given, wanted) in rows {
            let strict = strict(given);
            assert_eq!(String::from_utf8_lossy(&strict), *wanted, "{given:x?}");
        }
    }

    #[test]
    fn truncated_json_never_panics() {
        let document = [
            &br#"{"a":"\ud83c\udf27 \\ \" \u00e9","b":[-Infinity,NaN,-1.5e3],"c":null,"d":""#[..],
            b"\xed\xa0\xbc\xed\xbc\xa7\xff\n\"}",
        ]
        .concat();
        for from in 0..document.len() {
            for to in from..document.len() {
                let twice = strict(&strict(&document[from..to]));
                assert_eq!(twice, strict(&document[from..to]));
            }
        }
    }
}
