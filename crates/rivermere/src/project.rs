//! A project folder: `rivermere.toml`, `sql/*.sql` in dependency order, `dashboards/*.yaml`.

use crate::Problem;
use crate::formats::table_schema;
use crate::storages::StorageSettings;
use arrow::datatypes::SchemaRef;
use rivermere_sql::{
    ExternalTable, LakeFormat, Parsed, Planner, Script, SqlError, Statement, TableDefinition, ViewDefinition,
    query_relations, suggestion,
};
use rivermere_store::Storage;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What a project says, read and checked; nothing is started.
#[derive(Clone, Debug)]
pub struct Project {
    pub name: String,
    pub folder: PathBuf,
    pub settings: ProjectSettings,
    /// CREATE TABLE and CREATE MATERIALIZED VIEW, each after what it reads.
    pub statements: Vec<Parsed>,
}

/// `rivermere.toml`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectSettings {
    pub name: Option<String>,
    /// Where log, state and lake live; `data` in the project when left out. The URL of a storage: where the lake lives,
    /// and the others in `data`.
    pub storage: Option<PathBuf>,
    /// Options of storages, by the beginning of their URLs.
    #[serde(default)]
    pub storages: StorageSettings,
    /// Least seconds between two commits of a lake table; 10 when left out.
    pub commit_interval_s: Option<u64>,
    /// Least milliseconds between two epochs; 1000 when left out. Shorter ones lose less work in a crash and write more.
    pub epoch_interval_ms: Option<u64>,
    #[serde(default)]
    pub listeners: Listeners,
}

/// Addresses: `127.0.0.1:8080`, or a port.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listeners {
    pub http: Option<String>,
    pub kafka: Option<String>,
    pub pg: Option<String>,
}

/// A planned project.
#[derive(Default)]
pub struct Planned {
    pub planner: Planner,
    /// The columns of external tables that could be opened, by their names.
    pub opened: BTreeMap<String, SchemaRef>,
    pub externals: Vec<Arc<ExternalTable>>,
    /// In the order of their statements.
    pub tables: Vec<Arc<TableDefinition>>,
    pub views: Vec<Arc<ViewDefinition>>,
}

/// Files of a project that are read, at most.
const SQL_FILES_LIMIT: usize = 1_000;

impl Project {
    /// A project of no statements, for a process that only serves topics and ad hoc SQL.
    pub fn empty(name: &str, folder: &Path) -> Self {
        Self { name: name.into(), folder: folder.into(), settings: ProjectSettings::default(), statements: vec![] }
    }

    /// Reads a folder, or a single SQL file.
    ///
    /// # Errors
    /// A missing folder, an unknown key in `rivermere.toml`, a syntax error, a cycle of views.
    pub fn load(path: &Path) -> Result<Self, Problem> {
        let (folder, files) = if path.is_file() {
            (path.parent().unwrap_or(Path::new(".")).to_path_buf(), vec![path.to_path_buf()])
        } else {
            (path.to_path_buf(), sql_files(path)?)
        };
        let settings = ProjectSettings::read(&folder)?;
        let name = settings.name.clone().unwrap_or_else(|| {
            let whole = folder.canonicalize().unwrap_or_else(|_| folder.clone());
            whole.file_name().map_or("rivermere".into(), |name| name.to_string_lossy().into_owned())
        });
        let mut statements = vec![];
        for file in files {
            let text = std::fs::read_to_string(&file)
                .map_err(|error| Problem::new(7003, format!("cannot read {}: {error}", file.display())))?;
            let shown = file.strip_prefix(&folder).unwrap_or(&file).display().to_string();
            let script = Script::parse(&shown, &text).map_err(Problem::told)?;
            statements.extend(script.into_statements());
        }
        Ok(Self { name, folder, settings, statements: in_order(statements)? })
    }

    /// Plans every statement. External tables have the columns of `opened`, or those of their statements.
    ///
    /// # Errors
    /// The first wrong one, with its place.
    pub fn plan(&self, opened: BTreeMap<String, SchemaRef>) -> Result<Planned, SqlError> {
        let mut planned = Planned { opened, ..Planned::default() };
        for parsed in &self.statements {
            planned.add(parsed)?;
        }
        Ok(planned)
    }

    /// Whether a statement of the files makes an object of this name.
    pub fn defines(&self, name: &str) -> bool {
        self.statements.iter().any(|parsed| match &parsed.statement {
            Statement::CreateView(create) => create.name.value == name,
            Statement::CreateTable(create) => create.name.value == name,
            Statement::CreateExternal(create) => create.name.value == name,
            _ => false,
        })
    }

