//! Rows as bytes and back.

use super::{KeyTable, key_hash};
use crate::error::Result;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::row::{RowConverter, Rows, SortField};
use rivermere_base::Changes;

/// Encodes columns of fixed types as byte rows that compare like the values (nulls first, floats in total order).
pub struct RowCodec {
    converter: RowConverter,
    width: usize,
}

impl RowCodec {
    /// # Errors
    /// When a type cannot be encoded (maps).
    pub fn new<'a>(types: impl IntoIterator<Item = &'a DataType>) -> Result<Self> {
        Self::with_fields(types.into_iter().map(|data_type| SortField::new(data_type.clone())).collect())
    }

    /// With an order for each column.
    ///
    /// # Errors
    /// When a type cannot be encoded.
    pub fn with_fields(fields: Vec<SortField>) -> Result<Self> {
        let width = fields.len();
        Ok(Self { converter: RowConverter::new(fields)?, width })
    }

    pub fn of_schema(schema: &SchemaRef) -> Result<Self> {
        Self::new(schema.fields().iter().map(|field| field.data_type()))
    }

    /// Columns of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// One row for each of `rows` rows; `columns` may be empty.
    ///
    /// # Errors
    /// When the types differ from those given at the start.
    pub fn encode(&self, columns: &[ArrayRef], rows: usize) -> Result<EncodedRows> {
        if self.width == 0 {
            return Ok(EncodedRows { rows: None, len: rows });
        }
        Ok(EncodedRows { rows: Some(self.converter.convert_columns(columns)?), len: rows })
    }

    /// # Errors
    /// When the bytes are not of this codec.
    pub fn decode<'a>(&self, rows: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        if self.width == 0 {
            return Ok(vec![]);
        }
        let parser = self.converter.parser();
        Ok(self.converter.convert_rows(rows.into_iter().map(|row| parser.parse(row)))?)
    }
}

/// Byte rows of one batch.
pub struct EncodedRows {
    rows: Option<Rows>,
    len: usize,
}

impl EncodedRows {
    pub fn get(&self, index: usize) -> &[u8] {
        match &self.rows {
            Some(rows) => rows.row(index).data(),
            None => &[],
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len).map(|index| self.get(index))
    }

    /// The [`key_hash`] of every row, for tables that many look into.
    pub fn hashes(&self) -> Vec<u64> {
        self.iter().map(key_hash).collect()
    }
}

/// Identity of a row: 128 bits, so that two different rows of one view never share it in practice.
pub fn row_hash(row: &[u8]) -> u128 {
    xxhash_rust::xxh3::xxh3_128(row)
}

/// One entry for each distinct row with the sum of its weights; rows that cancel are gone. Append-only changes are
/// returned as they are.
pub fn consolidate(changes: Changes, codec: &RowCodec) -> Result<Changes> {
    if changes.is_append_only() || changes.is_empty() {
        return Ok(changes);
    }
    let encoded = codec.encode(changes.batch().columns(), changes.num_rows())?;
    let mut table = KeyTable::new();
    let mut first: Vec<u64> = vec![];
    let mut weights: Vec<i64> = vec![];
    for (row, bytes) in encoded.iter().enumerate() {
        let (slot, new) = table.intern(bytes);
        if new {
            first.push(row as u64);
            weights.push(changes.weight(row));
        } else {
            weights[slot as usize] += changes.weight(row);
        }
    }
    let kept: Vec<usize> = (0..weights.len()).filter(|slot| weights[*slot] != 0).collect();
    if kept.len() == changes.num_rows() {
        return Ok(changes);
    }
    let indices = UInt64Array::from_iter_values(kept.iter().map(|slot| first[*slot]));
    let batch = take(changes.batch(), &indices)?;
    let weights: Int64Array = kept.iter().map(|slot| weights[*slot]).collect();
    Ok(Changes::with_weights(batch, weights)?)
}

/// Several changes of one shape as one, consolidated.
///
/// # Errors
/// When their columns are not those of `schema`, or a type has no encoding.
pub fn netted(schema: &SchemaRef, changes: &[Changes]) -> Result<Changes> {
    consolidate(Changes::concat(schema, changes)?, &RowCodec::of_schema(schema)?)
}

/// `take` that also works for batches without columns.
pub(crate) fn take(batch: &RecordBatch, indices: &UInt64Array) -> Result<RecordBatch> {
    if batch.num_columns() == 0 {
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(indices.len()));
        return Ok(RecordBatch::try_new_with_options(batch.schema(), vec![], &options)?);
    }
    Ok(arrow::compute::take_record_batch(batch, indices)?)
}
