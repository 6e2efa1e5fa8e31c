//! Names of headers as CGI servers read them.

/// Returns whether two header names are equal as CGI variables, which ignore case and map punctuation to one character:
/// `X_Scf_Name` is `X-Scf-Name`.
pub(super) fn is_read_as(name: &str, other: &str) -> bool {
    name.bytes().map(plain).eq(other.bytes().map(plain))
}

/// Returns the character that a byte of a header name is the same as under CGI.
pub(super) fn plain(byte: u8) -> u8 {
    match byte.is_ascii_alphanumeric() {
        true => byte.to_ascii_lowercase(),
        false => b'-',
    }
}
