//! The decoder: records in, batches of the wanted columns out.

use super::columns::{Column, Grid, Rejects};
use super::keys::Keys;
use super::scan::{Cell, Cursor, Flaw, MAX_DEPTH};
use crate::{Decoded, Decoder, FormatError};
use arrow::array::{BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::filter;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

/// Records scanned before their columns are built: their cells and text stay in the second-level cache.
const CHUNK: usize = 512;

/// Bytes of a batch: what the 32-bit offsets of its strings can address.
const MAX_BATCH_BYTES: usize = i32::MAX as usize;

/// What a decoder refuses to read.
#[derive(Clone, Copy, Debug)]
pub struct JsonLimits {
    /// Bytes of one record.
    pub max_record_bytes: usize,
}

impl Default for JsonLimits {
    fn default() -> Self {
        Self { max_record_bytes: 16 << 20 }
    }
}

/// JSON objects to rows; see the [module](super) for types and rules.
#[derive(Debug)]
pub struct JsonDecoder {
    schema: SchemaRef,
    limits: JsonLimits,
    keys: Keys,
    columns: Vec<Column>,
    rejects: Rejects,
    /// Bytes of the batch so far.
    bytes: usize,
    /// Pushed records that are not scanned yet: their text, and where each ends (none for a null value).
    pending: Vec<u8>,
    pending_ends: Vec<Option<usize>>,
}

impl JsonDecoder {
    /// A decoder of the columns of `schema`, and of no others.
    ///
    /// # Errors
    /// [`FormatError::Unsupported`] for a column whose type has no form in JSON.
    pub fn new(schema: SchemaRef) -> Result<Self, FormatError> {
        Self::with_limits(schema, JsonLimits::default())
    }

    /// Like [`new`](Self::new) with other limits.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_limits(schema: SchemaRef, limits: JsonLimits) -> Result<Self, FormatError> {
        let columns = schema.fields().iter().map(|field| Column::new(field)).collect::<Result<_, _>>()?;
        let keys = Keys::new(schema.fields().iter().map(|field| field.name().as_str()));
        Ok(Self {
            schema,
            limits,
            keys,
            columns,
            rejects: Rejects::default(),
            bytes: 0,
            pending: Vec::new(),
            pending_ends: Vec::new(),
        })
    }

    /// A batch of values that are at hand together: as `push` of each and `finish`, without a copy of the text.
    ///
    /// # Errors
    /// As [`push`](Decoder::push) and [`finish`](Decoder::finish).
    pub fn decode<'a>(&mut self, values: impl IntoIterator<Item = Option<&'a [u8]>>) -> Result<Decoded, FormatError> {
        self.decode_pending();
        let mut chunk = Vec::with_capacity(CHUNK);
        for value in values {
            self.count(value)?;
            chunk.push(value);
            if chunk.len() == CHUNK {
                self.decode_chunk(&chunk);
                chunk.clear();
            }
        }
        self.decode_chunk(&chunk);
        self.finish()
    }

    fn count(&mut self, value: Option<&[u8]>) -> Result<(), FormatError> {
        let bytes = self.bytes.saturating_add(value.map_or(0, <[u8]>::len));
        if bytes > MAX_BATCH_BYTES {
            return Err(FormatError::BatchFull { bytes: self.bytes });
        }
        self.bytes = bytes;
        Ok(())
    }

    fn decode_pending(&mut self) {
        let text = std::mem::take(&mut self.pending);
        let ends = std::mem::take(&mut self.pending_ends);
        let mut start = 0;
        let values: Vec<_> = ends
            .iter()
            .map(|end| {
                let value = text.get(start..(*end)?)?;
                start += value.len();
                Some(value)
            })
            .collect();
        self.decode_chunk(&values);
        (self.pending, self.pending_ends) = (text, ends);
        self.pending.clear();
        self.pending_ends.clear();
    }

    fn decode_chunk(&mut self, values: &[Option<&[u8]>]) {
        let first = self.rejects.flags.len();
        self.rejects.flags.resize(first + values.len(), false);
        let rows: Vec<u32> = (first..first + values.len()).map(|row| row as u32).collect();
        let mut grid = Grid::new(self.columns.len(), values.len());
        for (index, value) in values.iter().enumerate() {
            grid.fill_row(index, Cell::Missing);
            let scanned = scan(*value, self.limits, &mut self.keys, |slot, cell| grid.set(slot, index, cell));
            if let Err(unreadable) = scanned {
                grid.fill_row(index, Cell::Absent);
                self.rejects.add((first + index) as u32, || unreadable.reason(self.limits));
            }
        }
        for (slot, column) in self.columns.iter_mut().enumerate() {
            column.append(grid.column(slot), &rows, &mut self.rejects);
        }
    }

    fn build(&mut self, rejects: &Rejects) -> Result<RecordBatch, ArrowError> {
        let mut columns = self.columns.iter_mut().map(Column::finish).collect::<Result<Vec<_>, _>>()?;
        if !rejects.reasons.is_empty() {
            let keep: BooleanArray = rejects.flags.iter().map(|rejected| Some(!rejected)).collect();
            for column in &mut columns {
                *column = filter(column, &keep)?;
            }
        }
        let rows = rejects.flags.len() - rejects.reasons.len();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
    }
}

