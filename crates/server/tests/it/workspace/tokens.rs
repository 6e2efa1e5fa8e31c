//! The words of a Rust source file: identifiers, strings, `::` and single signs, without comments.

/// Splits a source text. Lifetimes and numbers are words, too; nothing here needs to know them.
pub(super) fn tokens(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = string(rest) {
            tokens.push(&rest[..length]);
            length
        } else if is_word(bytes[at]) {
            let length = rest.bytes().take_while(|&b| is_word(b)).count();
            tokens.push(&rest[..length]);
            length
        } else if rest.starts_with("::") {
            tokens.push("::");
            2
        } else {
            let sign = rest.chars().next().map_or(1, char::len_utf8);
            if !bytes[at].is_ascii_whitespace() {
                tokens.push(&rest[..sign]);
            }
            sign
        };
        at += length;
    }
    tokens
}

/// The index behind the bracket that closes the one at `open`.
pub(super) fn behind_block(tokens: &[&str], open: usize) -> usize {
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match *token {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return index + 1;
        }
    }
    tokens.len()
}

/// Whether a token is an identifier or a keyword.
pub(super) fn is_name(token: &str) -> bool {
    token
        .bytes()
        .next()
        .is_some_and(|b| is_word(b) && !b.is_ascii_digit())
        && !token.contains('"')
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
        } else {
            at += 1;
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Length of the string or character at the start of the text, with its prefix.
fn string(text: &str) -> Option<usize> {
    let unprefixed = text.trim_start_matches(['b', 'c']);
    let prefix = text.len() - unprefixed.len();
    if prefix > 1 {
        return None;
    }
    if let Some(raw) = unprefixed.strip_prefix('r') {
        let hashes = raw.bytes().take_while(|&b| b == b'#').count();
        let content = raw[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = content.find(&end)? + end.len();
        return Some(prefix + 1 + hashes + 1 + length);
    }
    let quote = unprefixed.bytes().next()?;
    if quote == b'\'' && !is_character(unprefixed) || !matches!(quote, b'"' | b'\'') {
        return None;
    }
    let mut escaped = false;
    for (index, byte) in unprefixed.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            _ if byte == quote => return Some(prefix + index + 1),
            _ => {}
        }
    }
    None
}

/// Whether a quote begins a character rather than a lifetime.
fn is_character(text: &str) -> bool {
    let mut signs = text.chars().skip(1);
    let (first, second) = (signs.next(), signs.next());
    first == Some('\\') || second == Some('\'')
}
