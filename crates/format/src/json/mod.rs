//! JSON (RFC 8259): one object a record.
//!
//! Decoding is by columns: a scan of each record notes where the wanted fields are and checks the syntax of the rest,
//! then each column is built in one loop over its cells. Exactly one object a value; unknown fields are ignored; of a
//! repeated field the last counts, as in `serde_json` and PostgreSQL's `jsonb`.
//!
//! | Arrow | from JSON | to JSON |
//! |---|---|---|
//! | Boolean | `true`, `false` | the same |
//! | Int8..64, UInt8..64 | a number without a fraction (`1e3` and `12.0` are), or a string of one | number |
//! | Float32, Float64 | a number, a string of one, `"NaN"`, `"Infinity"`, `"-Infinity"` | number; `null` when not finite |
//! | Decimal128 | a number or a string of one, rounded half away from zero to the scale | number, all digits |
//! | Utf8, LargeUtf8, Utf8View | a string | string |
//! | Binary, LargeBinary, BinaryView | a string in base64 | base64 |
//! | Date32 | `"2013-01-31"`, or a number of days since 1970 | `"2013-01-31"` |
//! | Time32, Time64 | `"09:30"`, `"09:30:00.25"` | `"09:30:00.25"` |
//! | Timestamp | ISO 8601 text, `T` or space, with or without an offset, or a number of milliseconds since 1970 | ISO 8601, with `Z` when the column has a zone |
//! | List, LargeList, FixedSizeList (writing only) | array | array |
//! | Struct | object | object |
//! | Map with string keys | object | object |
//!
//! Text without an offset is local to the column's zone; text with an offset in a column without one is converted to UTC.
//! Digits below the unit of a time are cut off. What is not supported: Decimal256, intervals, dictionaries and unions on
//! the way in; on the way out they are written as the text that Arrow shows for them.

mod columns;
mod decoder;
mod encoder;
mod keys;
mod misfit;
mod numbers;
mod scan;
mod text;
mod times;

pub use decoder::{JsonDecoder, JsonLimits};
pub use encoder::{JsonEncoder, rows_to_json_array};
