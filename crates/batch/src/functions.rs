//! Table functions.

use crate::Query;
use crate::files::FilesFormat;
use crate::providers::{Planned, relation};
use datafusion::catalog::{TableFunctionImpl, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::Expr;
use futures::future::BoxFuture;
use rivermere_sql::{LakeFormat, LakePlace, TABLE_AS_OF, timestamp_us};
use std::fmt;
use std::sync::Arc;

/// Which state of a table is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    Newest,
    Version(i64),
    /// A branch or a tag.
    Named(String),
    /// The newest version of that time, milliseconds since 1970-01-01 UTC.
    TimeMs(i64),
}

/// Opens a table of the lake.
pub type OpenLake = dyn Fn(LakePlace, At) -> BoxFuture<'static, Result<Arc<dyn TableProvider>, String>> + Send + Sync;

/// Reads what versions of a table of the lake changed, from the one to the other.
pub type OpenChanges =
    dyn Fn(LakePlace, At, At) -> BoxFuture<'static, Result<Arc<dyn TableProvider>, String>> + Send + Sync;

/// Opens a file, or a folder of files, by its path or URL.
pub type OpenFiles =
    dyn Fn(String, FilesFormat) -> BoxFuture<'static, Result<Arc<dyn TableProvider>, String>> + Send + Sync;

/// What statements read beside the relations of the catalog.
#[derive(Clone)]
pub struct Lake {
    pub table: Arc<OpenLake>,
    pub changes: Arc<OpenChanges>,
    pub files: Arc<OpenFiles>,
}

fn text_argument(function: &str, args: &[Expr]) -> Result<String> {
    match args {
        [Expr::Literal(ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)), _)] => Ok(text.clone()),
        _ => Err(DataFusionError::Plan(format!("RM-3102: {function}('…') takes one text"))),
    }
}

fn text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Literal(ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)), _) => Some(text.clone()),
        _ => None,
    }
}

/// The state that an argument names: a number is a version, a text a time. Nothing when it is neither.
fn state(expr: &Expr) -> Result<Option<At>> {
    if let Expr::Literal(ScalarValue::Int64(Some(version)), _) = expr {
        return Ok(Some(At::Version(*version)));
    }
    let Some(text) = text(expr) else { return Ok(None) };
    let time = timestamp_us(&text).map_err(|error| DataFusionError::Plan(error.to_string()))?;
    Ok(Some(At::TimeMs(time.div_euclid(1_000))))
}

/// The first argument, and the state that a second one names.
fn place_arguments(function: &str, args: &[Expr]) -> Result<(String, At)> {
    let wrong = || {
        DataFusionError::Plan(format!("RM-3102: {function}('…'), {function}('…', version) or {function}('…', 'time')"))
    };
    let (first, second) = match args {
        [first] => (first, None),
        [first, second] => (first, Some(second)),
        [first, name, second] if text(name).as_deref() == Some("timestamp") => (first, Some(second)),
        [first, name, second] if text(name).as_deref() == Some("version") => {
            let Some(version) = text(second) else {
                return Ok((text(first).ok_or_else(wrong)?, state_or(second, wrong)?));
            };
            // Other engines write numbers as texts, too.
            let at = version.parse().map_or_else(|_| At::Named(version), At::Version);
            return Ok((text(first).ok_or_else(wrong)?, at));
        }
        _ => return Err(wrong()),
    };
    let place = text(first).ok_or_else(wrong)?;
    let at = second.map_or(Ok(At::Newest), |second| state_or(second, wrong))?;
    Ok((place, at))
}

fn state_or(expr: &Expr, wrong: impl FnOnce() -> DataFusionError) -> Result<At> {
    state(expr)?.ok_or_else(wrong)
}

/// `table_changes('table or place', from)`, and to where in a third argument.
pub(crate) struct TableChanges {
    query: Query,
}

impl TableChanges {
    pub(crate) fn new(query: Query) -> Self {
        Self { query }
    }
}

impl fmt::Debug for TableChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("table_changes")
    }
}