impl Decoder for JsonDecoder {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn push(&mut self, value: Option<&[u8]>) -> Result<(), FormatError> {
        self.count(value)?;
        self.pending.extend_from_slice(value.unwrap_or_default());
        self.pending_ends.push(value.map(|_| self.pending.len()));
        if self.pending_ends.len() == CHUNK {
            self.decode_pending();
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Decoded, FormatError> {
        self.decode_pending();
        self.bytes = 0;
        let mut rejects = std::mem::take(&mut self.rejects);
        let batch = self.build(&rejects).map_err(|source| FormatError::Arrow { format: "JSON", source })?;
        rejects.reasons.sort_by_key(|rejected| rejected.index);
        Ok(Decoded { batch, rejected: rejects.reasons })
    }
}

/// Why a value is not one JSON object.
#[derive(Debug)]
enum Unreadable {
    NoValue,
    TooLong(usize),
    Empty,
    NotUtf8(usize),
    NotAnObject(&'static str),
    Flawed(Flaw),
    More(usize),
}

impl Unreadable {
    #[cold]
    fn reason(&self, limits: JsonLimits) -> String {
        match self {
            Self::NoValue => "the record has no value, expected one JSON object".to_owned(),
            Self::TooLong(bytes) => {
                format!("the value has {bytes} bytes, the limit for one JSON object is {}", limits.max_record_bytes)
            }
            Self::Empty => "the value is empty, expected one JSON object".to_owned(),
            Self::NotUtf8(at) => format!("the value is not UTF-8 (byte {at})"),
            Self::NotAnObject(found) => format!("expected one JSON object, found {found}"),
            Self::Flawed(Flaw { at, what }) if *what == super::scan::TOO_DEEP => {
                format!("not valid JSON at byte {at}: {what} (the limit is {MAX_DEPTH})")
            }
            Self::Flawed(Flaw { at, what }) => format!("not valid JSON at byte {at}: {what}"),
            Self::More(at) => format!("expected one JSON object, found more after its end (byte {at})"),
        }
    }
}

#[inline]
fn scan<'a>(
    value: Option<&'a [u8]>,
    limits: JsonLimits,
    keys: &mut Keys,
    found: impl FnMut(usize, Cell<'a>),
) -> Result<(), Unreadable> {
    let value = value.ok_or(Unreadable::NoValue)?;
    if value.len() > limits.max_record_bytes {
        return Err(Unreadable::TooLong(value.len()));
    }
    let text = std::str::from_utf8(value).map_err(|error| Unreadable::NotUtf8(error.valid_up_to()))?;
    let mut cursor = Cursor::new(text);
    match cursor.peek() {
        Some(b'{') => {}
        None => return Err(Unreadable::Empty),
        Some(b'[') => return Err(Unreadable::NotAnObject("an array")),
        Some(b'"') => return Err(Unreadable::NotAnObject("a string")),
        Some(b'-' | b'0'..=b'9') => return Err(Unreadable::NotAnObject("a number")),
        Some(_) => {
            return Err(match cursor.value(0) {
                Ok(Cell::Null) => Unreadable::NotAnObject("null"),
                Ok(_) => Unreadable::NotAnObject("a boolean"),
                Err(flaw) => Unreadable::Flawed(flaw),
            });
        }
    }
    cursor.fields(0, keys, found).map_err(Unreadable::Flawed)?;
    if cursor.is_at_end() { Ok(()) } else { Err(Unreadable::More(cursor.at())) }
}

#[cfg(test)]
mod tests;
