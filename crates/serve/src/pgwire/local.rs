//! Statements about the connection itself: settings, transactions, cursors, prepared statements.
//!
//! Settings are kept and told back; those that change how we answer are `statement_timeout` and the text formats of
//! dates, intervals, floats and bytes. Transactions only exist as a state, which clients look at.

use super::errors::error;
use super::prepared::PreparedText;
use datafusion::sql::sqlparser::ast::{self, CloseCursor, Expr, FetchDirection, Set, Statement, Value};
use datafusion_postgres::pgwire::api::ClientInfo;
use datafusion_postgres::pgwire::error::PgWireResult;
use std::time::Duration;

/// The version that clients adapt their questions to, and ours.
pub(super) fn server_version() -> String {
    format!("16.6 (Rivermere {})", env!("CARGO_PKG_VERSION"))
}

/// Settings with a value from the start; the names are folded, the third says what clients are told of unasked.
const SETTINGS: [(&str, &str, Option<&str>); 23] = [
    ("application_name", "", Some("application_name")),
    ("bytea_output", "hex", None),
    ("client_encoding", "UTF8", Some("client_encoding")),
    ("client_min_messages", "notice", None),
    ("datestyle", "ISO, MDY", Some("DateStyle")),
    ("default_transaction_isolation", "read committed", None),
    ("default_transaction_read_only", "off", None),
    ("extra_float_digits", "1", None),
    ("integer_datetimes", "on", None),
    ("intervalstyle", "postgres", Some("IntervalStyle")),
    ("lc_collate", "C", None),
    ("lc_ctype", "C", None),
    ("max_identifier_length", "63", None),
    ("max_index_keys", "32", None),
    ("search_path", "\"$user\", public", None),
    ("server_encoding", "UTF8", None),
    ("server_version_num", "160006", None),
    ("standard_conforming_strings", "on", Some("standard_conforming_strings")),
    ("statement_timeout", "0", None),
    ("timezone", "UTC", Some("TimeZone")),
    ("transaction_isolation", "read committed", None),
    ("transaction_read_only", "off", None),
    ("work_mem", "4MB", None),
];

