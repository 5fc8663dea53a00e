//! Escapes of JSON strings, both ways (RFC 8259 section 7).

use super::misfit::Misfit;

/// The text that an escaped string means. Its escapes have passed the scan.
pub(super) fn unescape(raw: &str) -> Result<String, Misfit> {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((plain, after)) = rest.split_once('\\') {
        text.push_str(plain);
        let mut chars = after.chars();
        match chars.next() {
            Some('b') => text.push('\u{8}'),
            Some('f') => text.push('\u{c}'),
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('t') => text.push('\t'),
            Some('u') => text.push(unicode(&mut chars)?),
            Some(same) => text.push(same),
            None => return Err(Misfit::Reason("an escape has no end")),
        }
        rest = chars.as_str();
    }
    text.push_str(rest);
    Ok(text)
}

/// The character of `\uXXXX`, or of a surrogate pair, behind the `u`.
fn unicode(chars: &mut std::str::Chars<'_>) -> Result<char, Misfit> {
    const LONE: Misfit = Misfit::Reason("half of a surrogate pair in a string");
    let high = hexadecimal(chars).ok_or(LONE)?;
    if !(0xd800..0xdc00).contains(&high) {
        return char::from_u32(high).ok_or(LONE);
    }
    if !(chars.next() == Some('\\') && chars.next() == Some('u')) {
        return Err(LONE);
    }
    match hexadecimal(chars) {
        Some(low @ 0xdc00..0xe000) => char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)).ok_or(LONE),
        _ => Err(LONE),
    }
}

fn hexadecimal(chars: &mut std::str::Chars<'_>) -> Option<u32> {
    (0..4).try_fold(0, |value, _| Some(value * 16 + chars.next()?.to_digit(16)?))
}

/// Appends a string with its quotes.
pub(super) fn write(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut plain_from = 0;
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x8 => b'b',
            0xc => b'f',
            0..=0x1f => b'u',
            _ => continue,
        };
        out.extend_from_slice(bytes.get(plain_from..at).unwrap_or_default());
        out.extend_from_slice(&[b'\\', short]);
        if short == b'u' {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            out.extend_from_slice(&[b'0', b'0', b'0' + (byte >> 4), DIGITS[usize::from(byte & 15)]]);
        }
        plain_from = at + 1;
    }
    out.extend_from_slice(bytes.get(plain_from..).unwrap_or_default());
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_mean_their_characters() {
        assert_eq!(
            unescape(r#"a\"\\\/\b\f\n\r\té\u00e9\ud83d\ude00z"#).unwrap(),
            "a\"\\/\u{8}\u{c}\n\r\tééé😀z".replacen('é', "", 1)
        );
    }

    #[test]
    fn half_a_pair_is_no_text() {
        for raw in [r"\ud83d", r"\ud83dx", r"\ud83d\n", r"\ud83d\u0041", r"\ude00"] {
            assert!(unescape(raw).is_err(), "{raw}");
        }
    }

    #[test]
    fn writing_escapes_what_must_be() {
        let mut out = Vec::new();
        write("a\"\\\n\u{1}\u{1f}é😀", &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), r#""a\"\\\n\u0001\u001fé😀""#);
    }
}
