//! How the rows of one version became those of another: the rows of the files that only one of the two names.
//!
//! Data files never change (PROTOCOL.md, "Data Files"), so a file that both versions name with the same deletion vector
//! has the same rows in both; where the vector is another one, it tells the rows itself. This needs nothing but the two versions' file lists, which every writer keeps, and so works
//! for tables without a change data feed.

use crate::active::ActiveFiles;
use crate::handle::Handle;
use crate::mapping::{is_same_in_files, physical_name};
use crate::rows::{PlacedRows, places_of};
use crate::schema::cast;
use crate::vectors::{self, live_numbers};
use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{FieldRef, SchemaRef};
use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use deltalake_core::kernel::DeletionVectorDescriptor;
use deltalake_core::table::state::DeltaTableState;
use futures::{StreamExt as _, stream};
use rivermere_base::Changes;
use rivermere_table::{RowChanges, TableError};
use roaring::RoaringTreemap;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

const READING: &str = "reading the rows that came and went";

/// See [`rivermere_table::Table::changes`].
pub(crate) async fn changes(
    handle: &Handle,
    from: Option<&DeltaTableState>,
    to: &DeltaTableState,
    columns: &SchemaRef,
) -> Result<RowChanges, TableError> {
    fits(handle, to, columns)?;
    if let Some(from) = from {
        same_columns(handle, from, to, columns)?;
    }
    let after = Version::of(handle, to)?;
    let Some(from) = from else {
        let all = after.numbers.values().map(|number| (*number, None)).collect();
        return rows(handle, after, all, columns, names_in(to, to, columns), 1).await;
    };
    let before = Version::of(handle, from)?;
    let (mut went, mut came) = (BTreeMap::new(), BTreeMap::new());
    let mut marked = vec![];
    for (path, number) in &before.numbers {
        match after.numbers.get(path) {
            None => _ = went.insert(*number, None),
            Some(other) if before.vector(*number) != after.vector(*other) => marked.push((*number, *other)),
            Some(_) => {}
        }
    }
    came.extend(after.numbers.iter().filter(|(path, _)| !before.numbers.contains_key(*path)).map(|(_, n)| (*n, None)));
    // Of a file with another deletion vector, the rows that only one of the two takes away.
    let of_before = before.gone(handle, marked.iter().map(|(number, _)| *number)).await?;
    let of_after = after.gone(handle, marked.iter().map(|(_, number)| *number)).await?;
    let none = RoaringTreemap::new();
    for (old, new) in marked {
        let (was, is) = (of_before.get(&old).unwrap_or(&none), of_after.get(&new).unwrap_or(&none));
        let (taken, given_back) = (is - was, was - is);
        if !taken.is_empty() {
            went.insert(old, Some(live_numbers(&taken, was)));
        }
        if !given_back.is_empty() {
            came.insert(new, Some(live_numbers(&given_back, is)));
        }
    }
    let names = names_in(from, to, columns);
    let went = rows(handle, before, went, columns, names, -1).await?;
    let names = names_in(to, to, columns);
    let came = rows(handle, after, came, columns, names, 1).await?;
    Ok(went.chain(came).boxed())
}

/// A version with its files.
struct Version<'a> {
    state: &'a DeltaTableState,
    active: Arc<ActiveFiles>,
    /// By their names, which are the same in every version.
    numbers: HashMap<String, u32>,
}

impl<'a> Version<'a> {
    fn of(handle: &Handle, state: &'a DeltaTableState) -> Result<Self, TableError> {
        let active = Arc::new(ActiveFiles::of(handle, state)?);
        let numbers = active.iter().map(|(number, file)| (file.path().into_owned(), number)).collect();
        Ok(Self { state, active, numbers })
    }

    fn vector(&self, number: u32) -> Option<DeletionVectorDescriptor> {
        self.active.get(number)?.deletion_vector_descriptor()
    }

    /// The rows that are gone from some of its files.
    async fn gone(
        &self,
        handle: &Handle,
        files: impl Iterator<Item = u32>,
    ) -> Result<HashMap<u32, RoaringTreemap>, TableError> {
        let files: Vec<u32> = files.filter(|number| self.vector(*number).is_some()).collect();
        vectors::gone(handle, self.state, &self.active, &files).await
    }
}

/// What columns of version `to` are called in another one: with column mapping a column may have had another name. One that
/// is not there yet is null, as every reader of the newer version sees it.
pub(crate) fn names_in(state: &DeltaTableState, to: &DeltaTableState, columns: &SchemaRef) -> Vec<Option<String>> {
    let (there, here) = (state.snapshot().schema(), to.snapshot().schema());
    let name = |field: &FieldRef| {
        let physical = physical_name(here.field(field.name())?);
        let mut same = there.fields().filter(|column| physical_name(column) == physical);
        same.next().map(|column| column.name().clone())
    };
    columns.fields().iter().map(name).collect()
}