/// What is to be done for a statement.
pub(super) enum Action {
    /// Answer with this tag.
    Done(&'static str),
    /// Keep settings, tell the client of those that have a name to be told by.
    Set {
        name: String,
        value: String,
        told_as: Option<&'static str>,
    },
    /// All settings as they were.
    ResetAll,
    /// Everything about the connection as it was.
    DiscardAll,
    Show(Vec<(String, String)>),
    Begin,
    End(&'static str),
    RollbackToSavepoint,
    /// Names of cursors and their queries.
    Declare(Vec<(String, String)>),
    /// At most so many rows.
    Fetch {
        cursor: String,
        rows: usize,
    },
    CloseCursor(Option<String>),
    Deallocate(String),
    Prepare(PreparedText),
}

/// Whether the statement is answered in this file.
pub(super) fn is_local(statement: &Statement) -> bool {
    use Statement::{
        Close, Commit, Deallocate, Declare, Discard, Fetch, Prepare, ReleaseSavepoint, Reset, Rollback, Savepoint, Set,
        ShowVariable, StartTransaction, UNLISTEN,
    };
    matches!(
        statement,
        Close { .. }
            | Commit { .. }
            | Deallocate { .. }
            | Declare { .. }
            | Discard { .. }
            | Fetch { .. }
            | Prepare { .. }
            | ReleaseSavepoint { .. }
            | Reset(_)
            | Rollback { .. }
            | Savepoint { .. }
            | Set(_)
            | ShowVariable { .. }
            | StartTransaction { .. }
            | UNLISTEN { .. }
    )
}

/// The columns of the answer, all text; `None` when there are no rows or the rows are a cursor's.
pub(super) fn columns(statement: &Statement) -> Option<Vec<String>> {
    match statement {
        Statement::ShowVariable { variable } => {
            let name = variable_name(variable);
            Some(if name == "all" { vec!["name".into(), "setting".into()] } else { vec![name] })
        }
        _ => None,
    }
}

/// What to do for a statement.
///
/// # Errors
/// When a setting is unknown or has a wrong value, or a cursor is asked for what it cannot do.
pub(super) fn action(statement: &Statement, client: &impl ClientInfo) -> PgWireResult<Action> {
    Ok(match statement {
        Statement::Set(set) => self::set(set)?,
        Statement::ShowVariable { variable } => Action::Show(show(&variable_name(variable), client)?),
        Statement::StartTransaction { .. } => Action::Begin,
        Statement::Commit { .. } => Action::End("COMMIT"),
        Statement::Rollback { savepoint: None, .. } => Action::End("ROLLBACK"),
        Statement::Rollback { .. } => Action::RollbackToSavepoint,
        Statement::Savepoint { .. } => Action::Done("SAVEPOINT"),
        Statement::ReleaseSavepoint { .. } => Action::Done("RELEASE"),
        Statement::UNLISTEN { .. } => Action::Done("UNLISTEN"),
        Statement::Reset(_) => Action::ResetAll,
        Statement::Discard { .. } => Action::DiscardAll,
        Statement::Deallocate { name, .. } => Action::Deallocate(name.value.clone()),
        Statement::Prepare { name, data_types, statement } => Action::Prepare(PreparedText {
            name: name.value.clone(),
            types: data_types.iter().map(ToString::to_string).collect(),
            text: statement.to_string(),
        }),
        Statement::Declare { stmts } => Action::Declare(declared(stmts)?),
        Statement::Fetch { name, direction, .. } => {
            Action::Fetch { cursor: name.value.clone(), rows: fetched(direction)? }
        }
        Statement::Close { cursor: CloseCursor::All } => Action::CloseCursor(None),
        Statement::Close { cursor: CloseCursor::Specific { name } } => Action::CloseCursor(Some(name.value.clone())),
        other => return Err(error("0A000", format!("this is not supported: {other}"))),
    })
}

/// Whether the statement ends a transaction.
pub(super) fn ends_transaction(statement: &Statement) -> bool {
    matches!(statement, Statement::Commit { .. } | Statement::Rollback { .. })
}

/// The cursor that the statement fetches from.
pub(super) fn fetched_cursor(statement: &Statement) -> Option<String> {
    match statement {
        Statement::Fetch { name, .. } => Some(name.value.clone()),
        _ => None,
    }
}

fn variable_name(variable: &[ast::Ident]) -> String {
    let words: Vec<String> = variable.iter().map(|word| word.value.to_lowercase()).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["time", "zone"] => "timezone".into(),
        ["transaction", "isolation", "level"] => "transaction_isolation".into(),
        ["session", "authorization"] => "session_authorization".into(),
        words => words.join("."),
    }
}

fn set(set: &Set) -> PgWireResult<Action> {
    let (name, value) = match set {
        Set::SingleAssignment { variable, values, .. } => {
            let values: Vec<String> = values.iter().map(plain).collect();
            (variable.to_string().to_lowercase().replace('"', ""), values.join(", "))
        }
        Set::SetTimeZone { value, .. } => ("timezone".to_owned(), plain(value)),
        Set::SetNames { charset_name, .. } => ("client_encoding".to_owned(), charset_name.value.clone()),
        // Isolation levels, roles: nothing that we could do otherwise.
        _ => return Ok(Action::Done("SET")),
    };
    let wrong = || error("22023", format!("invalid value for parameter \"{name}\": \"{value}\""));
    match name.as_str() {
        "statement_timeout" if value != "default" && duration(&value).is_none() => return Err(wrong()),
        "client_encoding" => {
            let folded = value.to_lowercase().replace(['-', '_'], "");
            if !matches!(folded.as_str(), "utf8" | "unicode" | "sqlascii" | "default") {
                return Err(error("0A000", format!("only UTF8 is spoken here, not \"{value}\"")));
            }
            return Ok(Action::Done("SET"));
        }
        "standard_conforming_strings" if !matches!(value.to_lowercase().as_str(), "on" | "true" | "1") => {
            return Err(wrong());
        }
        _ => {}
    }
    let known = SETTINGS.iter().find(|(known, ..)| *known == name);
    let value = match known {
        Some((_, start, _)) if value.eq_ignore_ascii_case("default") => (*start).to_owned(),
        _ => value,
    };
    Ok(Action::Set { name, value, told_as: known.and_then(|(_, _, told_as)| *told_as) })
}

/// A value without its quotes.
fn plain(value: &Expr) -> String {
    match value {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => text.clone(),
            other => other.to_string(),
        },
        Expr::Identifier(name) => name.value.clone(),
        other => other.to_string(),
    }
}

