//! Errors with their place in the text and what to do next.

use datafusion::common::{DataFusionError, SchemaError};
use datafusion::sql::sqlparser::tokenizer::Span;
use rivermere_base::Code;
use std::fmt;
use std::sync::Arc;

/// A place in a text, with its line for the reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// File name as the user wrote it, or what the text was (`query`).
    pub file: Arc<str>,
    /// From 1.
    pub line: u64,
    /// From 1, in characters.
    pub column: u64,
    /// The whole line.
    pub source_line: String,
}

/// What is wrong, where, and what to do next. `Display` is the whole message over several lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlError {
    pub code: Code,
    pub message: String,
    pub hint: Option<String>,
    pub location: Option<Location>,
}

impl SqlError {
    pub(crate) const SYNTAX: Code = Code(3001);
    pub(crate) const NAME: Code = Code(3002);
    pub(crate) const TYPE: Code = Code(3003);
    pub(crate) const OPTION: Code = Code(3004);
    pub(crate) const NOT_MAINTAINABLE: Code = Code(3005);
    pub(crate) const DUPLICATE: Code = Code(3006);
    pub(crate) const PLAN: Code = Code(3007);

    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, location: None }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub(crate) fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    #[must_use]
    pub fn at(mut self, location: Option<Location>) -> Self {
        self.location = location;
        self
    }

    /// A DataFusion error with its span looked up in `source`.
    pub(crate) fn from_datafusion(error: &DataFusionError, source: &Source) -> Self {
        let mut found = Self::new(Self::PLAN, plain_message(error));
        if let DataFusionError::SchemaError(schema_error, _) = error.find_root() {
            found.code = Self::NAME;
            if let SchemaError::FieldNotFound { field, valid_fields } = schema_error.as_ref() {
                found.message = format!("column '{}' does not exist", field.name);
                let names: Vec<&str> = valid_fields.iter().map(|field| field.name.as_str()).collect();
                found.hint =
                    suggestion(&field.name, names.iter().copied()).or_else(|| list_hint("columns here", &names));
            }
        }
        if let DataFusionError::Plan(message) = error.find_root() {
            found.message.clone_from(message);
        }
        found.untangle();
        if let Some(diagnostic) = error.diagnostic() {
            found.location = diagnostic.span.and_then(|span| source.location_at(span.start.line, span.start.column));
            if found.hint.is_none() {
                let help = diagnostic.helps.first().map(|help| help.message.clone());
                found.hint = help.or_else(|| diagnostic.notes.first().map(|note| note.message.clone()));
            }
        }
        found
    }
}

impl SqlError {
    /// DataFusion's own suggestion as the hint, and its message in one line.
    fn untangle(&mut self) {
        let Some((message, rest)) = self.message.split_once('\n') else { return };
        if let Some(suggested) = rest.strip_prefix("Did you mean ") {
            let suggested = suggested.lines().next().unwrap_or_default();
            self.hint = Some(format!("did you mean {suggested}"));
            self.code = Self::NAME;
        }
        let message = message.trim_end_matches('.').to_string();
        self.message = match message.strip_prefix("Invalid function ") {
            Some(name) => format!("function {name} does not exist"),
            None => message,
        };
    }

    /// An unknown table as the user has written it, with a suggestion.
    pub(crate) fn with_relation<'a>(
        mut self,
        place: impl Fn(&str) -> Option<Location>,
        relations: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let quoted = self.message.strip_prefix("table '").and_then(|rest| rest.strip_suffix("' not found"));
        if let Some(name) = quoted.and_then(|name| name.strip_prefix("rivermere.public.")) {
            self.hint = suggestion(name, relations);
            self.location = self.location.or_else(|| place(name));
            self.code = Self::NAME;
            self.message = format!("table or view '{name}' does not exist");
        }
        self
    }
}

fn plain_message(error: &DataFusionError) -> String {
    let text = error.strip_backtrace();
    let text = text.strip_prefix("Error during planning: ").unwrap_or(&text);
    text.strip_prefix("Schema error: ").unwrap_or(text).to_string()
}

fn list_hint(what: &str, names: &[&str]) -> Option<String> {
    const SHOWN: usize = 12;
    if names.is_empty() {
        return None;
    }
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    Some(format!("{what}: {shown}{more}"))
}

