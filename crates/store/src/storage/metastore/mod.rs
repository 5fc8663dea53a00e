//! Metastores: catalogs that say where a table is, and of an Iceberg table which file has its newest metadata.
//!
//! `glue://region/database.table` is a table of AWS Glue's Data Catalog, `hive://host:port/database.table` one of a Hive Metastore,
//! `unity+https://host/catalog.schema.table` one of Unity Catalog. The file of the newest metadata is exchanged by a
//! request that fails when somebody else was quicker, as Iceberg's own catalogs do it (Iceberg spec, "Metastore Tables").

mod glue;
mod hive;
mod thrift_value;
mod unity;

use super::asking::NoAnswer;
use super::error::StorageError;
use super::options::StorageOptions;
use super::{Environment, options::Limits};
use rivermere_base::Doors;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A kind of metastore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Glue,
    Hive,
    Unity,
}

/// What comes before the scheme that Unity Catalog is asked by.
const UNITY: &str = "unity+";
const SCHEMES: &[(&str, Kind)] =
    &[("glue", Kind::Glue), ("hive", Kind::Hive), ("unity+https", Kind::Unity), ("unity+http", Kind::Unity)];

/// Engines write these; the values are upper case here.
const TABLE_TYPE: &str = "table_type";
const PROVIDER: &str = "spark.sql.sources.provider";
const METADATA: &str = "metadata_location";
const METADATA_BEFORE: &str = "previous_metadata_location";
/// Where Spark's tables are: the folder that the metastore itself names may be a placeholder.
const PATH: &str = "path";

impl Kind {
    fn form(self) -> &'static str {
        match self {
            Self::Glue => "glue://region/database.table",
            Self::Hive => "hive://host:9083/database.table",
            Self::Unity => "unity+https://host/catalog.schema.table",
        }
    }

    pub(super) fn options(self) -> &'static [&'static str] {
        match self {
            Self::Glue => glue::OPTIONS,
            Self::Hive => hive::OPTIONS,
            Self::Unity => unity::OPTIONS,
        }
    }

    /// In words, for messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Glue => "AWS Glue",
            Self::Hive => "a Hive Metastore",
            Self::Unity => "Unity Catalog",
        }
    }
}

/// The kind of metastore that a URL names, if it names one.
pub(super) fn kind(url: &str) -> Option<Kind> {
    let (scheme, _) = url.split_once("://")?;
    SCHEMES.iter().find(|(name, _)| scheme.eq_ignore_ascii_case(name)).map(|(_, kind)| *kind)
}

/// A table's URL, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) kind: Kind,
    /// What is asked: a region, or a host.
    pub(super) host: String,
    pub(super) database: String,
    pub(super) table: String,
}

impl Named {
    /// The same for all that name one table. Metastores do not tell upper from lower case.
    pub(super) fn normal(&self, environment: &Environment) -> String {
        let host = match self.kind {
            Kind::Glue if self.host.is_empty() => {
                let region = environment.get("AWS_REGION").or_else(|| environment.get("AWS_DEFAULT_REGION"));
                region.unwrap_or_default().to_owned()
            }
            Kind::Hive if !self.host.contains(':') => format!("{}:{}", self.host, hive::DEFAULT_PORT),
            _ => self.host.clone(),
        };
        format!("{:?}://{host}/{}.{}", self.kind, self.database, self.table).to_ascii_lowercase()
    }
}

pub(super) fn split(url: &str, kind: Kind) -> Result<Named, StorageError> {
    // Without what may be a password.
    let scheme = url.split_once("://").map_or(url, |(scheme, _)| scheme);
    let shown = if url.contains('@') { format!("{scheme}://…") } else { url.to_owned() };
    let wrong =
        |problem: &str| StorageError::Address { url: shown.clone(), problem: problem.into(), form: kind.form() };
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    if rest.contains('@') {
        return Err(wrong("names a user, who belongs into the options"));
    }
    let (host, name) = match kind {
        // What is asked may be below a path.
        Kind::Unity => rest
            .rsplit_once('/')
            .map(|(base, name)| (format!("{}://{base}", scheme.get(UNITY.len()..).unwrap_or_default()), name)),
        Kind::Glue | Kind::Hive => rest.split_once('/').map(|(host, name)| (host.to_owned(), name)),
    }
    .ok_or_else(|| wrong("names no table"))?;
    // It becomes part of a host's name.
    if kind == Kind::Glue
        && !host.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    {
        return Err(wrong("names a region that is none"));
    }
    let parts: Vec<_> = name.split('.').collect();
    let count = if kind == Kind::Unity { 3 } else { 2 };
    match parts.split_last() {
        Some((table, database))
            if parts.len() == count && !parts.iter().any(|part| part.is_empty() || part.contains('/')) =>
        {
            Ok(Named { kind, host, database: database.join("."), table: (*table).to_owned() })
        }
        _ => Err(wrong("names no table in a database")),
    }
}

