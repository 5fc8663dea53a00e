//! The files of a snapshot as the pieces of a scan.

use crate::files::Planned;
use crate::manifests::DataFile;
use crate::reading::{Reading, place_fields};
use crate::types::{arrow_type, from_bytes};
use arrow::array::{ArrayRef, UInt64Array, new_null_array};
use arrow::datatypes::SchemaRef;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, ScalarValue};
use datafusion::error::Result;
use futures::future::BoxFuture;
use iceberg::spec::{NestedFieldRef, PrimitiveType, Type};
use rivermere_table::{Batches, Filter, Pieces, TableError};
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
