//! Columns from cells, one loop a column. A cell that does not fit rejects its record and leaves a placeholder, which the
//! decoder filters out with the record.

use super::keys::Keys;
use super::misfit::{Misfit, reason};
use super::numbers::{self, Rounding};
use super::scan::{Cell, Cursor};
use super::text;
use super::times::{self, Zone};
use crate::{FormatError, Rejected};
use arrow::array::builder::{
    BinaryBuilder, BinaryViewBuilder, BooleanBuilder, Decimal128Builder, LargeBinaryBuilder, LargeStringBuilder,
    PrimitiveBuilder, StringBuilder, StringViewBuilder,
};
use arrow::array::{
    Array, ArrayRef, GenericListArray, MapArray, NullArray, NullBufferBuilder, OffsetBufferBuilder, OffsetSizeTrait,
    StructArray, make_array,
};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Field, FieldRef, Fields, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimeUnit, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::borrow::Cow;
use std::sync::Arc;

/// With or without padding, as both are about.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The records rejected so far; the first reason of each counts.
#[derive(Debug, Default)]
pub(super) struct Rejects {
    /// Whether each record of the batch is rejected.
    pub(super) flags: Vec<bool>,
    pub(super) reasons: Vec<Rejected>,
}

impl Rejects {
    #[cold]
    pub(super) fn add(&mut self, row: u32, reason: impl FnOnce() -> String) {
        let index = row as usize;
        if let Some(flag) = self.flags.get_mut(index)
            && !*flag
        {
            *flag = true;
            self.reasons.push(Rejected { index, reason: reason() });
        }
    }
}

/// A column that grows.
#[derive(Debug)]
pub(super) struct Column {
    shape: Shape,
    values: Values,
}

#[derive(Debug)]
struct Shape {
    /// Name for reasons; `a.b` in an object, `a[]` in an array.
    path: String,
    data_type: DataType,
    nullable: bool,
}

#[derive(Debug)]
enum Values {
    Null(usize),
    Boolean(BooleanBuilder),
    Int8(PrimitiveBuilder<Int8Type>),
    Int16(PrimitiveBuilder<Int16Type>),
    Int32(PrimitiveBuilder<Int32Type>),
    Int64(PrimitiveBuilder<Int64Type>),
    UInt8(PrimitiveBuilder<UInt8Type>),
    UInt16(PrimitiveBuilder<UInt16Type>),
    UInt32(PrimitiveBuilder<UInt32Type>),
    UInt64(PrimitiveBuilder<UInt64Type>),
    Float32(PrimitiveBuilder<Float32Type>),
    Float64(PrimitiveBuilder<Float64Type>),
    Decimal128(Decimal128Builder, u8, i8),
    Date32(PrimitiveBuilder<Int32Type>),
    Time32(PrimitiveBuilder<Int32Type>, TimeUnit),
    Time64(PrimitiveBuilder<Int64Type>, TimeUnit),
    Timestamp(PrimitiveBuilder<Int64Type>, TimeUnit, Zone),
    Utf8(StringBuilder),
    LargeUtf8(LargeStringBuilder),
    Utf8View(StringViewBuilder),
    Binary(BinaryBuilder),
    LargeBinary(LargeBinaryBuilder),
    BinaryView(BinaryViewBuilder),
    List(ListColumn<i32>),
    LargeList(ListColumn<i64>),
    Struct(StructColumn),
    Map(MapColumn),
}

impl Column {
    /// An empty column of a field.
    ///
    /// # Errors
    /// When JSON has no form for the type.
    pub(super) fn new(field: &Field) -> Result<Self, FormatError> {
        Self::within(field.name().clone(), field.data_type(), field.is_nullable())
    }

