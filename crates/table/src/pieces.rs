//! A version of a table as a relation of DataFusion, read piece by piece: file by file, or slice by slice.

use crate::parts::PartsExec;
use crate::{Filter, TableError};
use arrow::array::{Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Statistics;
use datafusion::datasource::TableType;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use std::fmt;
use std::sync::Arc;

/// Rows of a piece.
pub type Batches = BoxStream<'static, std::result::Result<RecordBatch, TableError>>;

/// The place of a row, as columns that can be asked for behind the others: the number of its piece, and its own in that.
pub const PIECE_COLUMN: &str = "__rivermere_file";
pub const ROW_COLUMN: &str = "__rivermere_row";

/// What reads the pieces of a version.
pub trait Pieces: fmt::Debug + Send + Sync + 'static {
    type Piece: Clone + fmt::Debug + Send + Sync + 'static;

    /// About how much of it is read.
    fn bytes(piece: &Self::Piece) -> u64;

    /// Which pieces may have rows for which the filter holds.
    ///
    /// # Errors
    /// When what is known of them is of other types than the columns.
    fn kept(&self, pieces: &[Self::Piece], _filter: &Filter) -> Result<Vec<bool>> {
        Ok(vec![true; pieces.len()])
    }

    /// About what rows pieces have, without reading them, for some of the columns.
    fn statistics(&self, _pieces: &[(i64, Self::Piece)], columns: &SchemaRef) -> Statistics {
        Statistics::new_unknown(columns)
    }

    /// The rows of a piece with columns by their names, [`ROW_COLUMN`] among them where it is asked for: it must say the same of a
    /// row whenever that is read. Rows may be left out for which the filter does not hold.
    fn rows(
        self: Arc<Self>,
        piece: Self::Piece,
        columns: SchemaRef,
        filter: Option<Filter>,
    ) -> BoxFuture<'static, std::result::Result<Batches, TableError>>;
}

/// The rows of pieces.
#[derive(Debug)]
pub struct PieceScan<P: Pieces> {
    pub reader: Arc<P>,
    pub schema: SchemaRef,
    pub pieces: Vec<P::Piece>,
}

impl<P: Pieces> PieceScan<P> {
    /// With the places of rows behind the columns.
    #[must_use]
    pub fn with_places(mut self) -> Self {
        let place = |name: &str| Arc::new(Field::new(name, DataType::Int64, false));
        let fields = self.schema.fields().iter().cloned().chain([place(PIECE_COLUMN), place(ROW_COLUMN)]);
        self.schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        self
    }
}

#[async_trait]
impl<P: Pieces> TableProvider for PieceScan<P> {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Pieces, and row groups, are left out whose bounds say that no row of theirs is asked for; rows are not looked at.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = match projection {
            Some(wanted) => Arc::new(self.schema.project(wanted)?),
            None => self.schema.clone(),
        };
        let filter = Filter::new(session, &self.schema, filters)?;
        let kept = match &filter {
            Some(filter) => self.reader.kept(&self.pieces, filter)?,
            None => vec![true; self.pieces.len()],
        };
        let pieces = (0..).zip(self.pieces.iter().cloned()).zip(kept).filter(|(_, kept)| *kept);
        let mut pieces: Vec<(i64, P::Piece)> = pieces.map(|(piece, _)| piece).collect();
        let statistics = self.reader.statistics(&pieces, &columns);
        // The largest first, each to whoever has least.
        pieces.sort_by_key(|(_, piece)| std::cmp::Reverse(P::bytes(piece)));
        let count = session.config().target_partitions().clamp(1, pieces.len().max(1));
        let mut parts: Vec<(u64, Vec<(i64, P::Piece)>)> = vec![(0, vec![]); count];
        for (number, piece) in pieces {
            if let Some((bytes, part)) = parts.iter_mut().min_by_key(|(bytes, _)| *bytes) {
                *bytes += P::bytes(&piece).max(1);
                part.push((number, piece));
            }
        }
        let part = |(_, pieces): (u64, Vec<(i64, P::Piece)>)| {
            let (reader, columns) = (self.reader.clone(), columns.clone());
            Arc::new(Part { reader, columns, pieces, filter: filter.clone() }) as Arc<dyn PartitionStream>
        };
        let parts = parts.into_iter().map(part).collect();
        let streams = StreamingTableExec::try_new(columns.clone(), parts, None, [], false, limit)?;
        Ok(Arc::new(PartsExec::new(streams, statistics)))
    }
}

/// Some of the pieces, one after the other.
#[derive(Debug)]
struct Part<P: Pieces> {
    reader: Arc<P>,
    columns: SchemaRef,
    /// With their numbers.
    pieces: Vec<(i64, P::Piece)>,
    filter: Option<Filter>,
}

impl<P: Pieces> PartitionStream for Part<P> {
    fn schema(&self) -> &SchemaRef {
        &self.columns
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (reader, columns, filter) = (self.reader.clone(), self.columns.clone(), self.filter.clone());
        let rows = futures::stream::iter(self.pieces.clone()).then(move |(number, piece)| {
            let rows = reader.clone().rows(piece, columns.clone(), filter.clone());
            let columns = columns.clone();
            async move { Ok::<_, TableError>(numbered(number, rows.await?, columns)) }
        });
        let told = |error: TableError| DataFusionError::External(Box::new(error));
        let rows = rows.map_err(told).try_flatten();
        Box::pin(RecordBatchStreamAdapter::new(self.columns.clone(), rows))
    }
}

/// With the number of the piece in the column that is for it.
fn numbered(number: i64, rows: Batches, columns: SchemaRef) -> BoxStream<'static, Result<RecordBatch>> {
    let at = columns.index_of(PIECE_COLUMN).ok();
    let numbered = move |batch: std::result::Result<RecordBatch, TableError>| {
        let batch = batch.map_err(|error| DataFusionError::External(Box::new(error)))?;
        let mut arrays = batch.columns().to_vec();
        if let Some(array) = at.and_then(|at| arrays.get_mut(at)) {
            *array = Arc::new(Int64Array::from_value(number, batch.num_rows()));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(columns.clone(), arrays, &options)?)
    };
    rows.map(numbered).boxed()
}