/// "did you mean 'x'?" for the closest of `names`, or nothing when none is close.
pub fn suggestion<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let wrong = wrong.to_lowercase();
    let closest =
        names.into_iter().map(|name| (strsim::damerau_levenshtein(&wrong, &name.to_lowercase()), name)).min()?;
    let limit = (wrong.chars().count() / 3).max(1) + 1;
    (closest.0 <= limit).then(|| format!("did you mean '{}'?", closest.1))
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)?;
        if let Some(location) = &self.location {
            let number = location.line.to_string();
            let margin = " ".repeat(number.len());
            let indent: String = location
                .source_line
                .chars()
                .take(location.column.saturating_sub(1) as usize)
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            write!(f, "\n{margin} --> {}:{}:{}", location.file, location.line, location.column)?;
            write!(f, "\n{margin} |\n{number} | {}\n{margin} | {indent}^", location.source_line)?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SqlError {}

/// The text that a statement came from.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    file: Arc<str>,
    text: Arc<str>,
}

impl Source {
    pub(crate) fn new(file: &str, text: &str) -> Self {
        Self { file: file.into(), text: text.into() }
    }

    pub(crate) fn location(&self, span: Span) -> Option<Location> {
        self.location_at(span.start.line, span.start.column)
    }

    pub(crate) fn location_at(&self, line: u64, column: u64) -> Option<Location> {
        let index = usize::try_from(line).ok()?.checked_sub(1)?;
        let source_line = self.text.lines().nth(index).unwrap_or_default().to_string();
        Some(Location { file: self.file.clone(), line, column, source_line })
    }

    /// Byte offset of a line and column, both from 1; the end of the text when past it.
    pub(crate) fn byte_offset(&self, line: u64, column: u64) -> usize {
        let mut start = 0;
        for (index, text) in self.text.split_inclusive('\n').enumerate() {
            if index as u64 + 1 == line {
                let skip = column.saturating_sub(1) as usize;
                return start + text.char_indices().nth(skip).map_or(text.len(), |(offset, _)| offset);
            }
            start += text.len();
        }
        self.text.len()
    }

    pub(crate) fn slice(&self, from: usize, to: usize) -> &str {
        self.text.get(from..to.max(from)).unwrap_or_default().trim()
    }

    /// The first place of a word at or after `from`.
    pub(crate) fn find_word(&self, word: &str, from: Option<&Location>) -> Option<Location> {
        let first = from.map_or(1, |location| location.line);
        let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        for (index, line) in self.text.lines().enumerate().skip(first.saturating_sub(1) as usize) {
            let lower = line.to_lowercase();
            for (at, _) in lower.match_indices(word) {
                let before = lower.get(..at).and_then(|text| text.chars().next_back());
                let after = lower.get(at + word.len()..).and_then(|text| text.chars().next());
                if !is_part(before) && !is_part(after) {
                    let column = lower.get(..at).map_or(0, |text| text.chars().count()) as u64 + 1;
                    return self.location_at(index as u64 + 1, column);
                }
            }
        }
        None
    }

    /// A parser error, whose place is only in its text ("… at Line: 3, Column: 8").
    pub(crate) fn syntax_error(&self, message: &str) -> SqlError {
        let message = message.strip_prefix("sql parser error: ").unwrap_or(message);
        let (text, place) = match message.rsplit_once(" at Line: ") {
            Some((text, place)) => (text, Some(place)),
            None => (message, None),
        };
        let location = place.and_then(|place| {
            let (line, column) = place.split_once(", Column: ")?;
            let column: String = column.chars().take_while(char::is_ascii_digit).collect();
            self.location_at(line.parse().ok()?, column.parse().ok()?)
        });
        SqlError::new(SqlError::SYNTAX, text.to_string()).at(location)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_name_is_suggested_and_a_far_one_is_not() {
        assert_eq!(suggestion("orgin", ["origin", "dest"]).as_deref(), Some("did you mean 'origin'?"));
        assert_eq!(suggestion("zzzzzz", ["origin", "dest"]), None);
    }

    #[test]
    fn a_located_error_points_below_the_source_line() {
        let source = Source::new("a.sql", "SELECT 1;\nSELECT orgin FROM t");
        let error = SqlError::new(SqlError::NAME, "column 'orgin' does not exist").at(source.location_at(2, 8));
        assert_eq!(
            error.to_string(),
            "RM-3002: column 'orgin' does not exist\n  --> a.sql:2:8\n  |\n2 | SELECT orgin FROM t\n  |        ^"
        );
    }
}
