//! A view's columns in a table.

use crate::{StagedEpoch, TableError};
use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use rivermere_base::Changes;

/// Where each column of a table is in a view.
#[derive(Clone, Debug)]
pub struct Fit {
    places: Vec<Option<usize>>,
    columns: SchemaRef,
}

impl Fit {
    /// `columns` are the table's, as they are read; `stored` is the type that a type of the view has in the format, and
    /// `is_required` says which columns may not be null.
    ///
    /// # Errors
    /// [`TableError::SchemaMismatch`], with the first column that does not fit.
    pub fn new(
        location: &str,
        view: &Schema,
        columns: &SchemaRef,
        stored: impl Fn(&DataType) -> Option<DataType>,
        is_required: impl Fn(&str) -> bool,
    ) -> Result<Self, TableError> {
        let mismatch = |reason: String| TableError::SchemaMismatch { location: location.to_owned(), reason };
        for column in view.fields() {
            let have = columns.field_with_name(column.name()).map(|field| field.data_type());
            let have = have.map_err(|_| mismatch(format!("it has no column '{}'", column.name())))?;
            let want = stored(column.data_type());
            if want.as_ref() != Some(have) {
                let shown = want.map_or_else(|| column.data_type().to_string(), |want| want.to_string());
                return Err(mismatch(format!("column '{}' is {have} there and {shown} in the view", column.name())));
            }
        }
        let place = |field: &FieldRef| {
            let at = view.index_of(field.name()).ok();
            match at.is_none() && is_required(field.name()) {
                true => Err(mismatch(format!("column '{}' is required there, and not in the view", field.name()))),
                false => Ok(at),
            }
        };
        let places = columns.fields().iter().map(place).collect::<Result<_, _>>()?;
        Ok(Self { places, columns: columns.clone() })
    }

    /// Rows of the view with the columns of the table.
    ///
    /// # Errors
    /// For a value that the table's type does not have.
    pub fn changes(&self, epochs: &[StagedEpoch]) -> Result<Vec<Changes>, ArrowError> {
        let options = CastOptions { safe: false, ..CastOptions::default() };
        let conform = |changes: &Changes| {
            let batch = changes.batch();
            let column = |(place, field): (&Option<usize>, &FieldRef)| -> Result<ArrayRef, ArrowError> {
                match place {
                    Some(at) => cast_with_options(batch.column(*at), field.data_type(), &options),
                    None => Ok(new_null_array(field.data_type(), batch.num_rows())),
                }
            };
            let columns = self.places.iter().zip(self.columns.fields()).map(column).collect::<Result<Vec<_>, _>>()?;
            Changes::new(RecordBatch::try_new(self.columns.clone(), columns)?, changes.weights().clone())
        };
        epochs.iter().flat_map(|staged| &staged.changes).map(conform).collect()
    }
}
