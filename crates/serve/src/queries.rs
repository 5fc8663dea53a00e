//! Statements on a pool of threads of their own, so that a heavy one never delays a socket.
//!
//! A read that DataFusion can plan runs on a fresh session of the platform and streams its rows through a short
//! channel: a slow reader slows its own statement and nothing else, and a reader that goes away cancels it.
//! Everything else is a command: it goes through [`Platform::sql`] and, once started, is never cut off half-way. So
//! does a read that cannot be planned, because the command door knows the whole dialect and explains errors better.

use crate::problem::from_datafusion;
use crate::{Limits, Platform, ProblemKind, ServeError, SqlProblem};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::context::SQLOptions;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use futures::StreamExt;
use futures::stream::BoxStream;
use rivermere_base::Code;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Batches between the pool and the reader.
const BATCHES_AHEAD: usize = 4;

/// Threads for statements, and the number of statements at a time.
pub(crate) struct QueryPool {
    /// Taken when dropped, because a runtime must not be dropped where it could block.
    runtime: Option<Runtime>,
    turns: Arc<Semaphore>,
    concurrent: usize,
    wait: Duration,
}

/// What a statement has been opened to.
pub(crate) struct Opened {
    pub schema: SchemaRef,
    pub batches: BoxStream<'static, Result<RecordBatch, ServeError>>,
}

/// The rows of a running statement. Dropping them cancels it.
pub(crate) struct Rows {
    pub schema: SchemaRef,
    receiver: mpsc::Receiver<Result<RecordBatch, ServeError>>,
    /// Until when rows are awaited, and how long that was at the start.
    deadline: Option<(Instant, Duration)>,
    /// Taken when it has ended: a task's end can be asked for once.
    task: Option<JoinHandle<()>>,
}

impl QueryPool {
    pub(crate) fn new(limits: &Limits) -> Result<Self, ServeError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(limits.query_threads.max(1))
            .thread_name("rivermere-query")
            .enable_all()
            .build()
            .map_err(ServeError::Threads)?;
        let concurrent = limits.concurrent_statements.max(1);
        let turns = Arc::new(Semaphore::new(concurrent));
        Ok(Self { runtime: Some(runtime), turns, concurrent, wait: limits.statement_wait })
    }

    /// Statements that run now.
    pub(crate) fn running(&self) -> usize {
        self.concurrent.saturating_sub(self.turns.available_permits())
    }

    /// Runs a piece of work, such as planning, on the pool's threads without waiting for a turn.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, ServeError>> + Send + 'static,
    ) -> Result<T, ServeError> {
        let runtime = self.runtime.as_ref().ok_or(ServeError::Ending)?;
        runtime.spawn(work).await.map_err(|_| broken())?
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, ServeError> {
        match tokio::time::timeout(self.wait, self.turns.clone().acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(ServeError::Busy { what: "statements", limit: self.concurrent }),
        }
    }

    /// Runs `open` on the pool and streams what it opens, all of it within `timeout`.
    pub(crate) async fn start<F>(&self, timeout: Option<Duration>, open: F) -> Result<Rows, ServeError>
    where
        F: Future<Output = Result<Opened, ServeError>> + Send + 'static,
    {
        let runtime = self.runtime.as_ref().ok_or(ServeError::Ending)?;
        let turn = self.turn().await?;
        let turns = self.turns.clone();
        let (opened, opening) = oneshot::channel();
        let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
        let run = async move {
            let mut batches = match open.await {
                Ok(stream) => {
                    if opened.send(Ok(stream.schema)).is_err() {
                        return;
                    }
                    stream.batches
                }
                Err(error) => {
                    let _ = opened.send(Err(error));
                    return;
                }
            };
            let mut turn = Some(turn);
            while let Some(batch) = batches.next().await {
                let failed = batch.is_err();
                if sender.capacity() == 0 {
                    // A reader that pauses keeps its place in the rows, not its turn.
                    turn = None;
                }
                if sender.send(batch).await.is_err() || failed {
                    return;
                }
                if turn.is_none() {
                    turn = turns.clone().acquire_owned().await.ok();
                }
            }
        };
        let task = runtime.spawn(run);
        // The clock is watched where the rows are awaited: the pool's threads may be too busy to look at it.
        let deadline = timeout.map(|limit| (Instant::now() + limit, limit));
        let schema = Arc::new(arrow::datatypes::Schema::empty());
        let mut rows = Rows { schema, receiver, deadline, task: Some(task) };
        match rows.in_time(opening).await? {
            Ok(Ok(schema)) => {
                rows.schema = schema;
                Ok(rows)
            }
            Ok(Err(error)) => Err(error),
            // The sending side is gone without a word.
            Err(_) => Err(broken()),
        }
    }
}

impl Drop for QueryPool {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Rows {
    async fn in_time<T>(&self, waiting: impl Future<Output = T>) -> Result<T, ServeError> {
        match self.deadline {
            None => Ok(waiting.await),
            Some((deadline, limit)) => {
                tokio::time::timeout_at(deadline, waiting).await.map_err(|_| ServeError::TimedOut(limit))
            }
        }
    }

    /// The next batch; `None` after the last one. Rows that are there already are never too late.
    pub(crate) async fn next(&mut self) -> Option<Result<RecordBatch, ServeError>> {
        let (deadline, receiver) = (self.deadline, &mut self.receiver);
        let received = match deadline {
            None => receiver.recv().await,
            Some((deadline, limit)) => match tokio::time::timeout_at(deadline, receiver.recv()).await {
                Ok(received) => received,
                Err(_) => {
                    self.stop();
                    Some(Err(ServeError::TimedOut(limit)))
                }
            },
        };
        if let Some(batch) = received {
            return Some(batch);
        }
        let ended = self.task.as_mut()?.await;
        self.task = None;
        match ended {
            Err(error) if error.is_panic() => Some(Err(broken())),
            _ => None,
        }
    }

    fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }

    /// The batches as a stream.
    pub(crate) fn into_stream(self) -> BoxStream<'static, Result<RecordBatch, ServeError>> {
        futures::stream::unfold(self, |mut rows| async move { Some((rows.next().await?, rows)) }).boxed()
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        self.stop();
    }
}

fn broken() -> ServeError {
    let problem = SqlProblem::new(Code(6037), "the statement broke off by an error of the query engine");
    problem.with_kind(ProblemKind::Internal).with_hint("the log has the details").into()
}

/// Runs one statement of any kind, as text.
pub(crate) async fn run_text(
    pool: &QueryPool,
    platform: Arc<dyn Platform>,
    text: String,
    timeout: Duration,
) -> Result<Rows, ServeError> {
    if !is_read(&text) {
        return pool.start(None, command(platform, text)).await;
    }
    let open = async move {
        let session = platform.session();
        match plan_read(&session, &text).await {
            Ok(plan) => match open_plan(&session, plan).await {
                // Some mistakes are found by the optimiser; nothing has run yet.
                Err(ServeError::Statement(problem)) if problem.kind == ProblemKind::Invalid => {
                    command(platform, text).await
                }
                opened => opened,
            },
            Err(_) => command(platform, text).await,
        }
    };
    pool.start(Some(timeout), open).await
}

/// Hands a statement to the command door. It runs to its end even when nobody waits for the answer any more.
pub(crate) async fn command(platform: Arc<dyn Platform>, text: String) -> Result<Opened, ServeError> {
    let output = tokio::spawn(platform.sql(text)).await.map_err(|_| broken())??;
    let batches = futures::stream::iter(output.batches.into_iter().map(Ok)).boxed();
    Ok(Opened { schema: output.schema, batches })
}

async fn plan_read(
    session: &SessionContext,
    text: &str,
) -> Result<datafusion::logical_expr::LogicalPlan, datafusion::error::DataFusionError> {
    let plan = session.state().create_logical_plan(text).await?;
    read_only().verify_plan(&plan)?;
    Ok(plan)
}

/// A session is for reading: it may neither change its catalog nor write files.
pub(crate) fn read_only() -> SQLOptions {
    SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false)
}

/// Starts a plan on its session, which is kept until the last row: `pg_catalog` looks at the catalogs of sessions in use.
pub(crate) async fn open_plan(
    session: &SessionContext,
    plan: datafusion::logical_expr::LogicalPlan,
) -> Result<Opened, ServeError> {
    let told = |error: datafusion::error::DataFusionError| ServeError::from(from_datafusion(&error));
    let stream = session.execute_logical_plan(plan).await.map_err(told)?.execute_stream().await.map_err(told)?;
    let schema = stream.schema();
    let session = session.clone();
    let batches = stream.map(move |batch| {
        let _in_use = &session;
        batch.map_err(told)
    });
    Ok(Opened { schema, batches: batches.boxed() })
}

/// Whether the text is one statement that only reads, and that DataFusion's parser understands.
fn is_read(text: &str) -> bool {
    let Ok(mut statements) = DFParser::parse_sql_with_dialect(text, &PostgreSqlDialect {}) else { return false };
    match (statements.pop_front(), statements.pop_front()) {
        (Some(statement), None) => reads(&statement),
        _ => false,
    }
}

fn reads(statement: &Statement) -> bool {
    match statement {
        Statement::Statement(statement) => is_read_statement(statement),
        Statement::Explain(explained) => reads(&explained.statement),
        _ => false,
    }
}

/// Whether the statement only reads.
pub(crate) fn is_read_statement(statement: &ast::Statement) -> bool {
    match statement {
        ast::Statement::Explain { statement, .. } => is_read_statement(statement),
        other => matches!(
            other,
            ast::Statement::Query(_) | ast::Statement::ShowColumns { .. } | ast::Statement::ExplainTable { .. }
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reading_statements_run_on_a_session() {
        for read in ["select 1", "WITH a AS (SELECT 1) SELECT * FROM a", "explain select 1", "values (1)", "describe t"]
        {
            assert!(is_read(read), "{read}");
        }
        for other in [
            "",
            "insert into t values (1)",
            "create table t (a int)",
            "copy t to '/tmp/x.csv'",
            "create external table t stored as csv location '/etc/passwd'",
            "explain insert into t values (1)",
            "select 1; select 2",
            "set datafusion.execution.batch_size = 1",
            "not sql at all",
        ] {
            assert!(!is_read(other), "{other}");
        }
    }

    #[tokio::test]
    async fn a_statement_that_never_ends_is_cut_off_and_frees_its_turn() {
        let limits = Limits { concurrent_statements: 1, ..Limits::default() };
        let pool = QueryPool::new(&limits).unwrap();
        let forever = std::future::pending::<Result<Opened, ServeError>>();
        let ended = pool.start(Some(Duration::from_millis(1)), forever).await;
        assert!(matches!(ended, Err(ServeError::TimedOut(_))));
        let panicking = async { panic!("on purpose") };
        assert!(matches!(pool.start(None, panicking).await, Err(ServeError::Statement(_))));
    }
}
