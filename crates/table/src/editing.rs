//! Statements over rows of a table that is read piece by piece: rows are taken out of the pieces that have them, and others are
//! written.

use crate::merging::{Deed, MergeError, MergePlan, SEVERAL_MATCH, clauses, plan_merge};
use crate::pieces::{PIECE_COLUMN, PieceScan, Pieces, ROW_COLUMN};
use crate::{MergeVerb, TableError};
use arrow::array::{AsArray as _, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{FieldRef, Int64Type, SchemaRef};
use async_trait::async_trait;
use datafusion::common::{DFSchema, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, ExprSchemable as _, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::{DataFrame, ident};
use futures::TryStreamExt as _;
use roaring::RoaringTreemap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where a statement's rows go.
#[async_trait]
pub trait Target<P>: Send {
    /// Rows whose columns are the table's, in their order, which are added.
    async fn write(&mut self, rows: &RecordBatch) -> Result<(), TableError>;

    /// Rows of a piece that go, by their places in it. Told once of each piece.
    async fn take(&mut self, piece: &P, gone: RoaringTreemap) -> Result<(), TableError>;
}

/// A statement over a version of a table.
pub struct Editing<'a, P: Pieces> {
    pub verb: &'static str,
    /// Of the table, for messages.
    pub location: String,
    pub session: &'a SessionState,
    pub reader: Arc<P>,
    /// The table's columns.
    pub schema: SchemaRef,
    pub pieces: Vec<P::Piece>,
}

impl<P: Pieces> Editing<'_, P> {
    fn failed(&self, error: DataFusionError) -> TableError {
        refused(&self.location, self.verb, error)
    }

    /// Rows of pieces with their places.
    fn over(&self, pieces: Vec<P::Piece>) -> Arc<PieceScan<P>> {
        Arc::new(PieceScan { reader: self.reader.clone(), schema: self.schema.clone(), pieces }.with_places())
    }

    /// Adds the rows of a plan.
    ///
    /// # Errors
    /// Those of the plan, as what the statement asks for, and those of the target.
    pub async fn append(&self, target: &mut impl Target<P::Piece>, rows: &LogicalPlan) -> Result<(), TableError> {
        let failed = |error| self.failed(error);
        let plan = self.session.create_physical_plan(rows).await.map_err(failed)?;
        let mut batches = execute_stream(plan, self.session.task_ctx()).map_err(failed)?;
        while let Some(batch) = batches.try_next().await.map_err(failed)? {
            target.write(&batch).await?;
        }
        Ok(())
    }

    /// Takes out the rows for which the condition holds, all without one; how many that were.
    ///
    /// # Errors
    /// Like [`Editing::append`].
    pub async fn delete(&self, target: &mut impl Target<P::Piece>, condition: Option<&str>) -> Result<u64, TableError> {
        self.replace(target, condition, |_| Ok(vec![])).await
    }

    /// Sets columns in the rows for which the condition holds, in all without one; how many that were.
    ///
    /// # Errors
    /// Like [`Editing::append`].
    pub async fn update(
        &self,
        target: &mut impl Target<P::Piece>,
        assignments: &[(String, String)],
        condition: Option<&str>,
    ) -> Result<u64, TableError> {
        let set = |schema: &DFSchema| {
            let column = |field: &FieldRef| -> Result<Expr, DataFusionError> {
                let Some((_, value)) = assignments.iter().find(|(name, _)| name == field.name()) else {
                    return Ok(ident(field.name()));
                };
                let value = self.session.create_logical_expr(value, schema)?.cast_to(field.data_type(), schema)?;
                Ok(value.alias(field.name()))
            };
            self.schema.fields().iter().map(column).collect()
        };
        self.replace(target, condition, set).await
    }

    /// Takes out the rows for which the condition holds, and puts in what `changed` makes of them, if anything.
    async fn replace(
        &self,
        target: &mut impl Target<P::Piece>,
        condition: Option<&str>,
        changed: impl Fn(&DFSchema) -> Result<Vec<Expr>, DataFusionError>,
    ) -> Result<u64, TableError> {
        let mut rows = 0;
        for piece in &self.pieces {
            let work = async {
                let plan = provider_as_source(self.over(vec![piece.clone()]));
                let plan = LogicalPlanBuilder::scan("target", plan, None)?.build()?;
                let whole = DataFrame::new(self.session.clone(), plan);
                let schema = whole.schema().clone();
                let condition = condition.map(|condition| self.session.create_logical_expr(condition, &schema));
                let meant = match condition.transpose()? {
                    Some(condition) => whole.filter(condition)?,
                    None => whole,
                };
                let mut shown = vec![ident(PIECE_COLUMN), ident(ROW_COLUMN)];
                shown.extend(changed(&schema)?);
                meant.select(shown)?.execute_stream().await
            };
            let mut batches = work.await.map_err(|error| self.failed(error))?;
            let mut marks = BTreeMap::new();
            while let Some(batch) = batches.try_next().await.map_err(|error| self.failed(error))? {
                rows += mark(&mut marks, &batch);
                if batch.num_columns() > 2 {
                    let values: Vec<usize> = (2..batch.num_columns()).collect();
                    target.write(&batch.project(&values).map_err(|error| self.failed(error.into()))?).await?;
                }
            }
            for gone in marks.into_values() {
                target.take(piece, gone).await?;
            }
        }
        Ok(rows)
    }

    /// Does what a merge says: rows that are changed or deleted are taken out, and what is changed or new is written. How many were
    /// deleted, updated and inserted.
    ///
    /// # Errors
    /// Like [`Editing::append`]; [`TableError::Verb`] when several rows of the source match one of the table.
    pub async fn merge(&self, target: &mut impl Target<P::Piece>, merge: &MergeVerb) -> Result<[u64; 3], TableError> {
        let no = |reason: String| {
            let location = self.location.clone();
            TableError::Verb { location, verb: self.verb, reason }
        };
        let name = TableReference::bare(&*merge.target_alias);
        let scan = LogicalPlanBuilder::scan(name, provider_as_source(self.over(self.pieces.clone())), None);
        let scan = scan.and_then(LogicalPlanBuilder::build).map_err(|error| self.failed(error))?;
        let work = plan_merge(self.session, scan, &[PIECE_COLUMN, ROW_COLUMN], &self.schema, merge);
        let MergePlan { plan, deeds, may_match_twice } = work.map_err(|error| match error {
            MergeError::Plan(error) => self.failed(error),
            MergeError::Refused(reason) => no(reason),
        })?;
        let mut marks: BTreeMap<i64, RoaringTreemap> = BTreeMap::new();
        let [mut deleted, mut updated, mut inserted] = [0; 3];
        let stream = DataFrame::new(self.session.clone(), plan).execute_stream().await;
        let mut batches = stream.map_err(|error| self.failed(error))?;
        while let Some(batch) = batches.try_next().await.map_err(|error| self.failed(error))? {
            let done = clauses(&batch).map_err(|error| self.failed(error))?.clone();
            for (number, deed) in (0_u8..).zip(&deeds) {
                let these = done.iter().map(|clause| Some(clause == Some(number))).collect();
                let these = filter_record_batch(&batch, &these).map_err(|error| self.failed(error.into()))?;
                let count = these.num_rows() as u64;
                let new = if *deed == Deed::Insert { count } else { mark(&mut marks, &these) };
                if new < count && !may_match_twice {
                    return Err(no(SEVERAL_MATCH.to_owned()));
                }
                match deed {
                    Deed::Delete => deleted += new,
                    Deed::Update => updated += new,
                    Deed::Insert => inserted += new,
                }
                if *deed != Deed::Delete && count > 0 {
                    let values: Vec<usize> = (3..these.num_columns()).collect();
                    let values = these.project(&values).map_err(|error| self.failed(error.into()))?;
                    target.write(&values).await?;
                }
            }
        }
        for (number, gone) in marks {
            if let Some(piece) = usize::try_from(number).ok().and_then(|number| self.pieces.get(number)) {
                target.take(piece, gone).await?;
            }
        }
        Ok([deleted, updated, inserted])
    }
}

/// Notes the places of rows, which are in the first two columns; how many were not noted before.
fn mark(marks: &mut BTreeMap<i64, RoaringTreemap>, rows: &RecordBatch) -> u64 {
    let (pieces, places) = (rows.column(0).as_primitive::<Int64Type>(), rows.column(1).as_primitive::<Int64Type>());
    let new = pieces.values().iter().zip(places.values()).filter(|(piece, place)| {
        u64::try_from(**place).is_ok_and(|place| marks.entry(**piece).or_default().insert(place))
    });
    new.count() as u64
}

/// Why a plan failed: what is below it, the storage, or what the statement asks for.
fn refused(location: &str, verb: &'static str, error: DataFusionError) -> TableError {
    const CHANGING: &str = "changing rows";
    let location = location.to_owned();
    match error.find_root() {
        DataFusionError::IoError(_) | DataFusionError::ObjectStore(_) | DataFusionError::ResourcesExhausted(_) => {
            TableError::storage(CHANGING, location, error)
        }
        // A table's own error, which the scan has passed on.
        DataFusionError::External(inner) if inner.is::<TableError>() => TableError::storage(CHANGING, location, error),
        root => TableError::Verb { location, verb, reason: root.strip_backtrace() },
    }
}