/// A metastore that is asked.
pub(super) enum Metastore {
    Glue(glue::Glue),
    Hive(hive::Hive),
    Unity(unity::Unity),
}

impl Metastore {
    pub(super) fn open(
        named: &Named,
        options: &StorageOptions,
        doors: &Doors,
        environment: &Environment,
    ) -> Result<Self, StorageError> {
        options.check_names(named.kind.name(), named.kind.options())?;
        let limits = Limits::of(options)?;
        Ok(match named.kind {
            Kind::Glue => Self::Glue(glue::Glue::open(&named.host, options, limits, doors, environment)?),
            Kind::Hive => Self::Hive(hive::Hive::open(&named.host, options, limits, doors)?),
            Kind::Unity => Self::Unity(unity::Unity::open(&named.host, options, limits, doors)?),
        })
    }
}

/// A table of a metastore, and who is asked for it.
#[derive(Clone)]
pub struct MetastoreTable {
    pub(super) service: Arc<Metastore>,
    pub(super) database: String,
    pub(super) table: String,
    /// The URL.
    pub(super) shown: Arc<str>,
}

/// What a metastore knows of a table.
#[derive(Clone, Debug)]
pub struct Described {
    /// `ICEBERG`, `DELTA`, `HUDI`, or what else its parameters say, in upper case; empty when they say nothing.
    pub format: String,
    /// URL of the table's folder.
    pub location: String,
    /// Of an Iceberg table: URL of the file that has its newest metadata.
    pub metadata: Option<String>,
    state: State,
}

/// The table as the metastore has it, from which its next state is made.
#[derive(Clone, Debug)]
enum State {
    Glue {
        table: serde_json::Value,
        version: Option<String>,
    },
    Hive(thrift_value::Fields),
    /// Nothing of it is exchanged.
    Unity,
}

/// What became of a name that was to take the place of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchanged {
    Done,
    /// Nothing was changed: the table is another one by now, or another writer keeps it.
    Not,
    /// It may have been done: the newest metadata tells whether it follows from the new one.
    Unclear,
}

/// A table that a metastore is told of.
#[derive(Clone, Debug)]
pub struct NewTable {
    /// `ICEBERG`, `DELTA` or `HUDI`.
    pub format: &'static str,
    pub location: String,
    pub metadata: Option<String>,
    pub columns: Vec<MetastoreColumn>,
}

/// A column, for engines that look at no more than a metastore has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetastoreColumn {
    pub name: String,
    /// In the words of Hive.
    pub hive_type: String,
}

impl MetastoreTable {
    /// What the metastore says of the table now; nothing when it has no such table.
    ///
    /// # Errors
    /// When there is no answer, or it refuses.
    pub async fn described(&self) -> Result<Option<Described>, NoAnswer> {
        match &*self.service {
            Metastore::Glue(glue) => glue.described(&self.database, &self.table).await,
            Metastore::Hive(hive) => hive.described(&self.database, &self.table).await,
            Metastore::Unity(unity) => unity.described(&self.database, &self.table).await,
        }
    }

    /// Makes `metadata` the file of the newest metadata, where the table is still what `described` says.
    ///
    /// # Errors
    /// When it was refused for another reason; nothing was changed. Without an answer it is [`Exchanged::Unclear`].
    pub async fn exchange(
        &self,
        described: &Described,
        metadata: &str,
        columns: &[MetastoreColumn],
    ) -> Result<Exchanged, NoAnswer> {
        match (&*self.service, &described.state) {
            (Metastore::Glue(glue), State::Glue { table, version }) => {
                glue.exchange(&self.database, table, version.as_deref(), metadata, columns).await
            }
            (Metastore::Hive(hive), State::Hive(base)) => {
                hive.exchange(&self.database, &self.table, base, metadata, columns).await
            }
            _ => Err(NoAnswer(format!("{self} is no table whose newest metadata the catalog names"))),
        }
    }

