//! Formats: bytes <-> Arrow. Knows no topic and no socket, and decodes only the columns that are asked for.
//!
//! A [`Decoder`] is given the values of records and gives back one row for each accepted value, in order, and a reason
//! for each rejected one. An [`Encoder`] turns each row of a batch into one value. One folder a format; so far [`json`].
//!
//! ```
//! use arrow::datatypes::{DataType, Field, Schema};
//! use rivermere_format::{Decoder, JsonDecoder};
//! use std::sync::Arc;
//!
//! let wanted = Arc::new(Schema::new(vec![Field::new("delay", DataType::Int32, false)]));
//! let mut decoder = JsonDecoder::new(wanted).unwrap();
//! decoder.push(Some(br#"{"origin": "JFK", "delay": 12}"#)).unwrap();
//! decoder.push(Some(br#"{"origin": "LGA", "delay": "late"}"#)).unwrap();
//! let decoded = decoder.finish().unwrap();
//! assert_eq!(decoded.batch.num_rows(), 1);
//! assert_eq!(decoded.rejected[0].index, 1);
//! assert_eq!(decoded.rejected[0].reason, r#"column 'delay': expected Int32, found the string "late""#);
//! ```

mod calendar;
pub mod json;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;
pub use json::{JsonDecoder, JsonEncoder, rows_to_json_array};

/// Values of records to rows.
pub trait Decoder: Send {
    /// The columns that are decoded: the shape of every batch.
    fn schema(&self) -> &SchemaRef;

    /// Takes the value of the next record. Whether it is accepted shows in [`finish`](Self::finish).
    ///
    /// # Errors
    /// [`FormatError::BatchFull`] when the batch holds as many bytes as an Arrow batch may: the value was not taken;
    /// finish, then push it again.
    fn push(&mut self, value: Option<&[u8]>) -> Result<(), FormatError>;

    /// The rows of everything pushed since the last call, and the decoder ready for the next batch.
    ///
    /// # Errors
    /// Only when Arrow refuses to build the batch, which is a defect of the decoder.
    fn finish(&mut self) -> Result<Decoded, FormatError>;
}

/// Rows to values of records.
pub trait Encoder: Send {
    /// One value a row, in order.
    ///
    /// # Errors
    /// When the batch has another shape than the encoder was made for, or holds a value that the format cannot express.
    fn encode(&mut self, batch: &RecordBatch) -> Result<Vec<Bytes>, FormatError>;
}

/// What became of the pushed values.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// One row for each accepted value, in order.
    pub batch: RecordBatch,
    /// The others, by index.
    pub rejected: Vec<Rejected>,
}

impl Decoded {
    /// Index of the pushed value of each row of the batch.
    pub fn accepted(&self) -> impl Iterator<Item = usize> + '_ {
        let pushed = self.batch.num_rows() + self.rejected.len();
        let mut rejected = self.rejected.iter().peekable();
        (0..pushed).filter(move |index| rejected.next_if(|next| next.index == *index).is_none())
    }
}

/// A value that is no row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The how-manieth pushed value it was, from 0.
    pub index: usize,
    /// Which column, what was expected and what was found. At most a few hundred bytes, whatever the value.
    pub reason: String,
}

/// What makes a format unusable; a bad record is no error but [`Rejected`].
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The format has no way to read or write such a column.
    #[error("RM-1201: column '{column}' of type {data_type} cannot be {verb} as {format}: declare another type")]
    Unsupported { column: String, data_type: DataType, format: &'static str, verb: &'static str },
    /// See [`Decoder::push`].
    #[error("RM-1202: the batch holds {bytes} bytes already: finish it before the next record")]
    BatchFull { bytes: usize },
    /// The batch is not of the encoder's shape.
    #[error("RM-1203: the batch has the columns {found}, the encoder was made for {expected}")]
    Shape { expected: String, found: String },
    #[error("RM-1204: Arrow refused a batch of {format}: {source}")]
    Arrow { format: &'static str, source: ArrowError },
}
