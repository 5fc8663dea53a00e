//! Tables of a REST catalog, which says what metadata is the newest.
//!
//! Specification: Apache Iceberg's `rest-catalog-open-api.yaml`. Files are read and written in the table's own storage, with
//! credentials of ours; what the catalog is asked for is the metadata, and the commit.

use crate::place::Found;
use iceberg::spec::{MAIN_BRANCH, Schema, UnboundPartitionSpec};
use iceberg::{TableRequirement, TableUpdate};
use rivermere_store::{Answer, CatalogTable, NoAnswer, encoded, message};
use rivermere_table::{Location, TableError};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

const ASKING: &str = "asking the catalog";
/// Parts of a namespace are told apart by this character in a path.
const UNIT: char = '\u{1f}';

/// Where files of a table are, by the URL that its metadata says.
pub type Locate = dyn Fn(&str) -> Result<Location, TableError> + Send + Sync;

/// A table of a catalog.
#[derive(Clone, Debug)]
pub(crate) struct Entry(Arc<CatalogTable>);

/// What a catalog knows of a table.
pub(crate) struct Loaded {
    /// The file of its metadata.
    pub(crate) file: String,
    pub(crate) metadata: Box<RawValue>,
    /// The table's folder.
    pub(crate) location: String,
}

#[derive(Deserialize)]
struct LoadTableResult {
    #[serde(rename = "metadata-location")]
    file: Option<String>,
    metadata: Box<RawValue>,
}

impl Entry {
    pub(crate) fn new(table: CatalogTable) -> Self {
        Self(Arc::new(table))
    }

    pub(crate) fn shown(&self) -> &str {
        &self.0.shown
    }

    fn namespace(&self) -> String {
        encoded(&self.0.namespace.join(&UNIT.to_string()))
    }

    fn path(&self) -> String {
        format!("namespaces/{}/tables/{}", self.namespace(), encoded(&self.0.table))
    }

    fn failed(&self, error: NoAnswer) -> TableError {
        TableError::storage(ASKING, self.shown().to_owned(), error)
    }

    fn refused(&self, answer: &Answer) -> TableError {
        let text = format!("it answers {}: {}", answer.status, message(&answer.body));
        TableError::storage(ASKING, self.shown().to_owned(), text)
    }

    fn loaded(&self, answer: &Answer) -> Result<Loaded, TableError> {
        #[derive(Deserialize)]
        struct Located {
            location: String,
        }
        let odd = |error: serde_json::Error| TableError::storage(ASKING, self.shown().to_owned(), error);
        let LoadTableResult { file, metadata } = serde_json::from_slice(&answer.body).map_err(odd)?;
        let Located { location } = serde_json::from_str(metadata.get()).map_err(odd)?;
        Ok(Loaded { file: file.unwrap_or_default(), metadata, location })
    }

    /// # Errors
    /// [`TableError::Missing`] when there is no such table.
    pub(crate) async fn load(&self) -> Result<Loaded, TableError> {
        let answer = self.0.service.get(&self.path()).await.map_err(|error| self.failed(error))?;
        match answer.status {
            200 => self.loaded(&answer),
            404 if is_missing(&answer) => Err(TableError::Missing { location: self.shown().to_owned() }),
            _ => Err(self.refused(&answer)),
        }
    }

    /// Makes updates over `found`; nothing when the table is another one by now.
    ///
    /// # Errors
    /// After one nothing is known but that the table can be asked.
    pub(crate) async fn commit(&self, found: &Found, updates: &[TableUpdate]) -> Result<Option<Loaded>, TableError> {
        let table = &found.metadata.table;
        let mut requirements = vec![
            TableRequirement::UuidMatch { uuid: table.uuid() },
            TableRequirement::RefSnapshotIdMatch {
                r#ref: MAIN_BRANCH.to_owned(),
                snapshot_id: table.current_snapshot_id(),
            },
            // Files that are added are written with these.
            TableRequirement::CurrentSchemaIdMatch { current_schema_id: table.current_schema_id() },
            TableRequirement::DefaultSpecIdMatch { default_spec_id: table.default_partition_spec_id() },
        ];
        if updates.iter().any(|update| matches!(update, TableUpdate::AddSchema { .. })) {
            let last_assigned_field_id = table.last_column_id();
            requirements.push(TableRequirement::LastAssignedFieldIdMatch { last_assigned_field_id });
        }
        let body = json!({
            "identifier": { "namespace": self.0.namespace, "name": self.0.table },
            "requirements": requirements,
            "updates": updates,
        });
        let answer = self.0.service.post(&self.path(), body.to_string().into_bytes()).await;
        let answer = answer.map_err(|error| self.failed(error))?;
        match answer.status {
            200 => self.loaded(&answer).map(Some),
            409 => Ok(None),
            404 if is_missing(&answer) => Err(TableError::Missing { location: self.shown().to_owned() }),
            // Some servers refuse so what was made over a table that has changed.
            400 | 422 if self.load().await?.file != found.name_in_catalog() => Ok(None),
            400 | 403 | 406 | 422 => Err(TableError::Verb {
                location: self.shown().to_owned(),
                verb: "this",
                reason: format!("the catalog says: {}", message(&answer.body)),
            }),
            _ => Err(self.refused(&answer)),
        }
    }

    /// Makes a table, and the namespace that it is in when there is none.
    pub(crate) async fn create(
        &self,
        schema: &Schema,
        spec: &UnboundPartitionSpec,
        properties: &HashMap<String, String>,
    ) -> Result<Loaded, TableError> {
        let body = json!({
            "name": self.0.table,
            "schema": schema,
            "partition-spec": spec,
            "stage-create": false,
            "properties": properties,
        });
        let path = format!("namespaces/{}/tables", self.namespace());
        let post = async |path: &str, body: &Value| {
            let answer = self.0.service.post(path, body.to_string().into_bytes()).await;
            answer.map_err(|error| self.failed(error))
        };
        let mut answer = post(&path, &body).await?;
        if answer.status == 404 && is_missing(&answer) {
            let namespace = json!({ "namespace": self.0.namespace, "properties": {} });
            let made = post("namespaces", &namespace).await?;
            if !matches!(made.status, 200 | 409) {
                return Err(self.refused(&made));
            }
            answer = post(&path, &body).await?;
        }
        match answer.status {
            200 => self.loaded(&answer),
            409 => Err(TableError::Verb {
                location: self.shown().to_owned(),
                verb: "CREATE EXTERNAL TABLE",
                reason: "there is a table already".into(),
            }),
            _ => Err(self.refused(&answer)),
        }
    }
}

/// Whether it is the catalog that has no such thing, and not something before it that has no such page.
fn is_missing(answer: &Answer) -> bool {
    #[derive(Deserialize)]
    struct Told {
        error: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        r#type: String,
    }
    serde_json::from_slice::<Told>(&answer.body).is_ok_and(|told| told.error.r#type.starts_with("NoSuch"))
}
