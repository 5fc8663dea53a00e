//! Tables of a metastore, which names the file of the newest metadata.
//!
//! Specification: Iceberg spec, "Metastore Tables": new metadata is written to a file of its own, whose name then takes the place
//! of the one that it was made over, unless another name did so meanwhile.

use crate::place::{Found, Place};
use crate::produce::Outcome;
use crate::types::columns;
use iceberg::spec::TableMetadata;
use object_store::path::Path;
use object_store::{ObjectStoreExt as _, PutMode, PutOptions};
use rivermere_store::{Described, Exchanged, MetastoreTable, NewTable};
use rivermere_table::{TableError, metastore_columns};

const ASKING: &str = "asking the catalog";
const WRITING: &str = "writing its metadata";

/// The table as the metastore has it.
///
/// # Errors
/// [`TableError::Missing`] when it has none, [`TableError::OtherFormat`] when it is no Iceberg table.
pub(crate) async fn described(table: &MetastoreTable) -> Result<Described, TableError> {
    let location = || table.to_string();
    let described = table.described().await.map_err(|error| TableError::storage(ASKING, location(), error))?;
    let described = described.ok_or_else(|| TableError::Missing { location: location() })?;
    match (&described.metadata, described.format.as_str()) {
        (Some(_), "ICEBERG" | "") => Ok(described),
        (_, "DELTA") => Err(TableError::OtherFormat { location: location(), wanted: "iceberg", found: "delta" }),
        (_, "HUDI") => Err(TableError::OtherFormat { location: location(), wanted: "iceberg", found: "hudi" }),
        _ => Err(TableError::UnfitStorage {
            location: location(),
            reason: "the catalog has a table of that name which is no Iceberg table".into(),
        }),
    }
}

/// Puts metadata that follows `found`, unless the table is another one by now.
pub(crate) async fn commit(
    place: &Place,
    table: &MetastoreTable,
    found: &Found,
    next: &TableMetadata,
) -> Result<Outcome, TableError> {
    let failed = |error| TableError::storage(ASKING, place.location.to_string(), error);
    let Some(base) = &found.described else { return Ok(Outcome::Lost) };
    let (file, name) = put(place, found.number + 1, next).await?;
    let exchanged = table.exchange(base, &name, &metastore_columns(&columns(next.current_schema()))).await;
    match exchanged {
        Ok(Exchanged::Done) => place.newest().await.map(Outcome::Committed),
        Ok(Exchanged::Not) => {
            discard(place, &file).await;
            Ok(Outcome::Lost)
        }
        Ok(Exchanged::Unclear) => {
            let newest = place.newest().await?;
            let log = newest.metadata.table.metadata_log();
            let is_in = newest.name_in_catalog() == name || log.iter().any(|entry| entry.metadata_file == name);
            match is_in {
                true => Ok(Outcome::Committed(newest)),
                // Its file stays: the change may be under way still.
                false if newest.name_in_catalog() == found.name_in_catalog() => Err(TableError::storage(
                    ASKING,
                    place.location.to_string(),
                    "it has given no answer to a commit, which may be made still",
                )),
                false => Ok(Outcome::Lost),
            }
        }
        Err(error) => {
            discard(place, &file).await;
            Err(failed(error))
        }
    }
}

/// Removes metadata that nobody knows of.
async fn discard(place: &Place, file: &Path) {
    if let Err(error) = place.location.store().delete(file).await {
        tracing::debug!(location = %place.location, %error, "metadata that was not taken was left");
    }
}

/// Makes the metastore know a new table; `false` when it knows another one of that name.
pub(crate) async fn create(
    place: &Place,
    table: &MetastoreTable,
    metadata: &TableMetadata,
) -> Result<bool, TableError> {
    let failed = |error| TableError::storage(ASKING, place.location.to_string(), error);
    let (file, name) = put(place, 0, metadata).await?;
    let new = NewTable {
        format: "ICEBERG",
        location: metadata.location().to_owned(),
        metadata: Some(name),
        columns: metastore_columns(&columns(metadata.current_schema())),
    };
    let is_new = table.register(&new).await.map_err(failed)?;
    if !is_new {
        discard(place, &file).await;
    }
    Ok(is_new)
}

/// A file of its own for metadata, and the URL that it is named by.
async fn put(place: &Place, number: u64, metadata: &TableMetadata) -> Result<(Path, String), TableError> {
    let text = serde_json::to_vec(metadata)
        .map_err(|error| TableError::storage(WRITING, place.location.to_string(), error))?;
    let name = format!("{number:05}-{}.metadata.json", place.location.new_id());
    let file: Path = place.folder.clone().join("metadata").join(name.as_str());
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    let written = place.location.store().put_opts(&file, text.into(), options).await;
    written.map_err(|error| TableError::storage(WRITING, place.location.to_string(), error))?;
    Ok((file, format!("{}/metadata/{name}", metadata.location().trim_end_matches('/'))))
}
