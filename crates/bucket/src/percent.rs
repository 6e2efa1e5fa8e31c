//! Percent-encoding as COS has it: everything but RFC 3986's unreserved characters is escaped.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Encodes bytes.
pub(crate) fn encode(bytes: &[u8]) -> String {
    percent_encode(bytes, ESCAPED).to_string()
}

/// Decodes text. Replaces bytes that are not UTF-8.
pub(crate) fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreserved_characters_alone_stay_as_they_are() {
        assert_eq!(encode("aZ9-._~".as_bytes()), "aZ9-._~");
        assert_eq!(encode("/ +*é\u{0}".as_bytes()), "%2F%20%2B%2A%C3%A9%00");
        assert_eq!(decode("%2F%20+%C3%A9%zz%FF"), "/ +é%zz\u{fffd}");
    }
}
