//! Unity Catalog, by its published REST API (`/api/2.1/unity-catalog`), as the open-source server and Databricks have it.
//!
//! <https://docs.unitycatalog.io/swagger-docs/>. A table's place is asked for, and external tables are told of; Delta's own log makes the
//! commits. Files are read and written with credentials of ours. Its Iceberg tables are those of its Iceberg REST catalog.

use super::super::asking::{Answer, Asking, NoAnswer};
use super::super::endpoint;
use super::super::error::StorageError;
use super::super::options::{Limits, StorageOptions};
use super::super::percent::encoded;
use super::{Described, NewTable, State, Told};
use http::Method;
use object_store::client::HttpRequestBody;
use rivermere_base::{Doors, Secret};
use serde_json::{Value, json};

pub(super) const OPTIONS: &[&str] = &["allow_http", "token", "warehouse"];
const API: &str = "api/2.1/unity-catalog";

/// A catalog server.
pub(in super::super) struct Unity {
    asking: Asking,
    base: String,
    token: Option<Secret>,
    warehouse: Option<String>,
}

impl Unity {
    /// `base` is what comes before `/api`.
    pub(super) fn open(
        base: &str,
        options: &StorageOptions,
        limits: Limits,
        doors: &Doors,
    ) -> Result<Self, StorageError> {
        let endpoint = endpoint::checked(base, options)?;
        let asking = Asking::new(limits, endpoint.is_http, doors.rng.clone())
            .map_err(|source| StorageError::Client { url: endpoint.url.clone(), source })?;
        Ok(Self {
            asking,
            base: endpoint.url,
            token: options.get("token").map(|token| Secret::new(token.to_owned())),
            warehouse: options.get("warehouse").map(str::to_owned),
        })
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<Answer, NoAnswer> {
        let url = format!("{}/{API}/{path}", self.base);
        let body = body.map(|body| body.to_string().into_bytes());
        let once = || async {
            let mut request = http::Request::builder().method(&method).uri(&url).header("accept", "application/json");
            if let Some(token) = &self.token {
                request = request.header("authorization", format!("Bearer {}", token.expose()));
            }
            let body = match &body {
                Some(body) => {
                    request = request.header("content-type", "application/json");
                    HttpRequestBody::from(body.clone())
                }
                None => HttpRequestBody::empty(),
            };
            // The error would hold the header.
            let request =
                request.body(body).map_err(|_| NoAnswer(format!("{url} cannot be asked: its token is no text")))?;
            self.asking.once(request).await
        };
        match method == Method::GET {
            true => self.asking.repeated(|_| false, once).await,
            false => once().await,
        }
    }

    pub(super) async fn described(&self, schema: &str, name: &str) -> Result<Option<Described>, NoAnswer> {
        let answer = self.ask(Method::GET, &format!("tables/{}", encoded(&format!("{schema}.{name}"))), None).await?;
        match answer.status {
            200 => {}
            // And not of something before it, that has no such page.
            404 if is_told(&answer) => return Ok(None),
            _ => return Err(refused(&answer)),
        }
        let table: Value = serde_json::from_slice(&answer.body).map_err(|error| NoAnswer(error.to_string()))?;
        let format = table["data_source_format"].as_str();
        let told =
            Told::of(|name| format.filter(|_| name == super::PROVIDER), table["storage_location"].as_str(), None, None);
        told.with(name, State::Unity).map(Some)
    }

    /// Below the option `warehouse`: a schema's own place is for the tables that the catalog manages.
    pub(super) fn new_location(&self, schema: &str, table: &str) -> Result<String, NoAnswer> {
        let folder = self.warehouse.as_deref().map(|warehouse| format!("{}/{schema}", warehouse.trim_end_matches('/')));
        super::below_database(folder.as_deref(), None, schema, table)
    }

    pub(super) async fn register(&self, schema: &str, table: &str, new: &NewTable) -> Result<bool, NoAnswer> {
        let (catalog, name) = schema.split_once('.').unwrap_or((schema, ""));
        let columns = new.columns.iter().enumerate().map(|(position, column)| {
            let mut told = json!({
                "name": column.name,
                "type_text": column.hive_type,
                "type_name": kind_of(&column.hive_type),
                "type_json": json!({
                    "name": column.name, "type": spark_type(&column.hive_type), "nullable": true, "metadata": {}
                }).to_string(),
                "position": position,
                "nullable": true,
            });
            let digits = column.hive_type.strip_prefix("decimal(").and_then(|rest| rest.strip_suffix(')'));
            if let Some((precision, scale)) = digits.and_then(|digits| digits.split_once(',')) {
                told["type_precision"] = json!(precision.parse::<i64>().ok());
                told["type_scale"] = json!(scale.parse::<i64>().ok());
            }
            told
        });
        let body = json!({
            "name": table,
            "catalog_name": catalog,
            "schema_name": name,
            "table_type": "EXTERNAL",
            "data_source_format": new.format,
            "columns": columns.collect::<Vec<_>>(),
            "storage_location": new.location,
        });
        let answer = self.ask(Method::POST, "tables", Some(body)).await?;
        match answer.status {
            200 | 201 => Ok(true),
            409 => Ok(false),
            400 if String::from_utf8_lossy(&answer.body).contains("ALREADY_EXISTS") => Ok(false),
            _ => Err(refused(&answer)),
        }
    }
}

/// Whether it is the catalog that answers.
fn is_told(answer: &Answer) -> bool {
    serde_json::from_slice::<Value>(&answer.body).is_ok_and(|body| body["error_code"].is_string())
}

fn refused(answer: &Answer) -> NoAnswer {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let message = body["message"].as_str().unwrap_or_default();
    let message: String = message.chars().filter(|char| !char.is_control()).take(500).collect();
    let code = body["error_code"].as_str().unwrap_or_default();
    NoAnswer(format!("Unity Catalog answers {}: {code} {message}", answer.status))
}

/// `ColumnTypeName` of the API.
fn kind_of(hive_type: &str) -> &'static str {
    match hive_type.split(['(', '<']).next().unwrap_or_default() {
        "boolean" => "BOOLEAN",
        "tinyint" => "BYTE",
        "smallint" => "SHORT",
        "int" => "INT",
        "bigint" => "LONG",
        "float" => "FLOAT",
        "double" => "DOUBLE",
        "decimal" => "DECIMAL",
        "date" => "DATE",
        "timestamp" => "TIMESTAMP",
        "binary" => "BINARY",
        "array" => "ARRAY",
        "struct" => "STRUCT",
        "map" => "MAP",
        _ => "STRING",
    }
}

/// As Spark's JSON calls a plain type; a nested one by its text.
fn spark_type(hive_type: &str) -> &str {
    match hive_type {
        "tinyint" => "byte",
        "smallint" => "short",
        "int" => "integer",
        "bigint" => "long",
        other => other,
    }
}
