//! Our errors as PostgreSQL tells them: SQLSTATE (PostgreSQL documentation, appendix A), message, hint.

use crate::{ProblemKind, ServeError, SqlProblem};
use datafusion_postgres::pgwire::error::{ErrorInfo, PgWireError};

impl From<ServeError> for PgWireError {
    fn from(error: ServeError) -> Self {
        Self::UserError(Box::new(info(&error)))
    }
}

pub(super) fn info(error: &ServeError) -> ErrorInfo {
    let mut info = ErrorInfo::new("ERROR".into(), sqlstate(error).into(), error.to_string());
    info.hint = error.hint();
    info
}

fn sqlstate(error: &ServeError) -> &'static str {
    match error {
        ServeError::TimedOut(_) => "57014",
        ServeError::Ending => "57P01",
        ServeError::Statement(problem) => of_problem(problem),
        other => of_kind(other.kind()),
    }
}

fn of_problem(problem: &SqlProblem) -> &'static str {
    let text = problem.message.to_lowercase();
    match problem.kind {
        ProblemKind::Data if text.contains("divide by zero") => "22012",
        ProblemKind::NotFound if text.contains("column") || text.contains("field") => "42703",
        ProblemKind::NotFound if text.contains("function") => "42883",
        kind => of_kind(kind),
    }
}

fn of_kind(kind: ProblemKind) -> &'static str {
    match kind {
        ProblemKind::Syntax => "42601",
        ProblemKind::Invalid => "42000",
        ProblemKind::NotFound => "42P01",
        ProblemKind::AlreadyExists => "42P07",
        ProblemKind::Unsupported => "0A000",
        ProblemKind::Data => "22000",
        ProblemKind::Unavailable => "53000",
        ProblemKind::Internal => "XX000",
    }
}

/// An error of the protocol or of a statement that is answered in this folder.
pub(super) fn error(sqlstate: &str, message: impl Into<String>) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("ERROR".into(), sqlstate.into(), message.into())))
}

/// An error after which the connection closes.
pub(super) fn fatal(sqlstate: &str, message: impl Into<String>) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("FATAL".into(), sqlstate.into(), message.into())))
}
