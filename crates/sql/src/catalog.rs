//! What the statements define: tables over topics and files, and views.

use crate::error::{Source, SqlError, suggestion};
use crate::parse::{CreateTable, CreateView, Parsed, StoredAs};
use crate::plan::Plan;
use crate::properties::Properties;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::sql::sqlparser::ast::Expr as AstExpr;
use rivermere_base::TopicName;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// A named relation that queries can read.
#[derive(Clone, Debug)]
pub struct Relation {
    pub name: String,
    /// What a query sees; hidden columns are not in it.
    pub schema: SchemaRef,
    pub kind: RelationKind,
    pub properties: Properties,
}

#[derive(Clone, Debug)]
pub enum RelationKind {
    Table(Arc<TableDefinition>),
    View(Arc<ViewDefinition>),
    /// A table of the lake, whose rows others may change.
    Lake(Arc<ExternalTable>),
    /// Only known to the session that runs the query, such as a file or a lake table.
    Other,
}

/// A column of a relation, for listings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub data_type: DataType,
    pub nullable: bool,
}

/// `WATERMARK FOR column AS column - delay`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watermark {
    pub column: String,
    /// How far a row may be behind the newest one of its partition, in microseconds.
    pub delay_us: i64,
}

/// Where a table's rows come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connector {
    /// Records of an own topic, one JSON object a record.
    Topic {
        topic: TopicName,
        /// Used when the topic has to be created.
        partitions: i32,
    },
    /// A Parquet file, read once when its first view starts.
    File {
        /// Relative to the project.
        path: PathBuf,
    },
}

/// `CREATE TABLE`.
#[derive(Clone, Debug)]
pub struct TableDefinition {
    pub name: String,
    /// The statement as it was written.
    pub text: String,
    pub schema: SchemaRef,
    pub watermark: Option<Watermark>,
    pub connector: Connector,
}

/// A table format of the lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LakeFormat {
    Delta,
    Iceberg,
    Hudi,
}

impl LakeFormat {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Delta, Self::Iceberg, Self::Hudi];

    /// Also the name of the function that reads a table by its place.
    pub fn name(self) -> &'static str {
        match self {
            Self::Delta => "delta",
            Self::Iceberg => "iceberg",
            Self::Hudi => "hudi",
        }
    }

    /// The one of a name, in whatever case.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for LakeFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a table of the lake is, and what it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LakePlace {
    pub format: LakeFormat,
    /// A path below the storage folder, or a URL.
    pub location: String,
}

impl LakePlace {
    pub fn new(format: LakeFormat, location: impl Into<String>) -> Self {
        Self { format, location: location.into() }
    }
}

/// `CREATE EXTERNAL TABLE`: a name for a table of the lake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalTable {
    pub name: String,
    /// The statement as it was written.
    pub text: String,
    pub place: LakePlace,
    /// The columns that views read it by: those of the table when it was opened, or else those of the statement. None
    /// when neither is known; then no view can read it.
    pub columns: Option<SchemaRef>,
}

/// `CREATE MATERIALIZED VIEW`.
#[derive(Clone, Debug)]
pub struct ViewDefinition {
    pub name: String,
    /// The statement as it was written.
    pub text: String,
    pub plan: Plan,
    pub stored_as: Option<StoredAs>,
}

const OPTIONS: &[(&str, &str)] = &[
    ("connector", "'kafka' (an own topic, the default) or 'file'"),
    ("topic", "name of the topic; the table's name when left out"),
    ("format", "'json' for topics, 'parquet' for files"),
    ("partitions", "partitions of a topic that has to be created; 1 when left out"),
    ("path", "the file of a 'file' table, relative to the project"),
];

impl TableDefinition {
    pub(crate) fn new(create: &CreateTable, parsed: &Parsed) -> Result<Self, SqlError> {
        let source = &parsed.source;
        let name = create.name.value.clone();
        if let Some(key) = create.primary_key.first() {
            return Err(SqlError::new(SqlError::NOT_MAINTAINABLE, "PRIMARY KEY tables (upsert topics) are not there")
                .hint("leave PRIMARY KEY out and keep the newest row of each key with ROW_NUMBER() … = 1")
                .at(source.location(key.span)));
        }
        let schema = Arc::new(crate::plan::column_schema(&create.columns, source)?);
        for (index, column) in create.columns.iter().enumerate() {
            let field = schema.field(index);
            if field.name().starts_with('_') {
                return Err(SqlError::new(SqlError::NAME, format!("column '{}' begins with '_'", field.name()))
                    .hint("such names are for the platform's own columns")
                    .at(source.location(column.name.span)));
            }
            if schema.fields().iter().take(index).any(|other| other.name() == field.name()) {
                return Err(SqlError::new(SqlError::DUPLICATE, format!("column '{}' is there twice", field.name()))
                    .at(source.location(column.name.span)));
            }
        }
        let watermark = match &create.watermark {
            None => None,
            Some((column, expr)) => Some(check_watermark(Watermark::parse(column, expr), &schema, expr, source)?),
        };
        let options = check_options(create, source)?;
        let connector = connector(&name, &options, source, create)?;
        if let (Connector::File { .. }, Some((column, _))) = (&connector, &create.watermark) {
            return Err(SqlError::new(SqlError::OPTION, "a file has no watermark: it is read once")
                .at(source.location(column.span)));
        }
        Ok(Self { name, text: parsed.text.clone(), schema, watermark, connector })
    }

    /// Whether all rows are there from the start.
    pub fn is_bounded(&self) -> bool {
        matches!(self.connector, Connector::File { .. })
    }
}

