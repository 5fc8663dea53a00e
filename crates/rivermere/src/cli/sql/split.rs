//! Where one statement ends and the next begins.
//!
//! A semicolon in a string, a quoted name, a dollar quote or a comment ends nothing. The grammar of these tokens is
//! PostgreSQL's (chapter "Lexical Structure"): doubled quotes, nested `/* */`, `$tag$ … $tag$`.

/// A statement of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Without the semicolon.
    pub text: &'a str,
    /// Line of its first word in the script, from 1.
    pub line: usize,
    /// Whether a semicolon ended it.
    pub ended: bool,
}

/// The statements of a text; comments alone are none.
pub fn statements(text: &str) -> Vec<Piece<'_>> {
    let bytes = text.as_bytes();
    let mut pieces = Vec::new();
    let mut start = None;
    let mut at = 0;
    while let Some(byte) = bytes.get(at).copied() {
        let end = token_end(bytes, at);
        let token = bytes.get(at..end).unwrap_or_default();
        let is_comment = token.starts_with(b"--") || token.starts_with(b"/*");
        if byte == b';' {
            if let Some(start) = start.take() {
                pieces.extend(piece(text, start, at, true));
            }
        } else if !byte.is_ascii_whitespace() && !is_comment {
            start = start.or(Some(at));
        }
        at = end;
    }
    if let Some(start) = start {
        pieces.extend(piece(text, start, text.len(), false));
    }
    pieces
}

/// Whether a prompt has nothing to wait for: every statement is ended, and no string or comment is open.
pub fn is_complete(text: &str) -> bool {
    let trimmed = text.trim();
    trimmed.is_empty() || trimmed.starts_with('\\') || statements(text).last().is_none_or(|piece| piece.ended)
}

fn piece(text: &str, start: usize, end: usize, ended: bool) -> Option<Piece<'_>> {
    let line = text.get(..start)?.bytes().filter(|byte| *byte == b'\n').count() + 1;
    Some(Piece { text: text.get(start..end)?.trim_end(), line, ended })
}

/// The end of the token at `at`, which is at least one byte long. Only what can hide a semicolon is told apart; of
/// anything else it is one byte.
fn token_end(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    let length = match rest {
        [quote @ (b'\'' | b'"'), ..] => quoted_length(rest, *quote),
        [b'-', b'-', ..] => rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => comment_length(rest),
        // `a$b` is a name, not the start of a dollar quote.
        [b'$', ..] if !at.checked_sub(1).and_then(|before| bytes.get(before)).is_some_and(|byte| is_name(*byte)) => {
            dollar_length(rest)
        }
        _ => 1,
    };
    at + length.max(1)
}

fn quoted_length(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while let Some(byte) = rest.get(at) {
        at += 1;
        if *byte == quote {
            if rest.get(at) != Some(&quote) {
                return at;
            }
            at += 1;
        }
    }
    rest.len()
}

fn comment_length(rest: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        match rest.get(at..).unwrap_or_default() {
            [b'/', b'*', ..] => {
                depth += 1;
                at += 2;
            }
            [b'*', b'/', ..] => {
                depth = depth.saturating_sub(1);
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    rest.len()
}

fn dollar_length(rest: &[u8]) -> usize {
    let tag = rest.iter().skip(1).take_while(|byte| is_name(**byte)).count();
    let starts_with_digit = rest.get(1).is_some_and(u8::is_ascii_digit);
    if rest.get(tag + 1) != Some(&b'$') || (tag > 0 && starts_with_digit) {
        // A parameter such as $1.
        return 1;
    }
    let mark = rest.get(..tag + 2).unwrap_or_default();
    let body = rest.get(mark.len()..).unwrap_or_default();
    let end = body.windows(mark.len()).position(|window| window == mark);
    end.map_or(rest.len(), |end| end + 2 * mark.len())
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, usize)]) {
        let found: Vec<_> = statements(text).into_iter().map(|piece| (piece.text, piece.line)).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn semicolons_end_statements_and_nothing_else_does() {
        check("", &[]);
        check(" ;; ; -- only this\n /* ; */", &[]);
        check("SELECT 1", &[("SELECT 1", 1)]);
        check("SELECT 1;\n\nSELECT 2 ;", &[("SELECT 1", 1), ("SELECT 2", 3)]);
        check("SELECT ';', 'it''s;', \"a;\"\"b\" ; x", &[("SELECT ';', 'it''s;', \"a;\"\"b\"", 1), ("x", 1)]);
        check("SELECT 1 -- a; b\n+ 1; y", &[("SELECT 1 -- a; b\n+ 1", 1), ("y", 2)]);
        check("-- about\nSELECT /* a; /* b; */ c; */ 1;", &[("SELECT /* a; /* b; */ c; */ 1", 2)]);
        check("SELECT $$a;b$$, $t$;$$;$t$, $1; z", &[("SELECT $$a;b$$, $t$;$$;$t$, $1", 1), ("z", 1)]);
        check("SELECT 'ä;é'; ü", &[("SELECT 'ä;é'", 1), ("ü", 1)]);
        check("SELECT 'open; -- \n ;", &[("SELECT 'open; -- \n ;", 1)]);
        check("SELECT a$b$c; d", &[("SELECT a$b$c", 1), ("d", 1)]);
    }

    #[test]
    fn a_prompt_waits_for_the_semicolon() {
        for whole in ["", "  ", "SELECT 1;", "\\d", "SELECT 1; -- done", "SELECT ';';"] {
            assert!(is_complete(whole), "{whole}");
        }
        for open in ["SELECT 1", "SELECT ';", "SELECT 1; SELECT", "SELECT 1 /* ;"] {
            assert!(!is_complete(open), "{open}");
        }
    }
}