/// The value of a setting on this connection.
pub(super) fn setting(name: &str, client: &impl ClientInfo) -> Option<String> {
    let start = || match name {
        "session_authorization" | "user" | "role" => client.metadata().get("user").cloned(),
        _ => start_value(name),
    };
    client.metadata().get(name).cloned().or_else(start)
}

/// The names of all settings with the values that they have on a new connection.
pub(super) fn start_values() -> impl Iterator<Item = (&'static str, &'static str)> {
    SETTINGS.iter().map(|(name, value, _)| (*name, *value))
}

/// The value that a setting has on a new connection.
pub(super) fn start_value(name: &str) -> Option<String> {
    match name {
        "server_version" => Some(server_version()),
        "is_superuser" => Some("on".into()),
        _ => SETTINGS.iter().find(|(known, ..)| *known == name).map(|(_, value, _)| (*value).to_owned()),
    }
}

fn show(name: &str, client: &impl ClientInfo) -> PgWireResult<Vec<(String, String)>> {
    if name == "all" {
        let all = SETTINGS.iter().map(|(name, ..)| ((*name).to_owned(), setting(name, client).unwrap_or_default()));
        return Ok(all.collect());
    }
    match setting(name, client) {
        Some(value) => Ok(vec![(name.to_owned(), value)]),
        None => Err(error("42704", format!("unrecognized configuration parameter \"{name}\""))),
    }
}

/// How long a statement of this connection may run; zero means for ever.
pub(super) fn statement_timeout(client: &impl ClientInfo) -> Option<Duration> {
    client.metadata().get("statement_timeout").and_then(|value| duration(value)).filter(|limit| !limit.is_zero())
}

/// `1500`, `'1500ms'`, `'2s'`, `'1min'`, `'1h'`.
fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit_ms: u64 = match unit.trim() {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit_ms).map(Duration::from_millis)
}

/// The connection's settings as they were at the start.
pub(super) fn forget_settings(client: &mut impl ClientInfo) {
    client.metadata_mut().retain(|name, _| matches!(name.as_str(), "user" | "database" | "application_name"));
}

fn declared(cursors: &[ast::Declare]) -> PgWireResult<Vec<(String, String)>> {
    let cursor = |declare: &ast::Declare| {
        if declare.declare_type != Some(ast::DeclareType::Cursor) {
            return Err(error("42601", "only cursors can be declared"));
        }
        match (declare.names.first(), &declare.for_query) {
            (Some(name), Some(query)) => Ok((name.value.clone(), query.to_string())),
            _ => Err(error("42601", "a cursor needs a name and a query: DECLARE name CURSOR FOR SELECT …")),
        }
    };
    cursors.iter().map(cursor).collect()
}

fn fetched(direction: &FetchDirection) -> PgWireResult<usize> {
    let number = |value: &ast::ValueWithSpan| match &value.value {
        Value::Number(text, _) => {
            text.parse().map_err(|_| error("22003", format!("\"{text}\" rows cannot be fetched")))
        }
        other => Err(error("42601", format!("a number of rows was expected, not {other}"))),
    };
    match direction {
        FetchDirection::Next | FetchDirection::Forward { limit: None } => Ok(1),
        FetchDirection::Count { limit } | FetchDirection::Forward { limit: Some(limit) } => number(limit),
        FetchDirection::All | FetchDirection::ForwardAll => Ok(usize::MAX),
        _ => Err(error("55000", "a cursor can only go forward")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_limits() {
        assert_eq!(duration("1500"), Some(Duration::from_millis(1500)));
        assert_eq!(duration("2s"), Some(Duration::from_secs(2)));
        assert_eq!(duration("1 min"), Some(Duration::from_secs(60)));
        for text in ["", "s", "-1", "1x", "99999999999999999999", "18446744073709551615s"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
