//! AWS Glue's Data Catalog.
//!
//! <https://docs.aws.amazon.com/glue/latest/webapi/API_UpdateTable.html>: an update that names the version it was made over is
//! refused (`ConcurrentModificationException`, `VersionMismatchException`) when the table has another one by then.

use super::super::Environment;
use super::super::asking::{Answer, Asking, NoAnswer};
use super::super::endpoint;
use super::super::error::StorageError;
use super::super::options::{Limits, StorageOptions};
use super::super::s3::{self, Identity};
use super::{Described, Exchanged, MetastoreColumn, NewTable, State, Told, below_database, classes, parameters};
use super::{METADATA, METADATA_BEFORE, PATH};
use http::Method;
use object_store::aws::AwsAuthorizer;
use object_store::client::HttpRequestBody;
use rivermere_base::Doors;
use serde_json::{Map, Value, json};

pub(super) const OPTIONS: &[&str] = &[
    "access_key_id",
    "allow_http",
    "catalog_id",
    "endpoint",
    "profile",
    "region",
    "secret_access_key",
    "session_token",
    "warehouse",
];

/// What `GetTable` tells and `UpdateTable` takes back.
const TABLE_INPUT: &[&str] = &[
    "Name",
    "Description",
    "Owner",
    "LastAccessTime",
    "LastAnalyzedTime",
    "Retention",
    "StorageDescriptor",
    "PartitionKeys",
    "ViewOriginalText",
    "ViewExpandedText",
    "TableType",
    "Parameters",
    "TargetTable",
];

/// A data catalog: that of an account in a region.
pub(in super::super) struct Glue {
    asking: Asking,
    endpoint: String,
    identity: Identity,
    catalog_id: Option<String>,
    warehouse: Option<String>,
}

impl Glue {
    pub(super) fn open(
        region: &str,
        options: &StorageOptions,
        limits: Limits,
        doors: &Doors,
        environment: &Environment,
    ) -> Result<Self, StorageError> {
        let region = Some(region).filter(|region| !region.is_empty());
        let identity = s3::identity(region, options, limits, doors.disk.as_ref(), environment)?;
        let given = options
            .get("endpoint")
            .or_else(|| environment.get("AWS_ENDPOINT_URL_GLUE"))
            .or_else(|| environment.get("AWS_ENDPOINT_URL"));
        let (endpoint, is_http) = match given {
            Some(given) => {
                let endpoint = endpoint::checked(given, options)?;
                (endpoint.url, endpoint.is_http)
            }
            None => {
                let region = &identity.region;
                let country = if region.starts_with("cn-") { ".cn" } else { "" };
                (format!("https://glue.{region}.amazonaws.com{country}"), false)
            }
        };
        let asking = Asking::new(limits, is_http, doors.rng.clone())
            .map_err(|source| StorageError::Client { url: endpoint.clone(), source })?;
        let text = |option| options.get(option).map(str::to_owned);
        Ok(Self { asking, endpoint, identity, catalog_id: text("catalog_id"), warehouse: text("warehouse") })
    }

