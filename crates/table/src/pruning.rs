//! Row groups that a filter leaves out, by what Parquet files say of them.

use arrow::array::{Array as _, ArrayRef, BooleanArray, UInt64Array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder};
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::file::metadata::ParquetMetaData;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

/// A filter, as what statistics can answer.
#[derive(Clone)]
pub struct Filter {
    predicate: Arc<PruningPredicate>,
    columns: SchemaRef,
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filter").finish_non_exhaustive()
    }
}

impl Filter {
    /// The filters of a scan over `columns`; nothing where statistics cannot answer them.
    ///
    /// # Errors
    /// When they are no filters over these columns.
    pub fn new(session: &dyn Session, columns: &SchemaRef, filters: &[Expr]) -> Result<Option<Self>> {
        let Some(filter) = conjunction(filters.iter().cloned()) else { return Ok(None) };
        let schema = DFSchema::try_from(columns.as_ref().clone())?;
        let filter = session.create_physical_expr(filter, &schema)?;
        let predicate = PruningPredicateBuilder::new().with_file_schema(columns.clone()).try_build(filter);
        Ok(predicate.ok().map(|predicate| Self { predicate: Arc::new(predicate), columns: columns.clone() }))
    }

    /// Of which of some containers of rows there may be rows that are asked for.
    ///
    /// # Errors
    /// When the statistics are of other types than the columns.
    pub fn kept(&self, statistics: &impl PruningStatistics) -> Result<Vec<bool>> {
        self.predicate.prune(statistics)
    }

    /// The row groups of a file in which there may be rows that are asked for. `schema` has the file's columns, and `name_of` is what
    /// a column is called there.
    pub fn row_groups(
        &self,
        file: &ParquetMetaData,
        schema: &Schema,
        name_of: impl Fn(&str) -> Option<String>,
    ) -> Vec<usize> {
        let groups = file.num_row_groups();
        let name_of: Box<dyn Fn(&str) -> Option<String> + '_> = Box::new(name_of);
        let kept = self.kept(&RowGroups { file, schema, columns: &self.columns, name_of });
        // What cannot be answered leaves nothing out.
        let kept = kept.unwrap_or_else(|_| vec![true; groups]);
        (0..groups).filter(|group| kept.get(*group).copied().unwrap_or(true)).collect()
    }
}

struct RowGroups<'a> {
    file: &'a ParquetMetaData,
    schema: &'a Schema,
    columns: &'a Schema,
    name_of: Box<dyn Fn(&str) -> Option<String> + 'a>,
}

impl RowGroups<'_> {
    fn bounds(&self, column: &Column) -> Option<(ArrayRef, ArrayRef)> {
        let data_type = self.columns.field_with_name(&column.name).ok()?.data_type();
        row_group_bounds(self.file, self.schema, &(self.name_of)(&column.name)?, data_type)
    }
}

/// The least and the greatest value of a column in each row group, as `data_type`, which the table has for it; null where it is not
/// known. Nothing where the file's order of values is not the table's.
pub fn row_group_bounds(
    file: &ParquetMetaData,
    schema: &Schema,
    name: &str,
    data_type: &DataType,
) -> Option<(ArrayRef, ArrayRef)> {
    let own = schema.field_with_name(name).ok()?.data_type();
    if !is_same_order(own, data_type) || has_old_bounds(file, schema, name) {
        return None;
    }
    let of = StatisticsConverter::try_new(name, schema, file.file_metadata().schema_descr()).ok()?;
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let cast = |array: ArrayRef| cast_with_options(&array, data_type, &options).ok();
    Some((cast(of.row_group_mins(file.row_groups()).ok()?)?, cast(of.row_group_maxes(file.row_groups()).ok()?)?))
}

