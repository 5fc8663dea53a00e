//! Cursors of DECLARE: rows that wait, in text format, until FETCH takes some of them.

use super::errors::error;
use datafusion_postgres::pgwire::api::ClientInfo;
use datafusion_postgres::pgwire::api::results::{FieldInfo, QueryResponse};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::data::DataRow;
use futures::StreamExt;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Cursors that one connection may hold open.
const MOST: usize = 100;

/// The cursors of one connection.
#[derive(Default)]
pub(super) struct Cursors(Mutex<HashMap<String, Cursor>>);

#[derive(Clone)]
struct Cursor {
    columns: Arc<Vec<FieldInfo>>,
    rows: Arc<tokio::sync::Mutex<BoxStream<'static, PgWireResult<DataRow>>>>,
}

/// The cursors of this client.
pub(super) fn cursors_of(client: &impl ClientInfo) -> Arc<Cursors> {
    client.session_extensions().get_or_insert_with(Cursors::default)
}

impl Cursors {
    pub(super) fn declare(&self, name: String, rows: QueryResponse) -> PgWireResult<()> {
        let mut cursors = self.0.lock();
        if cursors.contains_key(&name) {
            return Err(error("42P03", format!("cursor \"{name}\" already exists")));
        }
        if cursors.len() >= MOST {
            return Err(error("53000", format!("{MOST} cursors are open: CLOSE one")));
        }
        let columns = rows.row_schema();
        cursors.insert(name, Cursor { columns, rows: Arc::new(tokio::sync::Mutex::new(rows.data_rows)) });
        Ok(())
    }

    /// The next rows, at most so many.
    pub(super) fn fetch(&self, name: &str, most: usize) -> PgWireResult<QueryResponse> {
        let cursor = self.0.lock().get(name).cloned().ok_or_else(|| missing(name))?;
        let rows = futures::stream::unfold((cursor.rows, most), |(rows, left)| async move {
            let left = left.checked_sub(1)?;
            let row = rows.lock().await.next().await?;
            Some((row, (rows, left)))
        });
        let mut response = QueryResponse::new(cursor.columns, rows);
        response.set_command_tag("FETCH");
        Ok(response)
    }

    /// Closes one cursor, or all.
    pub(super) fn close(&self, name: Option<&str>) -> PgWireResult<()> {
        let mut cursors = self.0.lock();
        match name {
            None => cursors.clear(),
            Some(name) => drop(cursors.remove(name).ok_or_else(|| missing(name))?),
        }
        Ok(())
    }

    pub(super) fn columns(&self, name: &str) -> Option<Arc<Vec<FieldInfo>>> {
        self.0.lock().get(name).map(|cursor| cursor.columns.clone())
    }
}

fn missing(name: &str) -> PgWireError {
    error("34000", format!("cursor \"{name}\" does not exist"))
}
