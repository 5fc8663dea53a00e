//! What a text is: a read, which runs on a session, a command, which goes through the one door, or something that is
//! answered here.

use super::catalog::Catalog;
use super::local;
use super::parameters;
use super::rewrites;
use crate::endpoint::Shared;
use crate::problem::from_datafusion;
use crate::queries::{command, is_read_statement, read_only};
use crate::{ServeError, SqlProblem};
use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;
use datafusion_postgres::datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use futures::future::BoxFuture;
use rivermere_base::Opaque;
use std::sync::Arc;

/// A text that was understood.
#[derive(Clone, Debug)]
pub(super) enum Prepared {
    /// SET, SHOW, BEGIN, FETCH and their like.
    Local(Opaque<ast::Statement>),
    /// A read that DataFusion plans. The plan is for its types; each execution plans again, over the rows of then.
    Read { statement: Opaque<ast::Statement>, plan: Opaque<LogicalPlan> },
    /// Anything else, as it was written; with the columns of its answer when it is a read of our own dialect.
    Command { text: String, schema: Option<SchemaRef> },
}

/// Reads texts.
#[derive(Clone)]
pub(super) struct Reader {
    shared: Arc<Shared>,
    catalog: Arc<Catalog>,
    parser: Arc<PostgresCompatibilityParser>,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, catalog: Arc<Catalog>) -> Self {
        Self { shared, catalog, parser: Arc::new(PostgresCompatibilityParser::new()) }
    }

    /// A fresh session.
    pub(super) fn session(&self) -> Result<SessionContext, ServeError> {
        self.catalog.session()
    }

    /// Understands one statement. `describe` when the columns of the answer must be known before it runs.
    pub(super) fn read(&self, text: &str, describe: bool) -> BoxFuture<'static, Result<Prepared, ServeError>> {
        let (this, text) = (self.clone(), text.to_owned());
        let shared = self.shared.clone();
        // Planning takes too long for a socket's thread.
        Box::pin(async move { shared.pool.work(async move { this.understand(text, describe).await }).await })
    }

    async fn understand(&self, text: String, describe: bool) -> Result<Prepared, ServeError> {
        let mut parsed = self.parser.parse(&text).unwrap_or_default();
        let mut statement = match (parsed.pop(), parsed.is_empty()) {
            (Some(statement), true) => statement,
            _ => return self.dialect(text, describe, None).await,
        };
        if shows_the_platform(&statement) {
            return self.dialect(text, describe, None).await;
        }
        if local::is_local(&statement) {
            return Ok(Prepared::Local(Opaque::new(statement)));
        }
        if !is_read_statement(&statement) {
            return self.dialect(text, describe, None).await;
        }
        rewrites::rewrite(&mut statement);
        match plan(&self.session()?, &statement).await {
            Ok(plan) => Ok(Prepared::Read { statement: Opaque::new(statement), plan: Opaque::new(plan) }),
            // What clients ask about `pg_catalog` is no business of the platform.
            Err(problem) if text.contains("pg_") || text.contains("information_schema") => Err(problem.into()),
            Err(problem) => self.dialect(text, describe, Some(problem)).await,
        }
    }

    /// A text that only the command door understands. When it is a read, its columns can be asked for.
    async fn dialect(
        &self,
        text: String,
        describe: bool,
        unplanned_read: Option<SqlProblem>,
    ) -> Result<Prepared, ServeError> {
        let schema = match unplanned_read {
            // What SHOW and EXPLAIN answer is small: running it tells its columns.
            None if describe && tag(&text).is_none() && parameters::count(&text) == 0 => {
                Some(command(self.shared.platform.clone(), text.clone()).await?.schema)
            }
            Some(_) if describe && parameters::count(&text) == 0 => {
                let asked = format!("SELECT * FROM ({text}) AS described LIMIT 0");
                match command(self.shared.platform.clone(), asked).await {
                    Ok(opened) => Some(opened.schema),
                    // The platform's error for what was really written.
                    Err(_) => Some(command(self.shared.platform.clone(), text.clone()).await?.schema),
                }
            }
            _ => None,
        };
        Ok(Prepared::Command { text, schema })
    }
}

/// `SHOW TABLES`, `SHOW TOPICS` and their like: sqlparser takes some of them for settings.
fn shows_the_platform(statement: &ast::Statement) -> bool {
    match statement {
        ast::Statement::ShowTables { .. } | ast::Statement::ShowViews { .. } => true,
        ast::Statement::ShowVariable { variable } => {
            let words: Vec<String> = variable.iter().map(|word| word.value.to_lowercase()).collect();
            matches!(
                words.iter().map(String::as_str).collect::<Vec<_>>().as_slice(),
                ["topics" | "watermarks"] | ["materialized", "views"]
            )
        }
        _ => false,
    }
}

/// Plans a read.
pub(super) async fn plan(session: &SessionContext, statement: &ast::Statement) -> Result<LogicalPlan, SqlProblem> {
    let told = |error: datafusion::error::DataFusionError| from_datafusion(&error);
    let statement = Statement::Statement(Box::new(statement.clone()));
    let plan = session.state().statement_to_plan(statement).await.map_err(told)?;
    read_only().verify_plan(&plan).map_err(told)?;
    Ok(plan)
}

/// The words of a command's completion tag, such as `CREATE MATERIALIZED VIEW`; `None` for a text that answers with
/// rows.
pub(super) fn tag(text: &str) -> Option<String> {
    let is_filler = |word: &str| matches!(word, "OR" | "REPLACE" | "TEMP" | "TEMPORARY" | "IF" | "NOT" | "EXISTS");
    let words = text.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty());
    let mut words = words.map(str::to_ascii_uppercase).filter(|word| !is_filler(word));
    let verb = words.next()?;
    match verb.as_str() {
        "INSERT" | "UPDATE" | "DELETE" | "MERGE" | "TRUNCATE" | "REFRESH" | "SET" | "USE" => Some(verb),
        // What they did is no result set: to learn its columns they would have to be run.
        "OPTIMIZE" | "VACUUM" | "RESTORE" => Some(verb),
        "CREATE" | "DROP" | "ALTER" => {
            let object = words.next().unwrap_or_default();
            let more = match object.as_str() {
                "MATERIALIZED" | "STREAMING" | "FOREIGN" | "EXTERNAL" => words.next(),
                _ => None,
            };
            let object = more.map_or(object.clone(), |more| format!("{object} {more}"));
            Some(format!("{verb} {object}").trim_end().to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_have_the_tag_that_postgres_gives_them() {
        let check = |text: &str, expected: Option<&str>| assert_eq!(tag(text).as_deref(), expected, "{text}");
        check("create materialized view v as select 1", Some("CREATE MATERIALIZED VIEW"));
        check("CREATE OR REPLACE TABLE t(a int)", Some("CREATE TABLE"));
        check("drop table if exists t", Some("DROP TABLE"));
        check("insert into t values (1)", Some("INSERT"));
        check("RESTORE TABLE t TO VERSION AS OF 1", Some("RESTORE"));
        check("CREATE EXTERNAL TABLE t STORED AS DELTA LOCATION 'x'", Some("CREATE EXTERNAL TABLE"));
        check("explain streaming select 1", None);
        check("", None);
    }
}