/// Whether what is less in a file is less in the table. Bounds of floats leave out NaN, which is larger than all in a filter; numbers as
/// text are ordered otherwise.
fn is_same_order(own: &DataType, table: &DataType) -> bool {
    let is_text = |of: &DataType| matches!(of, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    match (own, table) {
        (own, table) if own.is_floating() || table.is_floating() || own.is_nested() || table.is_nested() => false,
        (own, table) if own == table => true,
        (own, table) if own.is_signed_integer() && table.is_signed_integer() => true,
        (DataType::Decimal128(_, own), DataType::Decimal128(_, table)) => own == table,
        (DataType::Timestamp(..), DataType::Timestamp(..)) => true,
        (own, table) => is_text(own) && is_text(table),
    }
}

/// Bounds of before Parquet said how bytes are ordered: some writers took them for signed.
fn has_old_bounds(file: &ParquetMetaData, schema: &Schema, name: &str) -> bool {
    let is_bytes = !schema.field_with_name(name).is_ok_and(|field| {
        let of = field.data_type();
        of.is_signed_integer() || of.is_temporal() || *of == DataType::Boolean
    });
    is_bytes
        && file.row_groups().iter().flat_map(|group| group.columns()).any(|column| {
            let is_it = column.column_path().parts().first().is_some_and(|part| part == name);
            is_it && column.statistics().is_some_and(|statistics| statistics.is_min_max_deprecated())
        })
}

impl PruningStatistics for RowGroups<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column).map(|(min, _)| min)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column).map(|(_, max)| max)
    }

    fn num_containers(&self) -> usize {
        self.file.num_row_groups()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let name = (self.name_of)(&column.name)?;
        let of = StatisticsConverter::try_new(&name, self.schema, self.file.file_metadata().schema_descr()).ok()?;
        // What a writer did not count is not none.
        let of = of.with_missing_null_counts_as_zero(false);
        let counts = of.row_group_null_counts(self.file.row_groups()).ok()?;
        (counts.null_count() < counts.len()).then(|| Arc::new(counts) as ArrayRef)
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let rows = self.file.row_groups().iter().map(|group| u64::try_from(group.num_rows()).ok());
        Some(Arc::new(rows.collect::<UInt64Array>()))
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int32Array, RecordBatch, StringArray};
    use arrow::datatypes::Field;
    use bytes::Bytes;
    use datafusion::prelude::{SessionContext, col, lit};
    use parquet::arrow::ArrowWriter;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use parquet::file::properties::WriterProperties;

    /// Row groups of ten rows; the table has the column `id` as a wider type and by another name than the file, and one that the file
    /// does not have.
    #[test]
    fn row_groups_without_rows_that_are_asked_for_are_left_out() {
        let columns = vec![Field::new("old", DataType::Int32, true), Field::new("name", DataType::Utf8, true)];
        let schema = Arc::new(Schema::new(columns));
        let ids = Int32Array::from_iter((0..40).map(|id| (id < 30).then_some(id)));
        let names = StringArray::from_iter_values((0..40).map(|id| format!("n{:02}", id / 10)));
        let rows = RecordBatch::try_new(schema.clone(), vec![Arc::new(ids), Arc::new(names)]).unwrap();
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(10)).build();
        let mut writer = ArrowWriter::try_new(vec![], schema, Some(properties)).unwrap();
        writer.write(&rows).unwrap();
        let file = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(writer.into_inner().unwrap())).unwrap();
        let table = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("name", DataType::Utf8, true),
            Field::new("later", DataType::Int64, true),
        ]));
        let session = SessionContext::new().state();
        let kept = |filters: &[Expr]| {
            let filter = Filter::new(&session, &table, filters).unwrap()?;
            let name_of = |name: &str| Some(if name == "id" { "old" } else { name }.to_owned());
            Some(filter.row_groups(file.metadata(), file.schema(), name_of))
        };
        assert_eq!(kept(&[col("id").gt(lit(14_i64))]), Some(vec![1, 2]));
        assert_eq!(kept(&[col("id").is_null()]), Some(vec![3]));
        assert_eq!(kept(&[col("id").gt(lit(14_i64)), col("name").eq(lit("n02"))]), Some(vec![2]));
        assert_eq!(kept(&[col("id").eq(lit(99_i64)).or(col("name").eq(lit("n00")))]), Some(vec![0]));
        assert_eq!(kept(&[col("later").eq(lit(1_i64))]), Some(vec![0, 1, 2, 3]), "nothing is known of it");
        assert_eq!(kept(&[]), None);
        // Numbers that became text are ordered otherwise.
        let text = Arc::new(Schema::new(vec![Field::new("old", DataType::Utf8, true)]));
        let filter = Filter::new(&session, &text, &[col("old").eq(lit("7"))]).unwrap().unwrap();
        let all = filter.row_groups(file.metadata(), file.schema(), |name| Some(name.to_owned()));
        assert_eq!(all, [0, 1, 2], "the last one is all null, whatever the type");
    }
}
