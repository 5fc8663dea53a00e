//! What operators remember between steps, as bytes: keys and rows in arrow-row encoding, whose byte order is the
//! order of the values.

mod key_table;
mod row_order;
mod row_store;
mod rows;
mod value_bag;

pub use key_table::{KeyTable, key_hash};
pub(crate) use row_order::{RowOrder, row_entry, split_row_entry};
pub(crate) use row_store::RowStore;
pub(crate) use rows::take;
pub use rows::{EncodedRows, RowCodec, consolidate, netted, row_hash};
pub(crate) use value_bag::ValueBag;