    fn within(path: String, data_type: &DataType, nullable: bool) -> Result<Self, FormatError> {
        let unsupported = || FormatError::Unsupported {
            column: path.clone(),
            data_type: data_type.clone(),
            format: "JSON",
            verb: "read",
        };
        let values = match data_type {
            DataType::Null => Values::Null(0),
            DataType::Boolean => Values::Boolean(BooleanBuilder::new()),
            DataType::Int8 => Values::Int8(PrimitiveBuilder::new()),
            DataType::Int16 => Values::Int16(PrimitiveBuilder::new()),
            DataType::Int32 => Values::Int32(PrimitiveBuilder::new()),
            DataType::Int64 => Values::Int64(PrimitiveBuilder::new()),
            DataType::UInt8 => Values::UInt8(PrimitiveBuilder::new()),
            DataType::UInt16 => Values::UInt16(PrimitiveBuilder::new()),
            DataType::UInt32 => Values::UInt32(PrimitiveBuilder::new()),
            DataType::UInt64 => Values::UInt64(PrimitiveBuilder::new()),
            DataType::Float32 => Values::Float32(PrimitiveBuilder::new()),
            DataType::Float64 => Values::Float64(PrimitiveBuilder::new()),
            DataType::Decimal128(precision, scale) => {
                let builder = Decimal128Builder::new().with_precision_and_scale(*precision, *scale);
                Values::Decimal128(builder.map_err(|_| unsupported())?, *precision, *scale)
            }
            DataType::Date32 => Values::Date32(PrimitiveBuilder::new()),
            DataType::Time32(unit @ (TimeUnit::Second | TimeUnit::Millisecond)) => {
                Values::Time32(PrimitiveBuilder::new(), *unit)
            }
            DataType::Time64(unit @ (TimeUnit::Microsecond | TimeUnit::Nanosecond)) => {
                Values::Time64(PrimitiveBuilder::new(), *unit)
            }
            DataType::Timestamp(unit, zone) => {
                let zone = Zone::of(zone.as_deref()).ok_or_else(unsupported)?;
                Values::Timestamp(PrimitiveBuilder::new(), *unit, zone)
            }
            DataType::Utf8 => Values::Utf8(StringBuilder::new()),
            DataType::LargeUtf8 => Values::LargeUtf8(LargeStringBuilder::new()),
            DataType::Utf8View => Values::Utf8View(StringViewBuilder::new()),
            DataType::Binary => Values::Binary(BinaryBuilder::new()),
            DataType::LargeBinary => Values::LargeBinary(LargeBinaryBuilder::new()),
            DataType::BinaryView => Values::BinaryView(BinaryViewBuilder::new()),
            DataType::List(item) => Values::List(ListColumn::new(&path, item)?),
            DataType::LargeList(item) => Values::LargeList(ListColumn::new(&path, item)?),
            DataType::Struct(fields) => Values::Struct(StructColumn::new(&path, fields)?),
            DataType::Map(entries, _) => Values::Map(MapColumn::new(&path, entries, &unsupported)?),
            _ => return Err(unsupported()),
        };
        Ok(Self { shape: Shape { path, data_type: data_type.clone(), nullable }, values })
    }

