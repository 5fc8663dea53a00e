//! Simple and extended query.
//!
//! Rows stream from the pool to the socket. The first batch is awaited before a statement counts as started, so that an
//! error in it, a cancel request or a timeout ends the statement and not the answer.

use super::catalog::Catalog;
use super::cursors::cursors_of;
use super::errors::error;
use super::local::{self, Action};
use super::parameters::{self, check_formats};
use super::prepared::texts_of;
use super::split;
use super::statement::{Prepared, Reader, plan, tag};
use super::text::worded;
use crate::ServeError;
use crate::endpoint::Shared;
use crate::queries::{Rows, command, open_plan};
use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use async_trait::async_trait;
use datafusion::sql::sqlparser::ast;
use datafusion_postgres::arrow_pg::datatypes::{arrow_schema_to_pg_fields, encode_recordbatch};
use datafusion_postgres::pgwire::api::portal::{Format, Portal, PortalExecutionState};
use datafusion_postgres::pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler, send_describe_response};
use datafusion_postgres::pgwire::api::results::{
    DataRowEncoder, DescribePortalResponse, DescribeStatementResponse, FieldInfo, QueryResponse, Response, Tag,
};
use datafusion_postgres::pgwire::api::stmt::QueryParser;
use datafusion_postgres::pgwire::api::store::{Entry, PortalStore};
use datafusion_postgres::pgwire::api::{ClientInfo, ClientPortalStore, ConnectionHandle, DEFAULT_NAME, Type};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::PgWireBackendMessage;
use datafusion_postgres::pgwire::messages::data::DataRow;
use datafusion_postgres::pgwire::messages::extendedquery::{
    Describe, Execute, PortalSuspended, TARGET_TYPE_BYTE_PORTAL,
};
use datafusion_postgres::pgwire::messages::response::{CommandComplete, EmptyQueryResponse, TransactionStatus};
use datafusion_postgres::pgwire::messages::startup::ParameterStatus;
use datafusion_postgres::pgwire::types::format::FormatOptions;
use futures::future::{BoxFuture, Shared as SharedFuture};
use futures::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use rivermere_base::Opaque;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Answers the statements of all connections.
pub(super) struct Handler {
    shared: Arc<Shared>,
    reader: Arc<Reader>,
}

/// What a statement came to.
enum Outcome {
    Rows(Rows, Option<RecordBatch>),
    Done(Tag),
}

impl Handler {
    pub(super) fn new(shared: Arc<Shared>, catalog: Arc<Catalog>) -> Self {
        let reader = Arc::new(Reader::new(shared.clone(), catalog));
        Self { shared, reader }
    }

