//! Why a value does not fit its column, and the sentence that says so.

use super::scan::Cell;
use arrow::datatypes::DataType;

/// Characters of a value that a reason quotes.
const MAX_QUOTED: usize = 60;

/// Why a value does not fit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Misfit {
    /// Of another type.
    Type,
    /// A number beyond the type.
    Range,
    /// A number with a fraction where none can be kept.
    Fraction,
    Reason(&'static str),
}

/// The reason for a rejection: column, expected type, what was found.
#[cold]
pub(super) fn reason(path: &str, expected: &DataType, cell: Cell<'_>, misfit: Misfit) -> String {
    let found = describe(cell);
    match misfit {
        Misfit::Type => format!("column '{path}': expected {expected}, found {found}"),
        Misfit::Range => format!("column '{path}': expected {expected}, found {found}, which is out of its range"),
        Misfit::Fraction => format!("column '{path}': expected {expected}, found {found}, which is no whole number"),
        Misfit::Reason(why) => format!("column '{path}': expected {expected}, found {found}: {why}"),
    }
}

fn describe(cell: Cell<'_>) -> String {
    match cell {
        Cell::Absent => "nothing".to_owned(),
        Cell::Missing => "no such field, and the column is NOT NULL".to_owned(),
        Cell::Null => "null, and the column is NOT NULL".to_owned(),
        Cell::Boolean(value) => format!("the boolean {value}"),
        Cell::Number(text) => format!("the number {}", excerpt(text)),
        Cell::Text(text) | Cell::Escaped(text) => format!("the string \"{}\"", excerpt(text)),
        Cell::Object(text) => format!("the object {}", excerpt(text)),
        Cell::Array(text) => format!("the array {}", excerpt(text)),
    }
}

fn excerpt(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
