//! The files of a snapshot as the pieces of a scan.

use crate::files::Planned;
use crate::manifests::DataFile;
use crate::reading::{Reading, place_fields};
use crate::types::{arrow_type, from_bytes};
use arrow::array::{ArrayRef, UInt64Array, new_null_array};
use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{Column, ColumnStatistics, ScalarValue, Statistics};
use datafusion::error::Result;
use futures::future::BoxFuture;
use iceberg::spec::{NestedFieldRef, PrimitiveType, Type};
use rivermere_table::{Batches, Filter, Pieces, TableError};
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Reads the files of one snapshot.
#[derive(Debug)]
pub(crate) struct DataFiles {
    pub(crate) reading: Arc<Reading>,
    /// The table's columns.
    pub(crate) fields: Vec<NestedFieldRef>,
}

impl Pieces for DataFiles {
    type Piece = Planned;

    fn bytes(planned: &Planned) -> u64 {
        planned.file.bytes
    }

    fn kept(&self, files: &[Planned], filter: &Filter) -> Result<Vec<bool>> {
        filter.kept(&Bounds { fields: &self.fields, files })
    }

    fn statistics(&self, files: &[(i64, Planned)], columns: &SchemaRef) -> Statistics {
        let all = || files.iter().map(|(_, planned)| planned);
        let records = all().map(|planned| usize::try_from(planned.file.records).unwrap_or(usize::MAX));
        let records = records.fold(0_usize, usize::saturating_add);
        let column = |field: &FieldRef| {
            let unknown = ColumnStatistics::new_unknown();
            let Some(own) = self.fields.iter().find(|own| own.name == *field.name()) else { return unknown };
            let nulls = all().map(|planned| usize::try_from(*planned.file.nulls.get(&own.id)?).ok());
            let nulls = nulls.sum::<Option<usize>>().map_or(Precision::Absent, Precision::Inexact);
            let Type::Primitive(primitive) = own.field_type.as_ref() else { return unknown.with_null_count(nulls) };
            // Bounds of text may be cut off, and those of floats leave out NaN.
            if matches!(primitive, PrimitiveType::Float | PrimitiveType::Double | PrimitiveType::String) {
                return unknown.with_null_count(nulls);
            }
            let bound = |of: fn(&DataFile) -> &HashMap<i32, Vec<u8>>, wanted: Ordering| {
                let mut found: Option<ScalarValue> = None;
                for planned in all() {
                    let value = of(&planned.file).get(&own.id).and_then(|bytes| from_bytes(bytes, primitive));
                    let Some(value) = value else { return Precision::Absent };
                    if found.as_ref().is_none_or(|found| value.partial_cmp(found) == Some(wanted)) {
                        found = Some(value);
                    }
                }
                found.map_or(Precision::Absent, Precision::Inexact)
            };
            unknown
                .with_null_count(nulls)
                .with_min_value(bound(|file| &file.lower, Ordering::Less))
                .with_max_value(bound(|file| &file.upper, Ordering::Greater))
        };
        // For whoever chooses a plan: rows that are deleted are counted, and no question is answered by these figures alone.
        Statistics {
            num_rows: Precision::Inexact(records),
            total_byte_size: Precision::Absent,
            column_statistics: columns.fields().iter().map(column).collect(),
        }
    }

    fn rows(
        self: Arc<Self>,
        planned: Planned,
        columns: SchemaRef,
        filter: Option<Filter>,
    ) -> BoxFuture<'static, std::result::Result<Batches, TableError>> {
        Box::pin(async move {
            let places = place_fields();
            let own = |name: &str| self.fields.iter().chain(&places).find(|field| field.name == name).cloned();
            let wanted: Vec<NestedFieldRef> = columns.fields().iter().filter_map(|field| own(field.name())).collect();
            self.reading.filtered(&planned, &wanted, filter.as_ref()).await
        })
    }
}

/// What manifests tell of the columns of files.
pub(crate) struct Bounds<'a> {
    pub(crate) fields: &'a [NestedFieldRef],
    pub(crate) files: &'a [Planned],
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