    /// URL of the folder that a new table of the name has: in that of its database.
    ///
    /// # Errors
    /// When there is no answer, or nothing says where the database is.
    pub async fn new_location(&self) -> Result<String, NoAnswer> {
        match &*self.service {
            Metastore::Glue(glue) => glue.new_location(&self.database, &self.table).await,
            Metastore::Hive(hive) => hive.new_location(&self.database, &self.table).await,
            Metastore::Unity(unity) => unity.new_location(&self.database, &self.table),
        }
    }

    /// Whether it names the files of Iceberg tables' newest metadata. Unity Catalog does not: those are in its Iceberg REST catalog.
    pub fn has_iceberg(&self) -> bool {
        !matches!(&*self.service, Metastore::Unity(_))
    }

    /// Tells the metastore of a table; `false` when it has one of the name. Its database is made where there is none, but for Unity's.
    ///
    /// # Errors
    /// After one it may have been done all the same.
    pub async fn register(&self, new: &NewTable) -> Result<bool, NoAnswer> {
        match &*self.service {
            Metastore::Glue(glue) => glue.register(&self.database, &self.table, new).await,
            Metastore::Hive(hive) => hive.register(&self.database, &self.table, new).await,
            Metastore::Unity(unity) => unity.register(&self.database, &self.table, new).await,
        }
    }
}

/// The URL.
impl fmt::Display for MetastoreTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shown.fmt(f)
    }
}

impl fmt::Debug for MetastoreTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MetastoreTable({})", self.shown)
    }
}

/// What parameters of a table say, which every engine writes in its own way.
struct Told {
    format: String,
    location: String,
    metadata: Option<String>,
}

impl Told {
    /// `folder` is what the metastore calls the table's location, `path` what Spark does, `input` the class that Hive reads with.
    fn of<'a>(
        parameter: impl Fn(&str) -> Option<&'a str>,
        folder: Option<&str>,
        path: Option<&str>,
        input: Option<&str>,
    ) -> Self {
        let by_class = input.filter(|class| class.to_ascii_lowercase().contains("hudi")).map(|_| "hudi");
        let format = parameter(TABLE_TYPE).or_else(|| parameter(PROVIDER)).or(by_class).unwrap_or_default();
        Self {
            format: format.to_ascii_uppercase(),
            location: path.or(folder).unwrap_or_default().trim_end_matches('/').to_owned(),
            metadata: parameter(METADATA).map(str::to_owned),
        }
    }

    /// # Errors
    /// For an entry without a place, as views have it.
    fn with(self, name: &str, state: State) -> Result<Described, NoAnswer> {
        if self.location.is_empty() {
            return Err(NoAnswer(format!(
                "'{name}' is in the catalog without a place: it is a view, or no table of files"
            )));
        }
        Ok(Described { format: self.format, location: self.location, metadata: self.metadata, state })
    }
}

/// The folder of a new table: below its database's, or below the option `warehouse`.
fn below_database(
    folder: Option<&str>,
    warehouse: Option<&str>,
    database: &str,
    table: &str,
) -> Result<String, NoAnswer> {
    let given = |text: &&str| !text.trim().is_empty();
    match (folder.filter(given), warehouse.filter(given)) {
        (Some(folder), _) => Ok(format!("{}/{table}", folder.trim_end_matches('/'))),
        (None, Some(warehouse)) => Ok(format!("{}/{database}.db/{table}", warehouse.trim_end_matches('/'))),
        (None, None) => Err(NoAnswer(format!(
            "nothing says where tables of the database '{database}' are: give it a location, or set the option warehouse"
        ))),
    }
}

/// The parameters by which engines know what a table is.
fn parameters(new: &NewTable) -> BTreeMap<&'static str, String> {
    let mut parameters = BTreeMap::from([("EXTERNAL", "TRUE".to_owned())]);
    match new.format {
        "HUDI" => {}
        format => drop(parameters.insert(TABLE_TYPE, format.to_owned())),
    }
    match &new.metadata {
        Some(metadata) => drop(parameters.insert(METADATA, metadata.clone())),
        None => drop(parameters.insert(PROVIDER, new.format.to_ascii_lowercase())),
    }
    parameters
}