    /// Starts a read and waits for its first rows.
    fn read(
        &self,
        statement: &Opaque<ast::Statement>,
        values: Option<datafusion::common::ParamValues>,
        timeout: Option<Duration>,
    ) -> BoxFuture<'static, Result<Outcome, ServeError>> {
        let (shared, reader, statement) = (self.shared.clone(), self.reader.clone(), statement.clone());
        let open = async move {
            let session = reader.session()?;
            let mut plan = plan(&session, &statement).await?;
            if let Some(values) = values {
                let told = |error| ServeError::from(crate::problem::from_datafusion(&error));
                plan = plan.replace_params_with_values(&values).map_err(told)?;
            }
            open_plan(&session, plan).await
        };
        Box::pin(async move {
            let mut rows = shared.pool.start(timeout, open).await?;
            let first = rows.next().await.transpose()?;
            Ok(Outcome::Rows(rows, first))
        })
    }

    /// Runs a command to its end.
    async fn command(&self, text: &str) -> Result<Outcome, ServeError> {
        let open = command(self.shared.platform.clone(), text.to_owned());
        let mut rows = self.shared.pool.start(None, open).await?;
        let first = rows.next().await.transpose()?;
        let Some(tag) = tag(text) else { return Ok(Outcome::Rows(rows, first)) };
        let affected = first.as_ref().and_then(affected_rows);
        Ok(Outcome::Done(match tag.as_str() {
            "INSERT" => Tag::new("INSERT").with_oid(0).with_rows(affected.unwrap_or(0)),
            "UPDATE" | "DELETE" | "MERGE" => Tag::new(&tag).with_rows(affected.unwrap_or(0)),
            tag => Tag::new(tag),
        }))
    }

    /// One statement of a simple query.
    async fn simple<C>(&self, client: &mut C, text: &str) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        self.shared.counters.postgres_statements.fetch_add(1, Relaxed);
        let text = texts_of(client).expanded(text)?;
        let prepared = self.reader.read(&text, false).await?;
        refuse_in_failed_transaction(client, &prepared)?;
        let outcome = match prepared {
            Prepared::Local(statement) => {
                return self.local(client, &statement, &Format::UnifiedText).await;
            }
            Prepared::Read { statement, .. } => self.read(&statement, None, local::statement_timeout(client)).await?,
            Prepared::Command { text, .. } => self.command(&text).await?,
        };
        respond(outcome, &Format::UnifiedText, client)
    }

    /// A statement about the connection.
    async fn local<C>(
        &self,
        client: &mut C,
        statement: &Opaque<ast::Statement>,
        format: &Format,
    ) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        Ok(match local::action(statement, client)? {
            Action::Done(tag) => Response::Execution(Tag::new(tag)),
            Action::Set { name, value, told_as } => {
                if let Some(told_as) = told_as {
                    let status = ParameterStatus::new(told_as.to_owned(), value.clone());
                    client.feed(PgWireBackendMessage::ParameterStatus(status)).await?;
                }
                client.metadata_mut().insert(name, value);
                Response::Execution(Tag::new("SET"))
            }
            Action::ResetAll => {
                local::forget_settings(client);
                Response::Execution(Tag::new("RESET"))
            }
            Action::DiscardAll => {
                local::forget_settings(client);
                client.portal_store().clear_portals();
                cursors_of(client).close(None)?;
                texts_of(client).forget("ALL");
                Response::Execution(Tag::new("DISCARD ALL"))
            }
            Action::Show(rows) => {
                let columns = local::columns(statement).unwrap_or_default();
                Response::Query(text_rows(columns, rows, format)?)
            }
            Action::Begin if client.transaction_status() == TransactionStatus::Idle => {
                Response::TransactionStart(Tag::new("BEGIN"))
            }
            Action::Begin => Response::Execution(Tag::new("BEGIN")),
            // A failed transaction cannot be committed.
            Action::End(_) if client.transaction_status() == TransactionStatus::Error => {
                Response::TransactionEnd(Tag::new("ROLLBACK"))
            }
            Action::End(tag) => Response::TransactionEnd(Tag::new(tag)),
            // What failed after the savepoint is forgotten: drivers make one around each statement.
            Action::RollbackToSavepoint => {
                if client.transaction_status() == TransactionStatus::Error {
                    client.set_transaction_status(TransactionStatus::Transaction);
                }
                Response::Execution(Tag::new("ROLLBACK"))
            }
            Action::Declare(cursors) => {
                for (name, query) in cursors {
                    let rows = self.cursor_rows(client, &query).await?;
                    cursors_of(client).declare(name, rows)?;
                }
                Response::Execution(Tag::new("DECLARE CURSOR"))
            }
            Action::Fetch { cursor, rows } => Response::Query(cursors_of(client).fetch(&cursor, rows)?),
            Action::CloseCursor(name) => {
                cursors_of(client).close(name.as_deref())?;
                Response::Execution(Tag::new("CLOSE CURSOR"))
            }
            Action::Prepare(prepared) => {
                // A wrong statement is refused now.
                self.reader.read(&prepared.text, false).await?;
                texts_of(client).keep(prepared)?;
                Response::Execution(Tag::new("PREPARE"))
            }
            Action::Deallocate(name) => {
                texts_of(client).forget(&name);
                client.portal_store().rm_statement(&name);
                Response::Execution(Tag::new("DEALLOCATE"))
            }
        })
    }

    async fn cursor_rows<C: ClientInfo>(&self, client: &C, query: &str) -> PgWireResult<QueryResponse> {
        let outcome = match self.reader.read(query, false).await? {
            Prepared::Read { statement, .. } => self.read(&statement, None, local::statement_timeout(client)).await?,
            Prepared::Command { text, .. } if tag(&text).is_none() => self.command(&text).await?,
            _ => return Err(error("42P11", "a cursor is for a query")),
        };
        match respond(outcome, &Format::UnifiedText, client)? {
            Response::Query(rows) => Ok(rows),
            _ => Err(error("42P11", "a cursor is for a query")),
        }
    }
}

