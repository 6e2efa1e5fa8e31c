//! JSON as the serialisers of Python and Node.js write it, which strict parsers refuse.
//!
//! Python writes `NaN` and `Infinity`. Both write lone surrogates, e.g. for text that was cut within a character.

/// Returns the document for a strict parser: such numbers become `null`, lone surrogates U+FFFD.
pub(super) fn strict(document: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(document.len());
    let mut at = 0;
    let mut in_text = false;
    while let Some(&byte) = document.get(at) {
        let rest = &document[at..];
        let taken = match (in_text, byte) {
            (true, b'\\') => escape(rest, &mut out),
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
    fn truncated_json_never_panics() {
        let document = br#"{"a":"\ud83c\udf27 \\ \" \u00e9","b":[-Infinity,NaN,-1.5e3],"c":null}"#;
        for from in 0..document.len() {
            for to in from..document.len() {
                let twice = strict(&strict(&document[from..to]));
                assert_eq!(twice, strict(&document[from..to]));
            }
        }
    }
}
