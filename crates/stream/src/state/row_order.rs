//! Rows as bytes in an order of some of their columns; the bytes hold the whole row.

use super::RowCodec;
use crate::error::Result;
use arrow::array::ArrayRef;
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use arrow::row::SortField;

use super::EncodedRows;

pub(crate) struct RowOrder {
    codec: RowCodec,
    /// Columns of the input as the codec has them.
    columns: Vec<usize>,
    /// Where the codec has each column of a row.
    places: Vec<usize>,
}

impl RowOrder {
    /// Orders by columns of `input`, of which the first `width` are the row; the row's other columns decide ties.
    pub(crate) fn new(input: &SchemaRef, order: &[(usize, SortOptions)], width: usize) -> Result<Self> {
        let rest = (0..width).filter(|column| !order.iter().any(|(other, _)| other == column));
        let all: Vec<(usize, SortOptions)> =
            order.iter().copied().chain(rest.map(|column| (column, SortOptions::default()))).collect();
        let field = |(column, options): &(usize, SortOptions)| {
            SortField::new_with_options(input.field(*column).data_type().clone(), *options)
        };
        let columns: Vec<usize> = all.iter().map(|(column, _)| *column).collect();
        let places = (0..width).filter_map(|column| columns.iter().position(|other| *other == column)).collect();
        Ok(Self { codec: RowCodec::with_fields(all.iter().map(field).collect())?, columns, places })
    }

    pub(crate) fn encode(&self, input: &[ArrayRef], rows: usize) -> Result<EncodedRows> {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|column| input[*column].clone()).collect();
        self.codec.encode(&columns, rows)
    }

    /// The columns of rows.
    pub(crate) fn decode<'a>(&self, rows: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        let decoded = self.codec.decode(rows)?;
        Ok(self.places.iter().map(|place| decoded[*place].clone()).collect())
    }
}

/// A state entry's key: a partition and one of its rows.
pub(crate) fn row_entry(partition: &[u8], row: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(4 + partition.len() + row.len());
    key.extend_from_slice(&(partition.len() as u32).to_le_bytes());
    key.extend_from_slice(partition);
    key.extend_from_slice(row);
    key
}

/// The partition and the row of an entry's key.
pub(crate) fn split_row_entry(key: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = key.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*len) as usize)
}