/// After an error inside BEGIN nothing but its end is taken, as clients expect.
fn refuse_in_failed_transaction(client: &impl ClientInfo, prepared: &Prepared) -> PgWireResult<()> {
    let ends = matches!(prepared, Prepared::Local(statement) if local::ends_transaction(statement));
    if client.transaction_status() == TransactionStatus::Error && !ends {
        let message = "current transaction is aborted, commands ignored until end of transaction block";
        return Err(error("25P02", message));
    }
    Ok(())
}

/// What a statement came to as the wire's response.
fn respond(outcome: Outcome, format: &Format, client: &impl ClientInfo) -> PgWireResult<Response> {
    let (rows, first) = match outcome {
        Outcome::Done(tag) => return Ok(Response::Execution(tag)),
        Outcome::Rows(rows, first) => (rows, first),
    };
    let fields = Arc::new(fields(&rows.schema, format, client)?);
    let described = fields.clone();
    let batches = futures::stream::iter(first.map(Ok)).chain(rows.into_stream());
    let rows = batches.flat_map(move |batch| {
        let rows: Box<dyn Iterator<Item = PgWireResult<DataRow>> + Send + Sync> = match batch {
            Ok(batch) => match worded(batch, &fields) {
                Ok(batch) => encode_recordbatch(fields.clone(), batch),
                Err(error) => Box::new(std::iter::once(Err(ServeError::from(error).into()))),
            },
            Err(error) => Box::new(std::iter::once(Err(error.into()))),
        };
        futures::stream::iter(rows)
    });
    Ok(Response::Query(QueryResponse::new(described, rows)))
}

fn fields(schema: &SchemaRef, format: &Format, client: &impl ClientInfo) -> PgWireResult<Vec<FieldInfo>> {
    check_formats(format, schema.fields().len(), "columns")?;
    let options = Arc::new(FormatOptions::from_client_metadata(client.metadata()));
    arrow_schema_to_pg_fields(schema, format, Some(options))
}

fn text_fields(columns: Vec<String>, format: &Format) -> PgWireResult<Vec<FieldInfo>> {
    check_formats(format, columns.len(), "columns")?;
    let field = |(index, name)| FieldInfo::new(name, None, None, Type::TEXT, format.format_for(index));
    Ok(columns.into_iter().enumerate().map(field).collect())
}

/// One or two columns of text.
fn text_rows(columns: Vec<String>, rows: Vec<(String, String)>, format: &Format) -> PgWireResult<QueryResponse> {
    let has_names = columns.len() == 2;
    let fields = Arc::new(text_fields(columns, format)?);
    let encode = |(name, value): (String, String)| {
        let mut encoder = DataRowEncoder::new(fields.clone());
        if has_names {
            encoder.encode_field(&name)?;
        }
        encoder.encode_field(&value)?;
        Ok(encoder.take_row())
    };
    let rows: Vec<PgWireResult<DataRow>> = rows.into_iter().map(encode).collect();
    let mut response = QueryResponse::new(fields, futures::stream::iter(rows));
    response.set_command_tag("SHOW");
    Ok(response)
}

/// The number that a command answers with in its column `rows` or `count`.
fn affected_rows(batch: &RecordBatch) -> Option<usize> {
    let column = batch.column_by_name("rows").or_else(|| batch.column_by_name("count"))?;
    let numbers = cast(column, &DataType::Int64).ok()?;
    let numbers: &Int64Array = numbers.as_primitive::<Int64Type>();
    usize::try_from(numbers.iter().flatten().sum::<i64>()).ok()
}

/// Ready when the client asks to cancel what it has started last.
async fn cancel_asked(client: &impl ClientInfo) -> BoxFuture<'static, ()> {
    let Some(handle) = client.session_extensions().get::<Arc<ConnectionHandle>>() else {
        return std::future::pending().boxed();
    };
    let asked = handle.start_query().await;
    async move {
        // The sending side is dropped when the next statement starts, which is no wish to cancel.
        if asked.await.is_err() {
            std::future::pending().await
        }
    }
    .boxed()
}

