//! A table as a REST catalog hands it out, and what its clients commit.
//!
//! Specification: Apache Iceberg's REST catalog, `rest-catalog-open-api.yaml`: `LoadTableResult`, `CommitTableRequest`.

use crate::IcebergTable;
use crate::place::Found;
use crate::produce::{self, Outcome};
use iceberg::{TableRequirement, TableUpdate};
use rivermere_table::TableError;
use serde::Deserialize;
use serde_json::{Value, json};

/// Attempts to put metadata whose requirements hold, beside other writers.
const ATTEMPTS: usize = 16;

/// Why a client's commit was not made.
#[derive(Debug)]
pub enum CommitRefused {
    /// It is no request of the specification, or asks for what is not done here.
    Invalid(String),
    /// What it requires is not so any more: the client works it out anew over what is there now.
    Failed(String),
    Table(TableError),
}

impl From<TableError> for CommitRefused {
    fn from(error: TableError) -> Self {
        Self::Table(error)
    }
}

#[derive(Deserialize)]
struct Request {
    #[serde(default)]
    requirements: Vec<TableRequirement>,
    updates: Vec<TableUpdate>,
}

impl IcebergTable {
    /// The newest metadata and where it is, as `LoadTableResult`.
    ///
    /// # Errors
    /// When the metadata cannot be read.
    pub async fn load(&self) -> Result<Value, TableError> {
        let found = self.place().newest().await?;
        self.told(&found)
    }

    fn told(&self, found: &Found) -> Result<Value, TableError> {
        let table = &found.metadata.table;
        let failed = |error: serde_json::Error| {
            TableError::storage("telling the metadata", self.place().location.to_string(), error)
        };
        Ok(json!({
            "metadata-location": found.name(),
            "metadata": serde_json::to_value(table.as_ref()).map_err(failed)?,
            "config": {},
        }))
    }

    /// Makes the updates of a `CommitTableRequest`, if its requirements hold; the table afterwards.
    ///
    /// # Errors
    /// See [`CommitRefused`]. Nothing has been changed then, unless the storage failed.
    pub async fn commit_request(&self, body: &[u8]) -> Result<Value, CommitRefused> {
        let request: Request = serde_json::from_slice(body)
            .map_err(|error| CommitRefused::Invalid(format!("no commit of a table: {error}")))?;
        if request.updates.iter().any(|update| matches!(update, TableUpdate::SetLocation { .. })) {
            return Err(CommitRefused::Invalid("a table stays where it is".into()));
        }
        for _ in 0..ATTEMPTS {
            let found = self.place().newest().await?;
            if let Some(reason) = self.place().unwritable(&found) {
                return Err(CommitRefused::Invalid(reason.into()));
            }
            for requirement in &request.requirements {
                requirement
                    .check(Some(&found.metadata.table))
                    .map_err(|error| CommitRefused::Failed(error.message().to_owned()))?;
            }
            match produce::publish(self.place(), &found, request.updates.clone()).await? {
                Outcome::Committed(found) => return Ok(self.told(&found)?),
                // What it requires may hold all the same.
                Outcome::Lost => {}
            }
        }
        Err(CommitRefused::Failed("other writers were quicker each time".into()))
    }
}
