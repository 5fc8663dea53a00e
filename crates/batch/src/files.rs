//! Files as relations without a definition: `parquet('place')`, `csv('place')`, `json('place')`.
//!
//! A place is a file, or a folder with all its files of the format. The columns are found in the files: in Parquet they
//! say so themselves, in the others the first rows tell.

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Statistics;
use datafusion::datasource::TableType;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use url::Url;

/// How files are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilesFormat {
    Parquet,
    Csv {
        delimiter: u8,
        /// Whether the first line names the columns.
        header: bool,
    },
    /// One object a line.
    Json,
}

impl FilesFormat {
    /// The table functions.
    pub(crate) const NAMES: [&'static str; 3] = ["parquet", "csv", "json"];

    /// The format of a function, with its options.
    pub(crate) fn new(name: &str, options: &[(String, String)]) -> Result<Self> {
        let wrong = |option: &str, hint: &str| {
            Err(DataFusionError::Plan(format!("RM-3105: option '{option}' of {name}('…') is not known; {hint}")))
        };
        let mut format = match name {
            "csv" => Self::Csv { delimiter: b',', header: true },
            "json" => Self::Json,
            _ => Self::Parquet,
        };
        for (option, value) in options {
            let Self::Csv { delimiter, header } = &mut format else { return wrong(option, "it has none") };
            match (option.as_str(), value.as_bytes()) {
                ("delimiter", [one]) => *delimiter = *one,
                ("delimiter", _) => return wrong(option, "a delimiter is one character"),
                ("header", b"true") => *header = true,
                ("header", b"false") => *header = false,
                _ => return wrong(option, "there are delimiter => ';' and header => 'false'"),
            }
        }
        Ok(format)
    }

    fn extension(&self) -> &'static str {
        match self {
            Self::Parquet => ".parquet",
            Self::Csv { .. } => ".csv",
            Self::Json => ".json",
        }
    }

    fn reader(&self) -> Arc<dyn FileFormat> {
        match self {
            Self::Parquet => Arc::new(ParquetFormat::default()),
            Self::Csv { delimiter, header } => {
                Arc::new(CsvFormat::default().with_delimiter(*delimiter).with_has_header(*header))
            }
            Self::Json => Arc::new(JsonFormat::default()),
        }
    }
}

/// Opens a file or a folder of files; the columns are those of now.
///
/// # Errors
/// When there is nothing, or what is there is not of the format.
pub async fn open_files(
    store: Arc<dyn ObjectStore>,
    path: Path,
    format: FilesFormat,
) -> Result<Arc<dyn TableProvider>> {
    // A URL of its own, because sessions look stores up by scheme and host.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let base = Url::parse(&format!("rivermere://files-{number}/"))
        .map_err(|error| DataFusionError::External(Box::new(error)))?;
    let is_file = store.head(&path).await.is_ok();
    let mut url = base.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.clear().extend(path.parts().map(|part| part.as_ref().to_owned()));
        if !is_file {
            segments.push("");
        }
    }
    let session = SessionContext::new();
    session.register_object_store(&base, store.clone());
    let extension = if is_file { "" } else { format.extension() };
    let options = ListingOptions::new(format.reader()).with_file_extension(extension);
    let place = ListingTableUrl::try_new(url, None)?;
    let state = session.state();
    let files = place.list_all_files(&state, store.as_ref(), &options.file_extension).await?;
    let files: Vec<ObjectMeta> = files.try_collect().await?;
    let schema = match format {
        _ if files.is_empty() => Arc::new(Schema::empty()),
        FilesFormat::Parquet => options.infer_schema(&state, &place).await?,
        _ => found_schema(&state, &store, files, &options).await?,
    };
    if schema.fields().is_empty() {
        let what = if is_file { "no columns in the file" } else { "no file, and no folder of such files," };
        let message = format!("RM-3106: there is {what} '{path}' ({})", format.extension());
        return Err(DataFusionError::Plan(message));
    }
    let config = ListingTableConfig::new(place).with_listing_options(options).with_schema(schema);
    Ok(Arc::new(Files { inner: ListingTable::try_new(config)?, base, store }))
}

/// The columns of all files, where each file's values alone tell the types: whole numbers in one and others in the next
/// are numbers, and what fits no other way is text.
async fn found_schema(
    session: &SessionState,
    store: &Arc<dyn ObjectStore>,
    files: Vec<ObjectMeta>,
    options: &ListingOptions,
) -> Result<SchemaRef> {
    let mut fields: Vec<Field> = vec![];
    for file in files {
        let schema = options.format.infer_schema(session, store, &[file]).await?;
        for field in schema.fields() {
            match fields.iter_mut().find(|known| known.name() == field.name()) {
                Some(known) => {
                    let data_type = common_type(known.data_type(), field.data_type());
                    *known = Field::new(field.name(), data_type, true);
                }
                None => fields.push(field.as_ref().clone().with_nullable(true)),
            }
        }
    }
    Ok(Arc::new(Schema::new(fields)))
}

fn common_type(one: &DataType, other: &DataType) -> DataType {
    match (one, other) {
        (one, other) if one == other => one.clone(),
        (DataType::Null, some) | (some, DataType::Null) => some.clone(),
        (one, other) if one.is_numeric() && other.is_numeric() => DataType::Float64,
        _ => DataType::Utf8,
    }
}

/// A listing whose store is known to whichever session scans it.
struct Files {
    inner: ListingTable,
    base: Url,
    store: Arc<dyn ObjectStore>,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").field("base", &self.base).finish_non_exhaustive()
    }
}

impl TableProvider for Files {
    fn schema(&self) -> SchemaRef {
        self.inner.schema()
    }

    fn table_type(&self) -> TableType {
        self.inner.table_type()
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        self.inner.supports_filters_pushdown(filters)
    }

    fn statistics(&self) -> Option<Statistics> {
        self.inner.statistics()
    }

    // Not by the macro, since a future that holds the filters takes the compiler seconds: see `rivermere_base::Opaque`.
    fn scan<'a, 'b, 'c, 'd, 'e>(
        &'a self,
        session: &'b dyn Session,
        projection: Option<&'c Vec<usize>>,
        filters: &'d [Expr],
        limit: Option<usize>,
    ) -> Pin<Box<dyn Future<Output = Result<Arc<dyn ExecutionPlan>>> + Send + 'e>>
    where
        'a: 'e,
        'b: 'e,
        'c: 'e,
        'd: 'e,
        Self: 'e,
    {
        session.runtime_env().register_object_store(&self.base, self.store.clone());
        self.inner.scan(session, projection, filters, limit)
    }
}