#[async_trait]
impl SimpleQueryHandler for Handler {
    async fn do_query<C>(&self, client: &mut C, query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let mut responses = Vec::new();
        for text in split::statements(query) {
            match self.simple(client, text).await {
                Ok(response) => responses.push(response),
                // What came before has happened and is told; what comes after is not done.
                Err(error) => {
                    self.shared.counters.postgres_errors.fetch_add(1, Relaxed);
                    responses.push(Response::Error(Box::new(error.into())));
                    break;
                }
            }
        }
        if responses.is_empty() {
            responses.push(Response::EmptyQuery);
        }
        // Until here the caller waits for a cancel request; from here on the rows do.
        let asked = cancel_asked(client).await.shared();
        for response in &mut responses {
            if let Response::Query(query) = response {
                let rows = std::mem::replace(&mut query.data_rows, futures::stream::empty().boxed());
                query.data_rows = until_cancelled(rows, asked.clone()).boxed();
            }
        }
        Ok(responses)
    }
}

fn until_cancelled(
    rows: impl Stream<Item = PgWireResult<DataRow>> + Unpin + Send + 'static,
    asked: SharedFuture<BoxFuture<'static, ()>>,
) -> impl Stream<Item = PgWireResult<DataRow>> + Send + 'static {
    futures::stream::unfold(Some((rows, asked)), |state| async move {
        let (mut rows, mut asked) = state?;
        tokio::select! {
            biased;
            () = &mut asked => Some((Err(PgWireError::QueryCanceled), None)),
            row = rows.next() => row.map(|row| (row, Some((rows, asked)))),
        }
    })
}

#[async_trait]
impl QueryParser for Reader {
    type Statement = Prepared;

    async fn parse_sql<C>(&self, client: &C, sql: &str, _types: &[Option<Type>]) -> PgWireResult<Option<Prepared>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        match split::statements(sql).as_slice() {
            [] => Ok(None),
            [text] => Ok(Some(Reader::read(self, &texts_of(client).expanded(text)?, true).await?)),
            _ => Err(error("42601", "cannot insert multiple commands into a prepared statement")),
        }
    }

    fn get_parameter_types(&self, statement: &Prepared) -> PgWireResult<Vec<Type>> {
        match statement {
            Prepared::Local(_) => Ok(Vec::new()),
            Prepared::Read { plan, .. } => parameters::wire_types(&parameters::inferred(plan)?),
            Prepared::Command { text, .. } => Ok(vec![Type::UNKNOWN; parameters::count(text)]),
        }
    }

    fn get_result_schema(&self, statement: &Prepared, format: Option<&Format>) -> PgWireResult<Vec<FieldInfo>> {
        let format = format.unwrap_or(&Format::UnifiedText);
        let schema = match statement {
            Prepared::Local(statement) => {
                return local::columns(statement).map_or(Ok(Vec::new()), |columns| text_fields(columns, format));
            }
            Prepared::Command { schema: None, .. } => return Ok(Vec::new()),
            Prepared::Command { schema: Some(schema), .. } => schema.clone(),
            Prepared::Read { plan, .. } => plan.schema().inner().clone(),
        };
        check_formats(format, schema.fields().len(), "columns")?;
        arrow_schema_to_pg_fields(&schema, format, None)
    }
}

#[async_trait]
impl ExtendedQueryHandler for Handler {
    type Statement = Prepared;
    type QueryParser = Reader;

    fn query_parser(&self) -> Arc<Reader> {
        self.reader.clone()
    }