    /// Appends one value a cell; `rows` are the records of the cells.
    pub(super) fn append(&mut self, cells: &[Cell<'_>], rows: &[u32], rejects: &mut Rejects) {
        let mut fill = Fill { shape: &self.shape, cells, rows, rejects };
        match &mut self.values {
            Values::Null(length) => fill.each(|_| Err::<(), _>(Misfit::Type), |_| *length += 1),
            Values::Boolean(builder) => {
                let nullable = fill.shape.nullable;
                fill.each(boolean, |value| builder.append_option(value.or((!nullable).then_some(false))));
            }
            Values::Int8(builder) => fill.primitive(builder, |cell| numbers::integer(numbers::number_text(cell)?)),
            Values::Int16(builder) => fill.primitive(builder, |cell| numbers::integer(numbers::number_text(cell)?)),
            Values::Int32(builder) => fill.primitive(builder, |cell| numbers::integer(numbers::number_text(cell)?)),
            Values::Int64(builder) => fill.primitive(builder, |cell| numbers::integer(numbers::number_text(cell)?)),
            Values::UInt8(builder) => fill.primitive(builder, |cell| numbers::integer(numbers::number_text(cell)?)),
            Values::UInt16(builder) => fill.primitive(builder, |cell| numbers::integer(numbers::number_text(cell)?)),
            Values::UInt32(builder) => fill.primitive(builder, |cell| numbers::integer(numbers::number_text(cell)?)),
            Values::UInt64(builder) => fill.primitive(builder, |cell| numbers::integer(numbers::number_text(cell)?)),
            Values::Float32(builder) => fill.primitive(builder, float32),
            Values::Float64(builder) => fill.primitive(builder, float64),
            Values::Decimal128(builder, precision, scale) => {
                fill.primitive(builder, |cell| decimal128(cell, *precision, *scale));
            }
            Values::Date32(builder) => fill.primitive(builder, date32),
            Values::Time32(builder, unit) => fill.primitive(builder, |cell| {
                i32::try_from(times::time(time_text(cell)?, *unit)?).map_err(|_| Misfit::Range)
            }),
            Values::Time64(builder, unit) => fill.primitive(builder, |cell| times::time(time_text(cell)?, *unit)),
            Values::Timestamp(builder, unit, zone) => fill.primitive(builder, |cell| timestamp(cell, *unit, *zone)),
            Values::Utf8(builder) => fill.bytes(string, |value| builder.append_option(value)),
            Values::LargeUtf8(builder) => fill.bytes(string, |value| builder.append_option(value)),
            Values::Utf8View(builder) => fill.bytes(string, |value| builder.append_option(value)),
            Values::Binary(builder) => fill.bytes(binary, |value| builder.append_option(value)),
            Values::LargeBinary(builder) => fill.bytes(binary, |value| builder.append_option(value)),
            Values::BinaryView(builder) => fill.bytes(binary, |value| builder.append_option(value)),
            Values::List(list) => list.append(fill),
            Values::LargeList(list) => list.append(fill),
            Values::Struct(object) => object.append(fill),
            Values::Map(map) => map.append(fill),
        }
    }

    /// The column so far, which is empty afterwards.
    pub(super) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let data_type = &self.shape.data_type;
        Ok(match &mut self.values {
            Values::Null(length) => Arc::new(NullArray::new(std::mem::take(length))),
            Values::Boolean(builder) => Arc::new(builder.finish()),
            Values::Int8(builder) => Arc::new(builder.finish()),
            Values::Int16(builder) => Arc::new(builder.finish()),
            Values::Int32(builder) => Arc::new(builder.finish()),
            Values::Int64(builder) => Arc::new(builder.finish()),
            Values::UInt8(builder) => Arc::new(builder.finish()),
            Values::UInt16(builder) => Arc::new(builder.finish()),
            Values::UInt32(builder) => Arc::new(builder.finish()),
            Values::UInt64(builder) => Arc::new(builder.finish()),
            Values::Float32(builder) => Arc::new(builder.finish()),
            Values::Float64(builder) => Arc::new(builder.finish()),
            Values::Decimal128(builder, ..) => Arc::new(builder.finish()),
            Values::Date32(builder) | Values::Time32(builder, _) => retype(&builder.finish(), data_type)?,
            Values::Time64(builder, _) | Values::Timestamp(builder, ..) => retype(&builder.finish(), data_type)?,
            Values::Utf8(builder) => Arc::new(builder.finish()),
            Values::LargeUtf8(builder) => Arc::new(builder.finish()),
            Values::Utf8View(builder) => Arc::new(builder.finish()),
            Values::Binary(builder) => Arc::new(builder.finish()),
            Values::LargeBinary(builder) => Arc::new(builder.finish()),
            Values::BinaryView(builder) => Arc::new(builder.finish()),
            Values::List(list) => list.finish()?,
            Values::LargeList(list) => list.finish()?,
            Values::Struct(object) => object.finish()?,
            Values::Map(map) => map.finish(data_type)?,
        })
    }
}

/// The same numbers under another type of their width.
fn retype(array: &dyn Array, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    Ok(make_array(array.to_data().into_builder().data_type(data_type.clone()).build()?))
}

/// What an append works with.
struct Fill<'c, 'a> {
    shape: &'c Shape,
    cells: &'c [Cell<'a>],
    rows: &'c [u32],
    rejects: &'c mut Rejects,
}

