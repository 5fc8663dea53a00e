//! Table formats, where it matters which one it is.

use arrow::datatypes::{Schema, SchemaRef};
use rivermere_sql::LakeFormat;
use rivermere_table::TableError;

/// The columns that a table of a format has for those of a statement or a view.
///
/// # Errors
/// For what the format does not have.
pub(crate) fn table_schema(format: LakeFormat, columns: &Schema) -> Result<SchemaRef, TableError> {
    match format {
        LakeFormat::Delta => rivermere_delta::table_schema(columns),
        LakeFormat::Iceberg => rivermere_iceberg::table_schema(columns),
        LakeFormat::Hudi => rivermere_hudi::table_schema(columns),
    }
}
