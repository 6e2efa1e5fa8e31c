//! Base64 as clients and functions write it: with line breaks and without padding.

use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{DecodeError, Engine};

/// Some encoders omit the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Decodes base64. Ignores white space, since some encoders break long lines.
///
/// # Errors
/// Returns an error if the text is not base64.
pub fn decode(text: String) -> Result<Vec<u8>, DecodeError> {
    BASE64.decode(&text).or_else(|_| {
        let mut bytes = text.into_bytes();
        bytes.retain(|byte| !byte.is_ascii_whitespace());
        BASE64.decode(bytes)
    })
}