    /// Asks for an operation. What only reads is repeated for longer.
    async fn ask(&self, operation: &str, mut body: Value, repeat: bool) -> Result<Result<Value, Refused>, NoAnswer> {
        if let (Some(id), Some(body)) = (&self.catalog_id, body.as_object_mut()) {
            body.insert("CatalogId".into(), json!(id));
        }
        let text = body.to_string();
        let credentials = self.identity.credentials.get_credential().await;
        let credentials = credentials.map_err(|error| NoAnswer(format!("no credentials for AWS Glue: {error}")))?;
        // What signs takes it for a header as it stands.
        if credentials.token.as_ref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(NoAnswer("no credentials for AWS Glue: the session token is no text of one line".to_owned()));
        }
        let once = || async {
            let request = http::Request::builder()
                .method(Method::POST)
                .uri(format!("{}/", self.endpoint))
                .header("content-type", "application/x-amz-json-1.1")
                .header("x-amz-target", format!("AWSGlue.{operation}"))
                .body(HttpRequestBody::from(text.clone().into_bytes()));
            let mut request = request.map_err(|error| NoAnswer(error.to_string()))?;
            AwsAuthorizer::new(&credentials, "glue", &self.identity.region).authorize(&mut request, None);
            self.asking.once(request).await
        };
        // Too much was asked for: nothing has been done.
        let has_much_to_do = |answer: &Answer| answer.status == 400 && kind(answer).contains("Throttl");
        let answer = match repeat {
            true => self.asking.repeated(has_much_to_do, once).await?,
            false => once().await?,
        };
        if answer.status == 200 {
            return match answer.body.is_empty() {
                true => Ok(Ok(Value::Null)),
                false => serde_json::from_slice(&answer.body).map(Ok).map_err(|error| NoAnswer(error.to_string())),
            };
        }
        let is_failure = answer.status >= 500;
        Ok(Err(Refused { operation: operation.to_owned(), kind: kind(&answer), message: message(&answer), is_failure }))
    }

    pub(super) async fn described(&self, database: &str, name: &str) -> Result<Option<Described>, NoAnswer> {
        let answer = self.ask("GetTable", json!({ "DatabaseName": database, "Name": name }), true).await?;
        let table = match answer {
            Ok(mut answer) => answer.get_mut("Table").map(Value::take).unwrap_or_default(),
            Err(refused) if refused.is("EntityNotFoundException") => return Ok(None),
            Err(refused) => return Err(refused.into()),
        };
        let descriptor = &table["StorageDescriptor"];
        let text = |value: &'static str| table["Parameters"][value].as_str();
        let told = Told::of(
            |name| table["Parameters"][name].as_str(),
            descriptor["Location"].as_str(),
            descriptor["SerdeInfo"]["Parameters"][PATH].as_str().or_else(|| text(PATH)),
            descriptor["InputFormat"].as_str(),
        );
        let version = table["VersionId"].as_str().map(str::to_owned);
        told.with(name, State::Glue { table, version }).map(Some)
    }

    pub(super) async fn exchange(
        &self,
        database: &str,
        table: &Value,
        version: Option<&str>,
        metadata: &str,
        columns: &[MetastoreColumn],
    ) -> Result<Exchanged, NoAnswer> {
        let Some(version) = version else {
            return Err(NoAnswer(
                "AWS Glue names no version of the table, without which two writers cannot be told apart".into(),
            ));
        };
        let known = table.as_object().into_iter().flatten().filter(|(name, _)| TABLE_INPUT.contains(&name.as_str()));
        let mut input: Map<String, Value> = known.map(|(name, value)| (name.clone(), value.clone())).collect();
        let parameters = input.entry("Parameters").or_insert_with(|| json!({}));
        parameters[METADATA_BEFORE] = parameters[METADATA].take();
        parameters[METADATA] = json!(metadata);
        let descriptor = input.entry("StorageDescriptor").or_insert_with(|| json!({}));
        // What others have said of a column stays while it is the same.
        let before = descriptor["Columns"].take();
        let column = |column: &MetastoreColumn| {
            let is_it =
                |known: &&Value| known["Name"] == column.name.as_str() && known["Type"] == column.hive_type.as_str();
            before.as_array().into_iter().flatten().find(is_it).cloned().unwrap_or_else(|| told_one(column))
        };
        descriptor["Columns"] = columns.iter().map(column).collect();
        let request = json!({
            "DatabaseName": database, "TableInput": input, "SkipArchive": true, "VersionId": version,
        });
        match self.ask("UpdateTable", request, false).await {
            Ok(Ok(_)) => Ok(Exchanged::Done),
            Ok(Err(refused))
                if ["ConcurrentModificationException", "VersionMismatchException", "EntityNotFoundException"]
                    .iter()
                    .any(|kind| refused.is(kind)) =>
            {
                Ok(Exchanged::Not)
            }
            Ok(Err(refused)) if refused.is_failure => Ok(Exchanged::Unclear),
            Ok(Err(refused)) => Err(refused.into()),
            Err(error) => {
                tracing::warn!(%error, "whether a commit was made is looked up");
                Ok(Exchanged::Unclear)
            }
        }
    }

    pub(super) async fn new_location(&self, database: &str, table: &str) -> Result<String, NoAnswer> {
        let warehouse = self.warehouse.as_deref();
        match self.ask("GetDatabase", json!({ "Name": database }), true).await? {
            Ok(answer) => below_database(answer["Database"]["LocationUri"].as_str(), warehouse, database, table),
            Err(refused) if refused.is("EntityNotFoundException") => below_database(None, warehouse, database, table),
            Err(refused) => Err(refused.into()),
        }
    }

    pub(super) async fn register(&self, database: &str, table: &str, new: &NewTable) -> Result<bool, NoAnswer> {
        let [input, output, serde] = classes(new.format);
        let input = json!({
            "Name": table,
            "TableType": "EXTERNAL_TABLE",
            "Parameters": parameters(new),
            "StorageDescriptor": {
                "Columns": told(&new.columns),
                "Location": new.location,
                "InputFormat": input,
                "OutputFormat": output,
                "SerdeInfo": {
                    "SerializationLibrary": serde,
                    "Parameters": { "serialization.format": "1", PATH: new.location },
                },
            },
        });
        let request = json!({ "DatabaseName": database, "TableInput": input });
        let mut answer = self.ask("CreateTable", request.clone(), false).await?;
        if answer.as_ref().is_err_and(|refused| refused.is("EntityNotFoundException")) {
            let made = self.ask("CreateDatabase", json!({ "DatabaseInput": { "Name": database } }), false).await?;
            if let Err(refused) = made.map(drop)
                && !refused.is("AlreadyExistsException")
            {
                return Err(refused.into());
            }
            answer = self.ask("CreateTable", request, false).await?;
        }
        match answer {
            Ok(_) => Ok(true),
            Err(refused) if refused.is("AlreadyExistsException") => Ok(false),
            Err(refused) => Err(refused.into()),
        }
    }
}

/// An operation that was not done.
struct Refused {
    operation: String,
    kind: String,
    message: String,
    /// Of the service, which may have done it.
    is_failure: bool,
}

impl Refused {
    fn is(&self, kind: &str) -> bool {
        self.kind == kind
    }
}

impl From<Refused> for NoAnswer {
    fn from(refused: Refused) -> Self {
        Self(format!("AWS Glue refuses {}: {}: {}", refused.operation, refused.kind, refused.message))
    }
}

/// The name of an error, which may come behind a namespace, and before a URL.
fn kind(answer: &Answer) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let whole = body["__type"].as_str().unwrap_or_default();
    let name = whole.rsplit('#').next().unwrap_or_default().split(':').next().unwrap_or_default();
    match name.is_empty() {
        true => format!("status {}", answer.status),
        false => name.to_owned(),
    }
}

fn message(answer: &Answer) -> String {
    // That tells what was signed, and so the headers.
    if kind(answer).contains("Signature") {
        return "the secret key is another one".to_owned();
    }
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let text = ["message", "Message"].iter().find_map(|name| body[*name].as_str()).unwrap_or_default();
    text.chars().filter(|char| !char.is_control()).take(500).collect()
}

fn told(columns: &[MetastoreColumn]) -> Value {
    columns.iter().map(told_one).collect()
}

fn told_one(column: &MetastoreColumn) -> Value {
    json!({ "Name": column.name, "Type": column.hive_type })
}
