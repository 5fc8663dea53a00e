//! `PREPARE`, `EXECUTE` and `DEALLOCATE` as statements: kept as texts, with the arguments written in.
//!
//! The protocol's own prepared statements are pgwire's and the portals' business.

use super::errors::error;
use super::split::placeholders;
use datafusion::sql::sqlparser::ast::Statement;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion_postgres::pgwire::api::ClientInfo;
use datafusion_postgres::pgwire::error::PgWireResult;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Statements that one connection may keep.
const MOST: usize = 1_000;

/// The prepared statements of one connection.
#[derive(Default)]
pub(super) struct PreparedTexts(Mutex<HashMap<String, PreparedText>>);

#[derive(Clone, Debug)]
pub(super) struct PreparedText {
    pub name: String,
    /// The types that its parameters were given, by position.
    pub types: Vec<String>,
    pub text: String,
}

/// The prepared statements of this client.
pub(super) fn texts_of(client: &impl ClientInfo) -> Arc<PreparedTexts> {
    client.session_extensions().get_or_insert_with(PreparedTexts::default)
}

impl PreparedTexts {
    pub(super) fn keep(&self, prepared: PreparedText) -> PgWireResult<()> {
        let mut texts = self.0.lock();
        if texts.contains_key(&prepared.name) {
            return Err(error("42P05", format!("prepared statement \"{}\" already exists", prepared.name)));
        }
        if texts.len() >= MOST {
            return Err(error("53000", format!("{MOST} statements are prepared: DEALLOCATE one")));
        }
        texts.insert(prepared.name.clone(), prepared);
        Ok(())
    }

    pub(super) fn forget(&self, name: &str) {
        let mut texts = self.0.lock();
        if name.eq_ignore_ascii_case("all") {
            texts.clear();
        } else {
            texts.remove(name);
        }
    }

    /// The statement that `EXECUTE name(…)` runs; every other text as it is.
    pub(super) fn expanded(&self, text: &str) -> PgWireResult<String> {
        if !text.get(..7).is_some_and(|word| word.eq_ignore_ascii_case("execute")) {
            return Ok(text.to_owned());
        }
        let parsed = Parser::parse_sql(&PostgreSqlDialect {}, text).unwrap_or_default();
        let [Statement::Execute { name: Some(name), parameters, .. }] = parsed.as_slice() else {
            return Ok(text.to_owned());
        };
        let name = name.0.last().and_then(|part| part.as_ident()).map_or_else(String::new, |name| name.value.clone());
        let Some(prepared) = self.0.lock().get(&name).cloned() else {
            return Err(error("26000", format!("prepared statement \"{name}\" does not exist")));
        };
        let values: Vec<String> = parameters.iter().map(ToString::to_string).collect();
        prepared.with(&values)
    }
}

impl PreparedText {
    fn with(&self, values: &[String]) -> PgWireResult<String> {
        let placeholders = placeholders(&self.text);
        let needed = placeholders.iter().map(|(_, number)| *number).max().unwrap_or(0).max(self.types.len());
        if needed != values.len() {
            let (name, given) = (&self.name, values.len());
            let message = format!("prepared statement \"{name}\" needs {needed} parameters, not {given}");
            return Err(error("42601", message));
        }
        let mut written = String::with_capacity(self.text.len());
        let mut end = 0;
        for (place, number) in placeholders {
            let index = number.saturating_sub(1);
            let value = values.get(index).filter(|_| number > 0);
            let value = value.ok_or_else(|| error("42P02", format!("there is no parameter ${number}")))?;
            written.push_str(self.text.get(end..place.start).unwrap_or_default());
            match self.types.get(index) {
                Some(data_type) => written.push_str(&format!("CAST({value} AS {data_type})")),
                None => written.push_str(&format!("({value})")),
            }
            end = place.end;
        }
        written.push_str(self.text.get(end..).unwrap_or_default());
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn execute_becomes_the_statement_with_its_arguments() {
        let texts = PreparedTexts::default();
        let prepared = |name: &str, types: &[&str], text: &str| PreparedText {
            name: name.into(),
            types: types.iter().map(ToString::to_string).collect(),
            text: text.into(),
        };
        texts.keep(prepared("p", &["bigint"], "SELECT a FROM t WHERE b = $1 AND c = $2 AND d = '$1'")).unwrap();
        assert_eq!(
            texts.expanded("execute p(1 + 1, 'it''s')").unwrap(),
            "SELECT a FROM t WHERE b = CAST(1 + 1 AS bigint) AND c = ('it''s') AND d = '$1'"
        );
        assert!(texts.expanded("EXECUTE p(1)").is_err() && texts.expanded("EXECUTE q").is_err());
        assert!(texts.keep(prepared("p", &[], "SELECT 1")).is_err());
        assert_eq!(texts.expanded("SELECT 1").unwrap(), "SELECT 1");
        texts.forget("ALL");
        assert!(texts.expanded("EXECUTE p(1, 2)").is_err());
    }
}