/// The classes that Hive would read and write a table with. Engines that know a format look at its parameters alone.
fn classes(format: &str) -> [&'static str; 3] {
    match format {
        "HUDI" => [
            "org.apache.hudi.hadoop.HoodieParquetInputFormat",
            "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
            "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe",
        ],
        _ => [
            "org.apache.hadoop.mapred.FileInputFormat",
            "org.apache.hadoop.mapred.FileOutputFormat",
            "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart_and_others_refused() {
        let named = split("glue://eu-central-1/shop.sales", Kind::Glue).unwrap();
        let named = (named.host.as_str(), named.database.as_str(), named.table.as_str());
        assert_eq!(named, ("eu-central-1", "shop", "sales"));
        assert_eq!(split("glue:///shop.sales", Kind::Glue).unwrap().host, "");
        let named = split("Unity+https://h:8443/base/main.shop.sales", Kind::Unity).unwrap();
        let named = (named.host.as_str(), named.database.as_str(), named.table.as_str());
        assert_eq!(named, ("https://h:8443/base", "main.shop", "sales"));
        assert!(split("unity+https://h/shop.sales", Kind::Unity).is_err());
        for wrong in [
            "glue://r",
            "glue://r/t",
            "glue://r/a.b.c",
            "glue://r/.t",
            "glue://r/a/b.t",
            "glue://u:p@r/a.t",
            "glue://r:9/a.t",
            "glue://r?/a.t",
        ] {
            let error = split(wrong, Kind::Glue).unwrap_err().to_string();
            assert!(error.starts_with("RM-1111") && !error.contains("u:p"), "{error}");
        }
        assert_eq!((kind("GLUE://r/a.t"), kind("s3://b/t"), kind("glue")), (Some(Kind::Glue), None, None));
    }

    #[test]
    fn a_table_has_one_name_however_its_url_is_written() {
        let environment = Environment::from_iter([("AWS_REGION", "eu-central-1")]);
        let normal = |url: &str| split(url, kind(url).unwrap()).unwrap().normal(&environment);
        assert_eq!(normal("glue:///Shop.sales"), normal("GLUE://eu-central-1/shop.Sales"));
        assert_eq!(normal("hive://h/a.t"), normal("hive://H:9083/A.T"));
        assert_ne!(normal("hive://h/a.t"), normal("hive://h:9084/a.t"));
        assert_ne!(normal("glue://us-east-1/a.t"), normal("glue:///a.t"));
    }

    #[test]
    fn what_engines_write_of_a_table_is_understood() {
        let told = |parameters: &[(&str, &str)], path: Option<&str>, input: Option<&str>| {
            let parameter = |name: &str| parameters.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
            let told = Told::of(parameter, Some("s3://b/folder/"), path, input);
            (told.format, told.location, told.metadata)
        };
        let iceberg = [("table_type", "iceberg"), ("metadata_location", "s3://b/folder/metadata/1.json")];
        let expected = ("ICEBERG".into(), "s3://b/folder".into(), Some("s3://b/folder/metadata/1.json".into()));
        assert_eq!(told(&iceberg, None, None), expected);
        // Spark names a placeholder as the folder, and the path as a property.
        let delta = [("spark.sql.sources.provider", "delta")];
        assert_eq!(told(&delta, Some("s3://b/delta"), None), ("DELTA".into(), "s3://b/delta".into(), None));
        let class = Some("org.apache.hudi.hadoop.HoodieParquetInputFormat");
        assert_eq!(told(&[], None, class), ("HUDI".into(), "s3://b/folder".into(), None));
        assert_eq!(told(&[], None, Some("TextInputFormat")).0, "");
    }

    #[test]
    fn a_new_table_is_below_its_database_or_the_warehouse() {
        assert_eq!(below_database(Some("s3://b/db/"), Some("s3://w"), "db", "t").unwrap(), "s3://b/db/t");
        assert_eq!(below_database(Some(""), Some("s3://w/"), "db", "t").unwrap(), "s3://w/db.db/t");
        assert!(below_database(None, None, "db", "t").unwrap_err().to_string().contains("warehouse"));
    }
}