    pub fn commit_interval(&self) -> Duration {
        Duration::from_secs(self.settings.commit_interval_s.unwrap_or(10))
    }

    pub fn epoch_interval(&self) -> Duration {
        Duration::from_millis(self.settings.epoch_interval_ms.unwrap_or(1_000).max(10))
    }

    /// Where log, state and lake are kept, unless an option says otherwise.
    pub fn data(&self) -> PathBuf {
        self.settings.data(&self.folder)
    }

    pub fn dashboards(&self) -> PathBuf {
        self.folder.join("dashboards")
    }
}

impl ProjectSettings {
    /// Where the data of a project in `folder` is kept, unless an option says otherwise.
    pub fn data(&self, folder: &Path) -> PathBuf {
        let is_folder = self.lake().is_none();
        folder.join(self.storage.as_deref().filter(|_| is_folder).unwrap_or(Path::new("data")))
    }

    /// The URL that lake tables are below, when they are not with the data.
    pub fn lake(&self) -> Option<&str> {
        self.storage.as_deref().and_then(Path::to_str).filter(|storage| Storage::is_url(storage))
    }

    /// What `rivermere.toml` in a folder says; the defaults without one.
    ///
    /// # Errors
    /// When it cannot be read, or has a key that is not known.
    pub fn read(folder: &Path) -> Result<Self, Problem> {
        let path = folder.join("rivermere.toml");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Problem::new(7003, format!("cannot read {}: {error}", path.display()))),
        };
        toml::from_str(&text).map_err(|error| {
            let mut problem = Problem::new(7002, format!("{}{}", path.display(), told(&text, &error)));
            let known = [
                "name",
                "storage",
                "storages",
                "commit_interval_s",
                "epoch_interval_ms",
                "listeners",
                "http",
                "kafka",
                "pg",
            ];
            if let Some(rest) = error.message().strip_prefix("unknown field `")
                && let Some(wrong) = rest.split('`').next()
            {
                problem.hint = suggestion(wrong, known);
            }
            problem
        })
    }
}

impl Planned {
    /// Whether something has this name.
    pub fn knows(&self, name: &str) -> bool {
        self.planner.relations().contains_key(name) || self.externals.iter().any(|external| external.name == name)
    }

    /// Plans one more CREATE statement.
    ///
    /// # Errors
    /// When it is wrong, or no CREATE statement.
    pub fn add(&mut self, parsed: &Parsed) -> Result<(), SqlError> {
        let at = |error: SqlError| {
            let location = error.location.clone().or_else(|| parsed.location.clone());
            error.at(location)
        };
        match &parsed.statement {
            Statement::CreateTable(create) => {
                let table = self.planner.add_table(create.define(parsed)?).map_err(at)?;
                self.tables.push(table);
            }
            Statement::CreateExternal(create) => {
                let columns = match self.opened.get(&create.name.value) {
                    Some(columns) => Some(columns.clone()),
                    None if create.columns.is_empty() => None,
                    None => Some(lake_columns(create.place.format, &create.schema(parsed)?).map_err(at)?),
                };
                let external = Arc::new(create.define(parsed, columns));
                self.planner.add_external(&external).map_err(at)?;
                self.externals.push(external);
            }
            Statement::CreateView(create) => {
                let view = self.planner.plan_view(create, parsed)?;
                if let Some(stored) = &view.stored_as {
                    table_schema(stored.format, &view.plan.schema).map_err(|error| {
                        SqlError::new(rivermere_base::Code(3008), format!("'{}' cannot be stored: {error}", view.name))
                            .at(parsed.location.clone())
                    })?;
                }
                self.planner.add_view(view.clone()).map_err(at)?;
                self.views.push(view);
            }
            _ => {
                return Err(SqlError::new(
                    rivermere_base::Code(3009),
                    "a project's files hold CREATE TABLE, CREATE EXTERNAL TABLE and CREATE MATERIALIZED VIEW",
                )
                .hint("run other statements with: rivermere sql -c \"…\"")
                .at(parsed.location.clone()));
            }
        }
        Ok(())
    }
}

/// The columns that a table of the lake has for those of a statement.
fn lake_columns(format: LakeFormat, columns: &SchemaRef) -> Result<SchemaRef, SqlError> {
    table_schema(format, columns).map_err(|error| SqlError::new(rivermere_base::Code(3008), error.to_string()))
}

