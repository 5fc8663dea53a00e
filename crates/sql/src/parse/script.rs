//! A text of several statements, each with its place.

use super::dialect::StreamDialect;
use super::statements::{self, Statement};
use super::versions;
use crate::error::{Location, Source, SqlError};
use datafusion::common::DataFusionError;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, TokenizerError};

/// The statements of one file or prompt line, in order.
#[derive(Clone, Debug)]
pub struct Script {
    statements: Vec<Parsed>,
}

/// One statement with its text and place.
#[derive(Clone, Debug)]
pub struct Parsed {
    pub statement: Statement,
    /// The statement's own text, without the semicolon.
    pub text: String,
    pub location: Option<Location>,
    pub(crate) source: Source,
}

/// Longest script that is read, in bytes.
const SCRIPT_LIMIT_BYTES: usize = 16 << 20;

impl Parsed {
    /// What DataFusion says of the statement, with its place in the text. `relations` are the names that it could have
    /// meant.
    pub fn explained<'a>(&self, error: &DataFusionError, relations: impl IntoIterator<Item = &'a str>) -> SqlError {
        let found = SqlError::from_datafusion(error, &self.source);
        let found = found.with_relation(|name| self.source.find_word(name, self.location.as_ref()), relations);
        let location = found.location.clone().or_else(|| self.location.clone());
        found.at(location)
    }
}

impl Script {
    /// `file` is only for error messages.
    ///
    /// # Errors
    /// The first syntax error, with its place.
    pub fn parse(file: &str, text: &str) -> Result<Self, SqlError> {
        let source = Source::new(file, text);
        if text.len() > SCRIPT_LIMIT_BYTES {
            let message = format!("{file} has {} bytes; at most {SCRIPT_LIMIT_BYTES} are read", text.len());
            return Err(SqlError::new(SqlError::SYNTAX, message));
        }
        let mut tokens = Tokenizer::new(&StreamDialect, text).tokenize_with_location().map_err(
            |TokenizerError { message, location }| {
                SqlError::new(SqlError::SYNTAX, message).at(source.location_at(location.line, location.column))
            },
        )?;
        versions::mark_names(&mut tokens);
        let mut statements = Vec::new();
        for tokens in tokens.split(|token| token.token == Token::SemiColon) {
            let Some((first, last)) = ends(tokens) else { continue };
            let from = source.byte_offset(first.span.start.line, first.span.start.column);
            let to = source.byte_offset(last.span.end.line, last.span.end.column);
            let text = source.slice(from, to).to_string();
            let statement = statements::parse(tokens.to_vec(), &source)?;
            let location = source.location(first.span);
            statements.push(Parsed { statement, text, location, source: source.clone() });
        }
        Ok(Self { statements })
    }

    pub fn statements(&self) -> &[Parsed] {
        &self.statements
    }

    pub fn into_statements(self) -> Vec<Parsed> {
        self.statements
    }
}

/// First and last token that is neither white space nor a comment.
fn ends(tokens: &[TokenWithSpan]) -> Option<(&TokenWithSpan, &TokenWithSpan)> {
    let written = |token: &&TokenWithSpan| !matches!(token.token, Token::Whitespace(_) | Token::EOF);
    Some((tokens.iter().find(written)?, tokens.iter().rfind(written)?))
}
