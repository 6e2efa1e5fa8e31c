//! Base64 as clients and functions write it: with white space, without padding, and with spare bits that are not zero.
//!
//! All common decoders agree on the standard alphabet, and Go's and Python's ignore line breaks and spare bits. White
//! space is what C's `isspace` says, so it includes the vertical tab. Anything else is not base64.

use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{DecodeError, Engine};

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);
const VERTICAL_TAB: u8 = 0x0b;

/// Decodes base64.
///
/// # Errors
/// Returns an error if the text is not base64.
pub fn decode(text: String) -> Result<Vec<u8>, DecodeError> {
    BASE64.decode(&text).or_else(|_| {
        let mut bytes = text.into_bytes();
        bytes.retain(|byte| !(byte.is_ascii_whitespace() || *byte == VERTICAL_TAB));
        BASE64.decode(bytes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_padding_and_spare_bits_are_ignored_and_nothing_else() {
        for text in [
            "aGk=", "aGk", "aG k=", "aG\tk=", "aG\nk=\n", "aG\r\nk=", "aG\x0bk=", "aG\x0ck=",
            "\x0baGk=", "aGl=", "aGl",
        ] {
            assert_eq!(
                decode(text.to_owned()).as_deref(),
                Ok(&b"hi"[..]),
                "{text:?}"
            );
        }
        for text in [
            "?",
            "aGk=x",
            "aGk==",
            "a",
            "aG-_",
            "aG\0k=",
            "aG\u{a0}k=",
            "\u{feff}aGk=",
        ] {
            assert!(decode(text.to_owned()).is_err(), "{text:?}");
        }
    }
}
