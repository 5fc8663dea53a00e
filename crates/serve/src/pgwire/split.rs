//! Several statements in one text, cut at the semicolons that are not in a string, a quoted name or a comment.
//!
//! The pieces keep their text, so that the command door sees what the client wrote.

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};
use std::ops::Range;

/// The statements of a text, without empty ones. A text that has no clear tokens is one statement.
pub(super) fn statements(text: &str) -> Vec<&str> {
    let Some(tokens) = tokens(text) else { return vec![text] };
    let mut pieces = Vec::new();
    // Where the statement's own words begin: comments before it are none of it.
    let mut start = None;
    for (token, place) in &tokens {
        match token {
            Token::SemiColon => {
                if let Some(start) = start.take() {
                    pieces.push(text.get(start..place.start).unwrap_or_default().trim());
                }
            }
            Token::Whitespace(_) | Token::EOF => {}
            _ => start = start.or(Some(place.start)),
        }
    }
    if let Some(start) = start {
        pieces.push(text.get(start..).unwrap_or_default().trim());
    }
    pieces
}

/// The places of `$1`, `$2`, … and their numbers.
pub(super) fn placeholders(text: &str) -> Vec<(Range<usize>, usize)> {
    let tokens = tokens(text).unwrap_or_default();
    let number = |(token, place)| match token {
        Token::Placeholder(name) => name.strip_prefix('$')?.parse().ok().map(|number| (place, number)),
        _ => None,
    };
    tokens.into_iter().filter_map(number).collect()
}

/// The tokens with their byte ranges.
fn tokens(text: &str) -> Option<Vec<(Token, Range<usize>)>> {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, text).tokenize_with_location().ok()?;
    let mut offsets = Offsets::new(text);
    tokens
        .into_iter()
        .map(|TokenWithSpan { token, span }| Some((token, offsets.at(span.start)?..offsets.at(span.end)?)))
        .collect()
}

/// Turns places, counted in lines and characters and given in their order, into byte offsets.
struct Offsets<'a> {
    rest: std::str::CharIndices<'a>,
    length: usize,
    line: u64,
    column: u64,
    offset: usize,
}

impl<'a> Offsets<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text.char_indices(), length: text.len(), line: 1, column: 1, offset: 0 }
    }

    fn at(&mut self, place: Location) -> Option<usize> {
        while (self.line, self.column) < (place.line, place.column) {
            let (_, char) = self.rest.next()?;
            if char == '\n' {
                self.line += 1;
                self.column = 1;
            } else {
                self.column += 1;
            }
            self.offset = self.rest.clone().next().map_or(self.length, |(offset, _)| offset);
        }
        ((self.line, self.column) == (place.line, place.column)).then_some(self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_semicolons_between_statements_cut() {
        let check = |text: &str, expected: &[&str]| assert_eq!(statements(text), expected, "{text}");
        check("select 1", &["select 1"]);
        check("select ';' ; select \"a;b\";", &["select ';'", "select \"a;b\""]);
        check(";; -- nothing;\n ; ", &[]);
        check("select 'ä''ö;' -- ;\n, 2; /* ; */ select\n$x$;$x$", &["select 'ä''ö;' -- ;\n, 2", "select\n$x$;$x$"]);
        check(
            "insert into t values (1);\ninsert into t values (2)",
            &["insert into t values (1)", "insert into t values (2)"],
        );
        check("select 'open; select 2", &["select 'open; select 2"]);
    }

    #[test]
    fn placeholders_in_strings_are_text() {
        let text = "insert into ö values ($1, '$2', $10)";
        let found: Vec<(&str, usize)> = placeholders(text).into_iter().map(|(at, n)| (&text[at], n)).collect();
        assert_eq!(found, [("$1", 1), ("$10", 10)]);
    }
}
