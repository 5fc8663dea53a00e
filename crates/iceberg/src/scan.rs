//! A snapshot as a relation of DataFusion.

use crate::files::Planned;
use crate::manifests::DataFile;
use crate::reading::{Batches, FILE_NUMBER, Reading, place_fields};
use crate::types::{arrow_field, arrow_type, from_bytes};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, UInt64Array, new_null_array};
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, ScalarValue};
use datafusion::datasource::TableType;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::{StreamExt as _, TryStreamExt as _};
use iceberg::spec::{NestedFieldRef, PrimitiveType, Type};
use rivermere_table::Filter;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

/// The rows of one snapshot.
pub(crate) struct Snapshot {
    pub(crate) reading: Arc<Reading>,
    pub(crate) fields: Vec<NestedFieldRef>,
    pub(crate) schema: SchemaRef,
    pub(crate) files: Vec<Planned>,
}

impl Snapshot {
    /// With the places of rows behind the columns: the number of their file in `files`, and their own in it.
    pub(crate) fn with_places(mut self) -> Self {
        let mut shown = self.schema.fields().to_vec();
        shown.extend(place_fields().iter().map(|field| arrow_field(field, false)));
        self.fields.extend(place_fields());
        self.schema = Arc::new(Schema::new(shown));
        self
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("reading", &self.reading)
            .field("files", &self.files.len())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for Snapshot {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Files are left out whose bounds say that no row of theirs is asked for; rows are not looked at.
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
        let all: Vec<usize> = (0..self.fields.len()).collect();
        let wanted = projection.unwrap_or(&all);
        let fields: Vec<NestedFieldRef> = wanted.iter().filter_map(|at| self.fields.get(*at).cloned()).collect();
        let schema = Arc::new(self.schema.project(wanted)?);
        let mut parts: Vec<(u64, Vec<(i64, Planned)>)> = vec![(0, vec![]); session.config().target_partitions().max(1)];
        let filter = Filter::new(session, &self.schema, filters)?;
        let mut files = self.asked_for(filter.as_ref())?;
        files.sort_by_key(|(_, planned)| std::cmp::Reverse(planned.file.bytes));
        for (number, planned) in files {
            if let Some((bytes, part)) = parts.iter_mut().min_by_key(|(bytes, _)| *bytes) {
                *bytes += planned.file.bytes.max(1);
                part.push((number, planned));
            }
        }
        let part = |(_, files): (u64, Vec<(i64, Planned)>)| {
            let (reading, fields, schema) = (self.reading.clone(), fields.clone(), schema.clone());
            Arc::new(Part { reading, fields, schema, files, filter: filter.clone() }) as Arc<dyn PartitionStream>
        };
        let first = parts.first().is_some_and(|(_, files)| files.is_empty());
        let parts: Vec<_> = parts.into_iter().filter(|(_, files)| !files.is_empty() || first).map(part).collect();
        Ok(Arc::new(StreamingTableExec::try_new(schema.clone(), parts, None, [], false, limit)?))
    }
}

impl Snapshot {
    /// The files that may have rows for which the filter holds.
    fn asked_for(&self, filter: Option<&Filter>) -> Result<Vec<(i64, Planned)>> {
        let all = (0..).zip(self.files.iter().cloned());
        let Some(filter) = filter else { return Ok(all.collect()) };
        let kept = filter.kept(&Bounds { fields: &self.fields, files: &self.files })?;
        Ok(all.zip(kept).filter(|(_, kept)| *kept).map(|(file, _)| file).collect())
    }
}

/// What manifests tell of the columns of files.
struct Bounds<'a> {
    fields: &'a [NestedFieldRef],
    files: &'a [Planned],
}

impl Bounds<'_> {
    fn field(&self, column: &Column) -> Option<&NestedFieldRef> {
        self.fields.iter().find(|field| field.name == column.name)
    }

    fn values(&self, column: &Column, of: impl Fn(&DataFile) -> &HashMap<i32, Vec<u8>>) -> Option<ArrayRef> {
        let field = self.field(column)?;
        let Type::Primitive(primitive) = field.field_type.as_ref() else { return None };
        // Bounds of floats leave out NaN, which is larger than all in a filter.
        if matches!(primitive, PrimitiveType::Float | PrimitiveType::Double) {
            return None;
        }
        let none = ScalarValue::try_from(&arrow_type(&field.field_type, false)).ok()?;
        let value = |planned: &Planned| {
            let bytes = of(&planned.file).get(&field.id)?;
            from_bytes(bytes, primitive)
        };
        let values = self.files.iter().map(|planned| value(planned).unwrap_or_else(|| none.clone()));
        match self.files.is_empty() {
            true => Some(new_null_array(&none.data_type(), 0)),
            false => ScalarValue::iter_to_array(values).ok(),
        }
    }
}

impl PruningStatistics for Bounds<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column, |file| &file.lower)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column, |file| &file.upper)
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let field = self.field(column)?;
        let count = |planned: &Planned| planned.file.nulls.get(&field.id).and_then(|count| u64::try_from(*count).ok());
        Some(Arc::new(self.files.iter().map(count).collect::<UInt64Array>()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(self.files.iter().map(|planned| Some(planned.file.records)).collect::<UInt64Array>()))
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<arrow::array::BooleanArray> {
        None
    }
}

/// Some of the files, one after the other.
struct Part {
    reading: Arc<Reading>,
    fields: Vec<NestedFieldRef>,
    schema: SchemaRef,
    /// With their numbers.
    files: Vec<(i64, Planned)>,
    /// What may leave out some of their rows.
    filter: Option<Filter>,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").field("files", &self.files.len()).finish_non_exhaustive()
    }
}

/// With the number of the file in the column that is for it.
fn numbered(reading: &Arc<Reading>, number: i64, fields: &[NestedFieldRef], rows: Batches) -> Batches {
    let Some(at) = fields.iter().position(|field| field.id == FILE_NUMBER) else { return rows };
    let reading = reading.clone();
    let numbered = move |batch: std::result::Result<RecordBatch, rivermere_table::TableError>| {
        let batch = batch?;
        let mut columns = batch.columns().to_vec();
        if let Some(column) = columns.get_mut(at) {
            *column = Arc::new(Int64Array::from_value(number, batch.num_rows()));
        }
        RecordBatch::try_new(batch.schema(), columns).map_err(|error| reading.failed("numbering rows", error))
    };
    rows.map(numbered).boxed()
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (reading, fields, filter) = (self.reading.clone(), self.fields.clone(), self.filter.clone());
        let rows = futures::stream::iter(self.files.clone()).then(move |(number, planned)| {
            let (reading, fields, filter) = (reading.clone(), fields.clone(), filter.clone());
            async move {
                let rows = reading.filtered(&planned, &fields, filter.as_ref()).await?;
                Ok(numbered(&reading, number, &fields, rows))
            }
        });
        let schema = self.schema.clone();
        let told = |error: rivermere_table::TableError| DataFusionError::External(Box::new(error));
        let shown = move |batch: std::result::Result<RecordBatch, rivermere_table::TableError>| {
            let batch = batch.map_err(told)?;
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            Ok(RecordBatch::try_new_with_options(schema.clone(), batch.columns().to_vec(), &options)?)
        };
        let rows = rows.try_flatten().map(shown);
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows))
    }
}
