//! Base64 as clients and functions write it: with line breaks, and without padding.

use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{DecodeError, Engine};

/// Some encoders leave the padding away.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Decodes a text. White space in it, as encoders break long lines with, counts for nothing.
///
/// # Errors
/// When the text is not base64.
pub(crate) fn decode(text: String) -> Result<Vec<u8>, DecodeError> {
    BASE64.decode(&text).or_else(|_| {
        let mut bytes = text.into_bytes();
        bytes.retain(|byte| !byte.is_ascii_whitespace());
        BASE64.decode(bytes)
    })
}