    /// A cursor of DECLARE can be described like a portal, and FETCH answers with its columns.
    async fn on_describe<C>(&self, client: &mut C, message: Describe) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        let is_portal = message.target_type == TARGET_TYPE_BYTE_PORTAL;
        let fetched = |prepared: &Prepared| match prepared {
            Prepared::Local(statement) => local::fetched_cursor(statement),
            _ => None,
        };
        let store = client.portal_store();
        let cursor = match (is_portal, store.get_portal(name), store.get_statement(name)) {
            (true, Some(Entry::Value(portal)), _) => fetched(&portal.statement.statement),
            (true, None, _) => Some(name.to_owned()),
            (false, _, Some(Entry::Value(statement))) => fetched(&statement.statement),
            _ => None,
        };
        let Some(fields) = cursor.and_then(|cursor| cursors_of(client).columns(&cursor)) else {
            return self._on_describe(client, message).await;
        };
        if is_portal {
            send_describe_response(client, &DescribePortalResponse::new(fields.to_vec())).await
        } else {
            send_describe_response(client, &DescribeStatementResponse::new(Vec::new(), fields.to_vec())).await
        }
    }

    /// Streams the rows of a portal, where pgwire's own way gathers them first.
    async fn on_execute<C>(&self, client: &mut C, message: Execute) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        let portal = match client.portal_store().get_portal(name) {
            Some(Entry::Value(portal)) => portal,
            Some(Entry::Empty) => {
                let empty = PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new());
                return Ok(client.feed(empty).await?);
            }
            None => return Err(PgWireError::PortalNotFound(name.to_owned())),
        };
        let mut asked = cancel_asked(client).await;
        let state = portal.state();
        let mut state = state.lock().await;
        if matches!(*state, PortalExecutionState::Initial) {
            let response = tokio::select! {
                biased;
                () = &mut asked => Err(PgWireError::QueryCanceled),
                response = ExtendedQueryHandler::do_query(self, client, &portal, 0) => response,
            }?;
            match response {
                Response::Query(rows) => *state = PortalExecutionState::Suspended(rows),
                other => return complete(client, other).await,
            }
        }
        let most = usize::try_from(message.max_rows).ok().filter(|most| *most > 0);
        let PortalExecutionState::Suspended(response) = &mut *state else {
            let tag = CommandComplete::from(Tag::new("SELECT").with_rows(0));
            return Ok(client.feed(PgWireBackendMessage::CommandComplete(tag)).await?);
        };
        let tag = response.command_tag().to_owned();
        let mut sent = 0;
        loop {
            if most.is_some_and(|most| sent >= most) {
                return Ok(client.feed(PgWireBackendMessage::PortalSuspended(PortalSuspended::new())).await?);
            }
            let row = tokio::select! {
                biased;
                () = &mut asked => Some(Err(PgWireError::QueryCanceled)),
                row = response.data_rows().next() => row,
            };
            match row.transpose() {
                Ok(Some(row)) => client.feed(PgWireBackendMessage::DataRow(row)).await?,
                Ok(None) => break,
                Err(error) => {
                    *state = PortalExecutionState::Finished;
                    return Err(error);
                }
            }
            sent += 1;
        }
        *state = PortalExecutionState::Finished;
        let tag = CommandComplete::from(Tag::new(&tag).with_rows(sent));
        Ok(client.feed(PgWireBackendMessage::CommandComplete(tag)).await?)
    }

    async fn do_query<C>(&self, client: &mut C, portal: &Portal<Prepared>, _max_rows: usize) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        self.shared.counters.postgres_statements.fetch_add(1, Relaxed);
        let prepared = &portal.statement.statement;
        refuse_in_failed_transaction(client, prepared)?;
        let outcome = match prepared {
            Prepared::Local(statement) => return self.local(client, statement, &portal.result_column_format).await,
            Prepared::Read { statement, plan } => {
                let values = parameters::values(portal, &parameters::inferred(plan)?)?;
                let outcome = self.read(statement, Some(values), local::statement_timeout(client)).await?;
                if let Outcome::Rows(rows, _) = &outcome
                    && rows.schema.fields().len() != plan.schema().fields().len()
                {
                    return Err(error("0A000", "cached plan must not change result type"));
                }
                outcome
            }
            Prepared::Command { text, .. } => {
                let needed = vec![None; parameters::count(text)];
                let values = parameters::values(portal, &needed)?;
                self.command(&parameters::written_in(text, &values)?).await?
            }
        };
        respond(outcome, &portal.result_column_format, client)
    }
}

/// Tells the end of a statement without rows.
async fn complete<C>(client: &mut C, response: Response) -> PgWireResult<()>
where
    C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
    C::PortalStore: PortalStore,
    C::Error: Debug,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    let status = client.transaction_status();
    let tag = match response {
        Response::Execution(tag) => tag,
        Response::TransactionStart(tag) => {
            client.set_transaction_status(status.to_in_transaction_state());
            tag
        }
        Response::TransactionEnd(tag) => {
            client.set_transaction_status(status.to_idle_state());
            client.portal_store().rm_portal(DEFAULT_NAME);
            tag
        }
        Response::Error(info) => return Err(PgWireError::UserError(info)),
        _ => return Err(error("0A000", "COPY is not supported")),
    };
    Ok(client.feed(PgWireBackendMessage::CommandComplete(tag.into())).await?)
}