fn sql_files(folder: &Path) -> Result<Vec<PathBuf>, Problem> {
    let missing = |path: &Path| {
        Problem::new(7001, format!("{} is no project: it has no sql/ folder and no rivermere.toml", path.display()))
            .hint("rivermere init NAME makes one; rivermere demo shows one at work")
    };
    let sql = folder.join("sql");
    if !sql.is_dir() {
        return if folder.join("rivermere.toml").is_file() { Ok(vec![]) } else { Err(missing(folder)) };
    }
    let unreadable = |error: std::io::Error| Problem::new(7003, format!("cannot list {}: {error}", sql.display()));
    let mut files = vec![];
    for entry in std::fs::read_dir(&sql).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "sql") {
            files.push(path);
        }
    }
    if files.len() > SQL_FILES_LIMIT {
        return Err(Problem::new(
            7004,
            format!("{} has {} SQL files; at most {SQL_FILES_LIMIT}", sql.display(), files.len()),
        ));
    }
    files.sort();
    Ok(files)
}

/// A mistake with its line; of an option of a storage only place and kind, since the line or a value that the message
/// quotes may be a secret.
fn told(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.end)).unwrap_or(text);
    let section = before.lines().rev().find(|line| line.trim_start().starts_with('[')).unwrap_or_default();
    let line = before.lines().last().unwrap_or_default();
    if !section.contains("storages") && !line.contains("storages") {
        return format!(": {}", error.to_string().trim_end());
    }
    let message = match (error.message().split_once(" \""), error.message().rsplit_once("\", expected")) {
        (Some((kind, _)), Some((_, expected))) => format!("{kind}, expected{expected}"),
        _ => error.message().to_owned(),
    };
    format!(":{}: {}", before.lines().count(), message.trim_end())
}

/// Each statement after those that it reads. Names of no statement are left for the planner to tell.
fn in_order(statements: Vec<Parsed>) -> Result<Vec<Parsed>, Problem> {
    let reads = |parsed: &Parsed| match &parsed.statement {
        Statement::CreateView(create) => query_relations(&create.query),
        _ => BTreeSet::new(),
    };
    let name = |parsed: &Parsed| match &parsed.statement {
        Statement::CreateView(create) => Some(create.name.value.clone()),
        Statement::CreateTable(create) => Some(create.name.value.clone()),
        Statement::CreateExternal(create) => Some(create.name.value.clone()),
        _ => None,
    };
    let defined: BTreeSet<String> = statements.iter().filter_map(name).collect();
    let mut waiting: Vec<(Parsed, BTreeSet<String>)> = statements
        .into_iter()
        .map(|parsed| {
            let mut inputs = reads(&parsed);
            inputs.retain(|input| defined.contains(input));
            (parsed, inputs)
        })
        .collect();
    let mut done: BTreeMap<String, ()> = BTreeMap::new();
    let mut ordered = vec![];
    while !waiting.is_empty() {
        let (ready, rest): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|(_, inputs)| inputs.iter().all(|input| done.contains_key(input)));
        if ready.is_empty() {
            let places: Vec<String> = rest
                .iter()
                .map(|(parsed, inputs)| {
                    let place =
                        parsed.location.as_ref().map_or(String::new(), |at| format!(" ({}:{})", at.file, at.line));
                    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
                    format!("'{}'{place} reads {}", name(parsed).unwrap_or_default(), inputs.join(", "))
                })
                .collect();
            return Err(Problem::new(7005, format!("views read each other in a circle: {}", places.join("; "))));
        }
        for (parsed, _) in ready {
            if let Some(name) = name(&parsed) {
                done.insert(name, ());
            }
            ordered.push(parsed);
        }
        waiting = rest;
    }
    Ok(ordered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_beside_a_secret_is_told_without_the_secret() {
        let folder = tempfile::tempdir().unwrap();
        for (text, wanted) in [
            ("[storages.'s3://b']\nsecret_access_key = hunter2\n", ":2: "),
            ("[storages.'s3://b']\nsecret_access_key = ['hunter2']\n", "expected a text in quotes"),
            ("[storages.'s3://b']\nsecret_access_key = { is = 'hunter2' }\n", "expected a text in quotes"),
            ("[storages]\n's3://b' = 'hunter2'\n", "expected a map"),
            ("storages = 'hunter2'\n", "expected a map"),
            ("name = 'x'\nstorages.'s3://b'.secret_access_key = 'hunter2\n", ":2: "),
        ] {
            std::fs::write(folder.path().join("rivermere.toml"), text).unwrap();
            let problem = ProjectSettings::read(folder.path()).unwrap_err().to_string();
            assert!(!problem.contains("hunter2") && problem.contains(wanted), "{text}: {problem}");
        }
    }

    #[test]
    fn a_number_that_makes_no_sense_is_the_storages_to_refuse() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("rivermere.toml"), "[storages.'s3://b']\nretries = -1\n").unwrap();
        ProjectSettings::read(folder.path()).unwrap();
    }
}