impl<'a> Fill<'_, 'a> {
    /// Parses each cell and pushes its value; none for a null and for what was rejected.
    #[inline]
    fn each<T>(&mut self, mut parse: impl FnMut(Cell<'a>) -> Result<T, Misfit>, mut push: impl FnMut(Option<T>)) {
        for (cell, row) in self.cells.iter().zip(self.rows) {
            push(match *cell {
                Cell::Absent => None,
                cell @ (Cell::Null | Cell::Missing) => {
                    if !self.shape.nullable {
                        reject(self.shape, self.rejects, *row, cell, Misfit::Type);
                    }
                    None
                }
                cell => match parse(cell) {
                    Ok(value) => Some(value),
                    Err(misfit) => {
                        reject(self.shape, self.rejects, *row, cell, misfit);
                        None
                    }
                },
            });
        }
    }

    #[inline]
    fn primitive<T: ArrowPrimitiveType>(
        &mut self,
        builder: &mut PrimitiveBuilder<T>,
        parse: impl Fn(Cell<'a>) -> Result<T::Native, Misfit>,
    ) {
        if self.shape.nullable {
            self.each(parse, |value| builder.append_option(value));
        } else {
            self.each(parse, |value| builder.append_value(value.unwrap_or_default()));
        }
    }

    #[inline]
    fn bytes<T: ToOwned + ?Sized + 'a>(
        &mut self,
        parse: impl Fn(Cell<'a>) -> Result<Cow<'a, T>, Misfit>,
        mut push: impl FnMut(Option<Cow<'a, T>>),
    ) where
        &'a T: Default,
    {
        if self.shape.nullable {
            self.each(parse, push);
        } else {
            self.each(parse, |value| push(Some(value.unwrap_or(Cow::Borrowed(Default::default())))));
        }
    }
}

#[cold]
fn reject(shape: &Shape, rejects: &mut Rejects, row: u32, cell: Cell<'_>, misfit: Misfit) {
    rejects.add(row, || reason(&shape.path, &shape.data_type, cell, misfit));
}

fn boolean(cell: Cell<'_>) -> Result<bool, Misfit> {
    match cell {
        Cell::Boolean(value) => Ok(value),
        _ => Err(Misfit::Type),
    }
}

#[inline]
fn float64(cell: Cell<'_>) -> Result<f64, Misfit> {
    match cell {
        Cell::Text("NaN") => Ok(f64::NAN),
        Cell::Text("Infinity") => Ok(f64::INFINITY),
        Cell::Text("-Infinity") => Ok(f64::NEG_INFINITY),
        cell => numbers::float64(numbers::number_text(cell)?),
    }
}

fn float32(cell: Cell<'_>) -> Result<f32, Misfit> {
    match cell {
        Cell::Text("NaN") => Ok(f32::NAN),
        Cell::Text("Infinity") => Ok(f32::INFINITY),
        Cell::Text("-Infinity") => Ok(f32::NEG_INFINITY),
        cell => numbers::float32(numbers::number_text(cell)?),
    }
}

fn decimal128(cell: Cell<'_>, precision: u8, scale: i8) -> Result<i128, Misfit> {
    let value = numbers::decimal(numbers::number_text(cell)?, i32::from(scale), Rounding::HalfAwayFromZero)?;
    let limit = 10_u128.checked_pow(u32::from(precision)).ok_or(Misfit::Range)?;
    if value.unsigned_abs() < limit { Ok(value) } else { Err(Misfit::Range) }
}

fn date32(cell: Cell<'_>) -> Result<i32, Misfit> {
    match cell {
        Cell::Text(text) => times::date(text),
        Cell::Number(text) => numbers::integer(text),
        _ => Err(Misfit::Type),
    }
}

fn time_text(cell: Cell<'_>) -> Result<&str, Misfit> {
    match cell {
        Cell::Text(text) => Ok(text),
        _ => Err(Misfit::Type),
    }
}

#[inline]
fn timestamp(cell: Cell<'_>, unit: TimeUnit, zone: Zone) -> Result<i64, Misfit> {
    match cell {
        Cell::Text(text) => times::timestamp(text, unit, zone),
        Cell::Number(text) => times::from_milliseconds(numbers::integer(text)?, unit),
        _ => Err(Misfit::Type),
    }
}

#[inline]
fn string(cell: Cell<'_>) -> Result<Cow<'_, str>, Misfit> {
    match cell {
        Cell::Text(text) => Ok(Cow::Borrowed(text)),
        Cell::Escaped(raw) => text::unescape(raw).map(Cow::Owned),
        _ => Err(Misfit::Type),
    }
}

fn binary(cell: Cell<'_>) -> Result<Cow<'_, [u8]>, Misfit> {
    // A slash may be escaped, and base64 has slashes.
    let text = string(cell)?;
    BASE64.decode(text.as_bytes()).map(Cow::Owned).map_err(|_| Misfit::Reason("not base64"))
}

/// A scanned value is scanned again for its parts, so a flaw in it is a defect here; the record is rejected all the same.
const SCANNED: Misfit = Misfit::Reason("its parts could not be read");

#[derive(Debug)]
struct ListColumn<O: OffsetSizeTrait> {
    item: FieldRef,
    items: Box<Column>,
    offsets: OffsetBufferBuilder<O>,
    nulls: NullBufferBuilder,
}

impl<O: OffsetSizeTrait> ListColumn<O> {
    fn new(path: &str, item: &FieldRef) -> Result<Self, FormatError> {
        let items = Box::new(Column::within(format!("{path}[]"), item.data_type(), item.is_nullable())?);
        Ok(Self { item: item.clone(), items, offsets: OffsetBufferBuilder::new(0), nulls: NullBufferBuilder::new(0) })
    }

    fn append(&mut self, mut fill: Fill<'_, '_>) {
        let mut cells = Vec::new();
        let mut rows = Vec::new();
        let mut records = fill.rows.iter();
        let nullable = fill.shape.nullable;
        let mut lengths = Vec::with_capacity(fill.cells.len());
        fill.each(
            |cell| match cell {
                Cell::Array(text) => {
                    let before = cells.len();
                    Cursor::new(text).elements(0, |cell| cells.push(cell)).map_err(|_| SCANNED)?;
                    Ok(cells.len() - before)
                }
                _ => Err(Misfit::Type),
            },
            |length| lengths.push(length),
        );
        for length in lengths {
            let row = records.next().copied().unwrap_or_default();
            self.offsets.push_length(length.unwrap_or(0));
            self.nulls.append(length.is_some() || !nullable);
            rows.resize(rows.len() + length.unwrap_or(0), row);
        }
        // What a flawed array left behind belongs to no row.
        cells.truncate(rows.len());
        self.items.append(&cells, &rows, fill.rejects);
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let offsets = std::mem::replace(&mut self.offsets, OffsetBufferBuilder::new(0)).finish();
        let items = self.items.finish()?;
        Ok(Arc::new(GenericListArray::<O>::try_new(self.item.clone(), offsets, items, self.nulls.finish())?))
    }
}

#[derive(Debug)]
struct StructColumn {
    fields: Fields,
    keys: Keys,
    columns: Vec<Column>,
    nulls: NullBufferBuilder,
}

impl StructColumn {
    fn new(path: &str, fields: &Fields) -> Result<Self, FormatError> {
        let column = |field: &FieldRef| {
            Column::within(format!("{path}.{}", field.name()), field.data_type(), field.is_nullable())
        };
        Ok(Self {
            fields: fields.clone(),
            keys: Keys::new(fields.iter().map(|field| field.name().as_str())),
            columns: fields.iter().map(column).collect::<Result<_, _>>()?,
            nulls: NullBufferBuilder::new(0),
        })
    }

    fn append(&mut self, mut fill: Fill<'_, '_>) {
        let length = fill.cells.len();
        let mut grid = Grid::new(self.columns.len(), length);
        let mut row = 0;
        let mut present = Vec::with_capacity(length);
        fill.each(
            |cell| match cell {
                Cell::Object(text) => Ok(text),
                _ => Err(Misfit::Type),
            },
            |text| present.push(text),
        );
        for text in present {
            if let Some(text) = text {
                grid.fill_row(row, Cell::Missing);
                // The scan has passed: see SCANNED. A field that cannot be found again stays missing.
                let _ = Cursor::new(text).fields(0, &mut self.keys, |slot, cell| grid.set(slot, row, cell));
            }
            self.nulls.append(text.is_some() || !fill.shape.nullable);
            row += 1;
        }
        for (slot, column) in self.columns.iter_mut().enumerate() {
            column.append(grid.column(slot), fill.rows, fill.rejects);
        }
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let nulls = self.nulls.finish_with_length();
        let columns = self.columns.iter_mut().map(Column::finish).collect::<Result<Vec<_>, _>>()?;
        let (nulls, length) = nulls;
        Ok(Arc::new(StructArray::try_new_with_length(self.fields.clone(), columns, nulls, length)?))
    }
}

/// The builder forgets its length when it finishes, and a struct without fields has no other.
trait FinishWithLength {
    fn finish_with_length(&mut self) -> (Option<arrow::buffer::NullBuffer>, usize);
}

impl FinishWithLength for NullBufferBuilder {
    fn finish_with_length(&mut self) -> (Option<arrow::buffer::NullBuffer>, usize) {
        let length = self.len();
        (self.finish(), length)
    }
}

#[derive(Debug)]
struct MapColumn {
    entries: FieldRef,
    fields: Fields,
    keys: Box<Column>,
    values: Box<Column>,
    offsets: OffsetBufferBuilder<i32>,
    nulls: NullBufferBuilder,
}

impl MapColumn {
    fn new(path: &str, entries: &FieldRef, unsupported: &dyn Fn() -> FormatError) -> Result<Self, FormatError> {
        let DataType::Struct(fields) = entries.data_type() else { return Err(unsupported()) };
        let [key, value] = &fields[..] else { return Err(unsupported()) };
        if !matches!(key.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
            return Err(unsupported());
        }
        Ok(Self {
            entries: entries.clone(),
            fields: fields.clone(),
            keys: Box::new(Column::within(format!("{path} (key)"), key.data_type(), false)?),
            values: Box::new(Column::within(format!("{path}[]"), value.data_type(), value.is_nullable())?),
            offsets: OffsetBufferBuilder::new(0),
            nulls: NullBufferBuilder::new(0),
        })
    }

    fn append(&mut self, mut fill: Fill<'_, '_>) {
        let mut keys = Vec::new();
        let mut values = Vec::new();
        let mut lengths = Vec::with_capacity(fill.cells.len());
        fill.each(
            |cell| match cell {
                Cell::Object(text) => {
                    let before = keys.len();
                    let found = |key, value| {
                        keys.push(key);
                        values.push(value);
                    };
                    Cursor::new(text).entries(0, found).map_err(|_| SCANNED)?;
                    Ok(keys.len() - before)
                }
                _ => Err(Misfit::Type),
            },
            |length| lengths.push(length),
        );
        let mut rows = Vec::with_capacity(keys.len());
        for (length, row) in lengths.into_iter().zip(fill.rows) {
            self.offsets.push_length(length.unwrap_or(0));
            self.nulls.append(length.is_some() || !fill.shape.nullable);
            rows.resize(rows.len() + length.unwrap_or(0), *row);
        }
        keys.truncate(rows.len());
        values.truncate(rows.len());
        self.keys.append(&keys, &rows, fill.rejects);
        self.values.append(&values, &rows, fill.rejects);
    }

    fn finish(&mut self, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
        let offsets = std::mem::replace(&mut self.offsets, OffsetBufferBuilder::new(0)).finish();
        let entries =
            StructArray::try_new(self.fields.clone(), vec![self.keys.finish()?, self.values.finish()?], None)?;
        let ordered = matches!(data_type, DataType::Map(_, true));
        Ok(Arc::new(MapArray::try_new(self.entries.clone(), offsets, entries, self.nulls.finish(), ordered)?))
    }
}

/// The cells of some rows, column by column.
#[derive(Debug)]
pub(super) struct Grid<'a> {
    cells: Vec<Cell<'a>>,
    width: usize,
    rows: usize,
}

impl<'a> Grid<'a> {
    /// Every cell absent.
    pub(super) fn new(width: usize, rows: usize) -> Self {
        Self { cells: vec![Cell::Absent; width * rows], width, rows }
    }

    #[inline]
    pub(super) fn set(&mut self, slot: usize, row: usize, cell: Cell<'a>) {
        if let Some(place) = self.cells.get_mut(slot * self.rows + row) {
            *place = cell;
        }
    }

    #[inline]
    pub(super) fn fill_row(&mut self, row: usize, cell: Cell<'a>) {
        for slot in 0..self.width {
            self.set(slot, row, cell);
        }
    }

    pub(super) fn column(&self, slot: usize) -> &[Cell<'a>] {
        self.cells.get(slot * self.rows..(slot + 1) * self.rows).unwrap_or_default()
    }
}