/// Whether the newer version still has the columns.
fn fits(handle: &Handle, state: &DeltaTableState, columns: &SchemaRef) -> Result<(), TableError> {
    let schema = state.snapshot().arrow_schema();
    for column in columns.fields() {
        let mismatch = |reason| TableError::SchemaMismatch { location: handle.location.to_string(), reason };
        let Ok(field) = schema.field_with_name(column.name()) else {
            return Err(mismatch(format!("column '{}' is gone since the view was made", column.name())));
        };
        if field.data_type() != column.data_type() {
            let (now, then) = (field.data_type(), column.data_type());
            return Err(mismatch(format!("column '{}' is {now} now, and was {then}", column.name())));
        }
    }
    Ok(())
}

/// Whether the columns are the same ones, and not others that took their names: with column mapping, files that did not
/// change would have other values in them.
fn same_columns(
    handle: &Handle,
    from: &DeltaTableState,
    to: &DeltaTableState,
    columns: &SchemaRef,
) -> Result<(), TableError> {
    let (before, after) = (from.snapshot().schema(), to.snapshot().schema());
    for column in columns.fields() {
        let (Some(before), Some(after)) = (before.field(column.name()), after.field(column.name())) else { continue };
        if !is_same_in_files(before, after) {
            let reason = format!("column '{}' is another one now, of the same name", column.name());
            return Err(TableError::SchemaMismatch { location: handle.location.to_string(), reason });
        }
    }
    Ok(())
}

/// The rows of some files of a version, or some of their live rows by their numbers, each with the weight.
async fn rows(
    handle: &Handle,
    version: Version<'_>,
    files: BTreeMap<u32, Option<RoaringTreemap>>,
    columns: &SchemaRef,
    names: Vec<Option<String>>,
    weight: i64,
) -> Result<RowChanges, TableError> {
    if files.is_empty() {
        return Ok(stream::empty().boxed());
    }
    let location = handle.location.to_string();
    let failed = {
        let location = location.clone();
        move |error: DataFusionError| TableError::storage(READING, location.clone(), error)
    };
    let there: Vec<String> = names.iter().flatten().cloned().collect();
    let numbers = files.keys().copied().collect();
    let rows = PlacedRows::new(handle, version.state, version.active, numbers, &there).await.map_err(&failed)?;
    let opened = rows.stream().map_err(&failed)?;
    let columns = columns.clone();
    let all_found = {
        let failed = failed.clone();
        stream::once(async move { rows.seen().map_err(failed) }).filter_map(|seen| async { seen.err().map(Err) })
    };
    let changes = opened.map(move |batch| {
        let batch = only(&batch.map_err(&failed)?, &files).map_err(&failed)?;
        let count = batch.num_rows();
        let value = |source| TableError::Value { what: "a row".into(), location: location.clone(), source };
        let rows = picked(&batch, &columns, &names).map_err(value)?;
        match weight {
            1 => Ok(Changes::inserts(rows)),
            weight => Changes::with_weights(rows, Int64Array::from_value(weight, count)).map_err(value),
        }
    });
    Ok(changes.chain(all_found).boxed())
}

/// The rows that are asked for: of a file with some, those.
fn only(batch: &RecordBatch, files: &BTreeMap<u32, Option<RoaringTreemap>>) -> Result<RecordBatch, DataFusionError> {
    let (numbers, rows) = places_of(batch)?;
    let wanted = |(file, row): (&u32, &u64)| match files.get(file) {
        Some(Some(some)) => some.contains(*row),
        all => all.is_some(),
    };
    let keep: BooleanArray = numbers.iter().zip(rows).map(|place| Some(wanted(place))).collect();
    Ok(if keep.true_count() == keep.len() { batch.clone() } else { filter_record_batch(batch, &keep)? })
}

/// `names` are those that the columns have in the batch.
fn picked(batch: &RecordBatch, columns: &SchemaRef, names: &[Option<String>]) -> Result<RecordBatch, ArrowError> {
    let column = |(field, name): (&FieldRef, &Option<String>)| -> Result<ArrayRef, ArrowError> {
        match name.as_ref().and_then(|name| batch.column_by_name(name)) {
            Some(column) => cast(column, field.data_type()),
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        }
    };
    let picked = columns.fields().iter().zip(names).map(column).collect::<Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(columns.clone(), picked, &options)
}
