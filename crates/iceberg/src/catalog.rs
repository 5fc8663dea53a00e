//! A table as a REST catalog hands it out, and what its clients make and commit.
//!
//! Specification: Apache Iceberg's REST catalog, `rest-catalog-open-api.yaml`: `LoadTableResult`, `CreateTableRequest`,
//! `CommitTableRequest`.

use crate::IcebergTable;
use crate::place::{Found, Place};
use crate::produce::{self, Outcome};
use crate::verbs::url_of;
use iceberg::spec::{FormatVersion, Schema, SortOrder, TableMetadata, TableMetadataBuilder, UnboundPartitionSpec};
use iceberg::{TableRequirement, TableUpdate};
use rivermere_table::{Location, TableError};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;

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

/// A table that a client wants made: a `CreateTableRequest`, or the first commit of one that was staged.
#[derive(Debug)]
pub struct NewIcebergTable {
    /// Nothing in a commit, which names its table elsewhere.
    pub name: Option<String>,
    /// URL of its folder, when the client names one.
    pub location: Option<String>,
    /// Whether its metadata is only asked for, and a commit is to make it.
    pub is_staged: bool,
    schema: Schema,
    partitions: UnboundPartitionSpec,
    order: SortOrder,
    version: FormatVersion,
    properties: HashMap<String, String>,
    /// What is done to it at once.
    updates: Vec<TableUpdate>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct CreateRequest {
    name: String,
    location: Option<String>,
    schema: Schema,
    partition_spec: Option<UnboundPartitionSpec>,
    write_order: Option<SortOrder>,
    #[serde(default)]
    stage_create: bool,
    #[serde(default)]
    properties: HashMap<String, String>,
}

impl NewIcebergTable {
    /// Reads a `CreateTableRequest`.
    ///
    /// # Errors
    /// [`CommitRefused::Invalid`].
    pub fn asked_for(body: &[u8]) -> Result<Self, CommitRefused> {
        let mut request: CreateRequest = serde_json::from_slice(body)
            .map_err(|error| CommitRefused::Invalid(format!("no request for a new table: {error}")))?;
        let version = match request.properties.remove("format-version").as_deref() {
            None | Some("2") => FormatVersion::V2,
            Some("3") => FormatVersion::V3,
            Some(other) => {
                let reason = format!("tables of format-version {other} are not made, but of 2 and 3");
                return Err(CommitRefused::Invalid(reason));
            }
        };
        Ok(Self {
            name: Some(request.name),
            location: request.location,
            is_staged: request.stage_create,
            schema: request.schema,
            partitions: request.partition_spec.unwrap_or_default(),
            order: request.write_order.unwrap_or_else(SortOrder::unsorted_order),
            version,
            properties: request.properties,
            updates: vec![],
        })
    }

    /// Reads the `CommitTableRequest` that makes a table which was staged; nothing for a commit to one that is there.
    ///
    /// # Errors
    /// [`CommitRefused::Invalid`].
    pub fn committed(body: &[u8]) -> Result<Option<Self>, CommitRefused> {
        let Request { requirements, updates } = Request::read(body)?;
        if !requirements.iter().any(|requirement| matches!(requirement, TableRequirement::NotExist)) {
            return Ok(None);
        }
        let mut new = Self {
            name: None,
            location: None,
            is_staged: false,
            schema: Schema::builder().build().map_err(invalid)?,
            partitions: UnboundPartitionSpec::default(),
            order: SortOrder::unsorted_order(),
            version: FormatVersion::V2,
            properties: HashMap::new(),
            updates: vec![],
        };
        let mut has_schema = false;
        for update in updates {
            match update {
                TableUpdate::AddSchema { schema } if !has_schema => {
                    has_schema = true;
                    new.schema = schema;
                }
                TableUpdate::AddSpec { spec } => new.partitions = spec,
                TableUpdate::AddSortOrder { sort_order } => new.order = sort_order,
                TableUpdate::UpgradeFormatVersion { format_version } => new.version = format_version,
                TableUpdate::SetLocation { location } => new.location = Some(location),
                // A new table's are the ones it has.
                TableUpdate::SetCurrentSchema { .. }
                | TableUpdate::SetDefaultSpec { .. }
                | TableUpdate::SetDefaultSortOrder { .. } => {}
                update => new.updates.push(update),
            }
        }
        match has_schema {
            true => Ok(Some(new)),
            false => Err(CommitRefused::Invalid("a new table has columns, and this one adds no schema".into())),
        }
    }

    fn metadata(self, location: &Location) -> Result<TableMetadata, CommitRefused> {
        let folder = url_of(location);
        let mut builder =
            TableMetadataBuilder::new(self.schema, self.partitions, self.order, folder, self.version, self.properties)
                .map_err(invalid)?;
        for update in self.updates {
            builder = update.apply(builder).map_err(invalid)?;
        }
        Ok(builder.build().map_err(invalid)?.metadata)
    }

    /// The metadata that it would have, as `LoadTableResult` without a file. Nothing is written.
    ///
    /// # Errors
    /// [`CommitRefused::Invalid`] when there can be no such table.
    pub fn staged(self, location: &Location) -> Result<Value, CommitRefused> {
        let metadata = self.metadata(location)?;
        let value = serde_json::to_value(&metadata).map_err(|error| CommitRefused::Invalid(error.to_string()))?;
        Ok(json!({ "metadata": value, "config": {} }))
    }

    /// Makes it. Durable when it returns.
    ///
    /// # Errors
    /// [`CommitRefused::Failed`] when there is a table at the place already.
    pub async fn make(self, location: Location) -> Result<(), CommitRefused> {
        let metadata = self.metadata(&location)?;
        // What cannot be read back here is not made.
        let text = serde_json::to_vec(&metadata).map_err(|error| CommitRefused::Invalid(error.to_string()))?;
        crate::metadata::read(&text, &location.to_string(), "the new metadata")?;
        let place = Place::new(location);
        let taken = || CommitRefused::Failed(format!("there is a table at '{}' already", place.location));
        match place.newest().await {
            Err(TableError::Missing { .. }) => {}
            Ok(_) => return Err(taken()),
            Err(error) => return Err(error.into()),
        }
        match produce::put(&place, 1, &metadata).await? {
            Outcome::Committed(_) => Ok(()),
            Outcome::Lost => Err(taken()),
        }
    }
}

fn invalid(error: iceberg::Error) -> CommitRefused {
    CommitRefused::Invalid(error.message().to_owned())
}

#[derive(Deserialize)]
struct Request {
    #[serde(default)]
    requirements: Vec<TableRequirement>,
    updates: Vec<TableUpdate>,
}

impl Request {
    fn read(body: &[u8]) -> Result<Self, CommitRefused> {
        serde_json::from_slice(body).map_err(|error| CommitRefused::Invalid(format!("no commit of a table: {error}")))
    }
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
        let file = match self.place().catalog() {
            Some(_) => found.name_in_catalog().to_owned(),
            None => found.name(),
        };
        Ok(json!({
            "metadata-location": file,
            "metadata": serde_json::to_value(table.as_ref()).map_err(failed)?,
            "config": {},
        }))
    }

    /// Makes the updates of a `CommitTableRequest`, if its requirements hold; the table afterwards.
    ///
    /// # Errors
    /// See [`CommitRefused`]. Nothing has been changed then, unless the storage failed.
    pub async fn commit_request(&self, body: &[u8]) -> Result<Value, CommitRefused> {
        let request = Request::read(body)?;
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