impl TableFunctionImpl for TableChanges {
    fn call(&self, args: &[Expr]) -> Result<Arc<dyn TableProvider>> {
        let wrong = || {
            let form = "table_changes('table', from) or table_changes('table', from, to), with versions or times";
            DataFusionError::Plan(format!("RM-3102: {form}"))
        };
        let (name, from, to) = match args {
            [name, from] => (name, from, None),
            [name, from, to] => (name, from, Some(to)),
            _ => return Err(wrong()),
        };
        let name = text(name).ok_or_else(wrong)?;
        let from = state(from)?.ok_or_else(wrong)?;
        let to = to.map_or(Ok(Some(At::Newest)), state)?.ok_or_else(wrong)?;
        let place = self.query.lake_place(&name).unwrap_or_else(|| LakePlace::new(LakeFormat::Delta, name));
        opened(self.query.open_changes(place, from, to))
    }
}

/// `delta('path')` and its like.
pub(crate) struct TableByPlace {
    format: LakeFormat,
    open: Arc<OpenLake>,
}

impl TableByPlace {
    pub(crate) fn new(format: LakeFormat, open: Arc<OpenLake>) -> Self {
        Self { format, open }
    }
}

/// `parquet('path')` and its like; options follow as pairs of texts.
pub(crate) struct Files {
    name: &'static str,
    open: Arc<OpenFiles>,
}

impl Files {
    pub(crate) fn new(name: &'static str, open: Arc<OpenFiles>) -> Self {
        Self { name, open }
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl TableFunctionImpl for Files {
    fn call(&self, args: &[Expr]) -> Result<Arc<dyn TableProvider>> {
        let texts = args.iter().map(|arg| match arg {
            Expr::Literal(ScalarValue::Boolean(Some(flag)), _) => Ok(flag.to_string()),
            arg => text_argument(self.name, std::slice::from_ref(arg)),
        });
        let texts = texts.collect::<Result<Vec<_>>>()?;
        let Some((path, options)) = texts.split_first().filter(|(_, options)| options.len() % 2 == 0) else {
            return Err(DataFusionError::Plan(format!("RM-3102: {0}('…') or {0}('…', option => 'value')", self.name)));
        };
        let options: Vec<_> = options.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
        opened((self.open)(path.clone(), FilesFormat::new(self.name, &options)?))
    }
}

/// `table_as_of('name', version)`: what `name VERSION AS OF version` becomes.
pub(crate) struct TableAsOf {
    query: Query,
}

impl TableAsOf {
    pub(crate) fn new(query: Query) -> Self {
        Self { query }
    }
}

impl fmt::Debug for TableAsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(TABLE_AS_OF)
    }
}

impl TableFunctionImpl for TableAsOf {
    fn call(&self, args: &[Expr]) -> Result<Arc<dyn TableProvider>> {
        let (name, at) = place_arguments(TABLE_AS_OF, args)?;
        let place = self.query.lake_place(&name).ok_or_else(|| {
            DataFusionError::Plan(format!("RM-3104: '{name}' is no table of the lake: it has no versions"))
        })?;
        opened(self.query.open_lake(place, at))
    }
}

impl fmt::Debug for TableByPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.format.name())
    }
}

impl TableFunctionImpl for TableByPlace {
    fn call(&self, args: &[Expr]) -> Result<Arc<dyn TableProvider>> {
        let (location, at) = place_arguments(self.format.name(), args)?;
        opened((self.open)(LakePlace::new(self.format, location), at))
    }
}

/// Planning is synchronous and may run on a Tokio worker, which must not wait: open on a thread of its own.
fn opened(
    open: BoxFuture<'static, std::result::Result<Arc<dyn TableProvider>, String>>,
) -> Result<Arc<dyn TableProvider>> {
    let opened = std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
        runtime.block_on(open)
    })
    .join();
    match opened {
        Ok(Ok(table)) => Ok(table),
        Ok(Err(message)) => Err(DataFusionError::Plan(message)),
        Err(_) => Err(DataFusionError::Internal("opening the table panicked".into())),
    }
}

/// `batch('view')`
pub(crate) struct Batch {
    query: Query,
}

impl Batch {
    pub(crate) fn new(query: Query) -> Self {
        Self { query }
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("batch")
    }
}

impl TableFunctionImpl for Batch {
    fn call(&self, args: &[Expr]) -> Result<Arc<dyn TableProvider>> {
        let name = text_argument("batch", args)?;
        let view = self
            .query
            .view(&name)
            .ok_or_else(|| DataFusionError::Plan(format!("RM-3103: view '{name}' does not exist")))?;
        Ok(Arc::new(relation(Planned::new(view.plan.schema.clone(), self.query.batch_plan(&view)?))))
    }
}