fn check_watermark(
    watermark: Result<Watermark, SqlError>,
    schema: &SchemaRef,
    expr: &AstExpr,
    source: &Source,
) -> Result<Watermark, SqlError> {
    use datafusion::sql::sqlparser::ast::Spanned;
    let place = source.location(expr.span());
    let watermark = watermark.map_err(|error| error.at(place.clone()))?;
    let names = schema.fields().iter().map(|field| field.name().as_str());
    let Ok(field) = schema.field_with_name(&watermark.column) else {
        return Err(SqlError::new(SqlError::NAME, format!("column '{}' does not exist", watermark.column))
            .maybe_hint(suggestion(&watermark.column, names))
            .at(place));
    };
    if !matches!(field.data_type(), DataType::Timestamp(_, _)) {
        let message = format!("a watermark needs a TIMESTAMP column; '{}' is {}", field.name(), field.data_type());
        return Err(SqlError::new(SqlError::TYPE, message).at(place));
    }
    Ok(watermark)
}

fn check_options(create: &CreateTable, source: &Source) -> Result<BTreeMap<String, String>, SqlError> {
    for (key, value, span) in &create.options {
        let place = || source.location(*span);
        if key.starts_with("properties.") {
            return Err(SqlError::new(SqlError::OPTION, format!("'{key}': outside Kafka clusters are not there"))
                .hint("without properties.bootstrap.servers a table reads the embedded broker")
                .at(place()));
        }
        if !OPTIONS.iter().any(|(known, _)| known == key) {
            let names = OPTIONS.iter().map(|(known, _)| *known);
            let all = OPTIONS.iter().map(|(known, what)| format!("'{known}': {what}")).collect::<Vec<_>>().join("; ");
            return Err(SqlError::new(SqlError::OPTION, format!("unknown option '{key}' = '{value}'"))
                .hint(suggestion(key, names).unwrap_or(all))
                .at(place()));
        }
    }
    Ok(create.options.iter().map(|(key, value, _)| (key.clone(), value.clone())).collect())
}

fn connector(
    name: &str,
    options: &BTreeMap<String, String>,
    source: &Source,
    create: &CreateTable,
) -> Result<Connector, SqlError> {
    let get = |key: &str| options.get(key).map(String::as_str);
    let wrong = |key: &str, hint: &str| {
        let place =
            create.options.iter().find(|(other, _, _)| other == key).map_or(create.name.span, |option| option.2);
        SqlError::new(SqlError::OPTION, format!("'{key}' = '{}' is not known here", get(key).unwrap_or_default()))
            .hint(hint.to_string())
            .at(source.location(place))
    };
    match get("connector").unwrap_or("kafka") {
        "kafka" => {
            if get("format").is_some_and(|format| format != "json") {
                return Err(wrong("format", "topics are read as 'json'"));
            }
            if get("path").is_some() {
                return Err(wrong("path", "a path belongs to 'connector' = 'file'"));
            }
            let topic =
                TopicName::new(get("topic").unwrap_or(name)).map_err(|error| wrong("topic", &error.to_string()))?;
            let partitions = match get("partitions").unwrap_or("1").parse() {
                Ok(partitions @ 1..=1_000) => partitions,
                _ => return Err(wrong("partitions", "a number from 1 to 1000")),
            };
            Ok(Connector::Topic { topic, partitions })
        }
        "file" => {
            if get("format").is_some_and(|format| format != "parquet") {
                return Err(wrong("format", "files are read as 'parquet'"));
            }
            let path = get("path").ok_or_else(|| {
                SqlError::new(SqlError::OPTION, "a 'file' table needs its path")
                    .hint("WITH ('connector' = 'file', 'path' = 'data/planes.parquet')")
                    .at(source.location(create.name.span))
            })?;
            Ok(Connector::File { path: PathBuf::from(path) })
        }
        _ => Err(wrong("connector", "'kafka' or 'file'")),
    }
}

impl ViewDefinition {
    pub(crate) fn new(create: &CreateView, parsed: &Parsed, plan: Plan) -> Result<Self, SqlError> {
        if let Some(stored_as) = &create.stored_as {
            let properties = &plan.properties;
            if !properties.append_only && properties.key.is_none() {
                return Err(SqlError::new(
                    SqlError::NOT_MAINTAINABLE,
                    format!(
                        "'{}' cannot be stored as {}: its rows change and it has no unique key",
                        create.name, stored_as.format
                    ),
                )
                .hint("keep the GROUP BY columns (or the ROW_NUMBER and its PARTITION BY columns) in the SELECT list")
                .at(parsed.location.clone()));
            }
        }
        Ok(Self {
            name: create.name.value.clone(),
            text: parsed.text.clone(),
            plan,
            stored_as: create.stored_as.clone(),
        })
    }

    pub fn columns(&self) -> Vec<Column> {
        columns(&self.plan.schema)
    }

    /// Names of the unique key's columns, when there is one.
    pub fn key(&self) -> Option<Vec<String>> {
        let key = self.plan.properties.key.as_ref()?;
        Some(key.iter().map(|index| self.plan.schema.field(*index).name().clone()).collect())
    }
}

pub(crate) fn columns(schema: &SchemaRef) -> Vec<Column> {
    let column = |field: &Arc<arrow::datatypes::Field>| Column {
        name: field.name().clone(),
        data_type: field.data_type().clone(),
        nullable: field.is_nullable(),
    };
    schema.fields().iter().map(column).collect()
}
