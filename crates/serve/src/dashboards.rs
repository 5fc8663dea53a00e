//! Dashboards: `dashboards/*.yaml` of a project, read into what `GET /v1/dashboards` answers.
//!
//! ```yaml
//! title: New York departures, live
//! panels:
//!   - title: Departures per hour
//!     view: delays_by_airport
//!     chart: line
//!     x: window_start
//!     y: [departures]
//!     series: origin
//!   - title: Worst airports
//!     query: select origin, avg_delay from delays_by_airport order by avg_delay desc
//!     chart: table
//!     limit: 5
//! ```
//! The file's name is the dashboard's name. A panel without `query` shows its view; one with `query` asks again when
//! its view changes, which is the first relation of the query unless `view` names another.

use crate::problem::similar;
use datafusion::sql::parser::DFParser;
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// Bytes of one file, far above any dashboard that a person can look at.
const FILE_BYTES: u64 = 1 << 20;

/// Panels of one dashboard.
const PANELS: usize = 200;

/// One page of panels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dashboard {
    /// The file's name without `.yaml`.
    pub name: String,
    pub title: String,
    pub panels: Vec<Panel>,
}

/// One box of a dashboard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Panel {
    pub title: String,
    /// Asked again when `view` changes. Without it the view itself is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    pub view: String,
    pub chart: Chart,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x: Option<String>,
    /// Columns that are drawn.
    #[serde(default)]
    pub y: Vec<String>,
    /// The column whose values become one line or bar each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<String>,
    /// Rows that are shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Columns of the page's grid, 1 to 3.
    pub width: u8,
}

/// How a panel is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Chart {
    Number,
    Line,
    Bar,
    #[default]
    Table,
}

/// Why the dashboards of a folder could not be read. The text starts with its stable code.
#[derive(Debug, thiserror::Error)]
pub enum DashboardError {
    #[error("RM-6040: {path} cannot be read: {source}")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("RM-6041: {path}:{line}:{column}: {reason}{hint}")]
    Wrong { path: PathBuf, line: usize, column: usize, reason: String, hint: String },
    #[error("RM-6042: {path}: {place}: {reason}")]
    Panel { path: PathBuf, place: String, reason: String },
}

/// A file as people write it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DashboardFile {
    title: Option<String>,
    panels: Vec<PanelFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PanelFile {
    title: Option<String>,
    query: Option<String>,
    view: Option<String>,
    #[serde(default)]
    chart: Chart,
    x: Option<String>,
    #[serde(default)]
    y: OneOrMany,
    series: Option<String>,
    limit: Option<u32>,
    unit: Option<String>,
    width: Option<u8>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a column or a list of columns")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Default for OneOrMany {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

/// All dashboards of a folder, by the name of their file. A folder that is not there has none.
///
/// # Errors
/// The first file that cannot be read or is wrong, with its place.
pub fn load(folder: &Path) -> Result<Vec<Dashboard>, DashboardError> {
    let unreadable = |path: &Path, source| DashboardError::Unreadable { path: path.to_owned(), source };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(folder, error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(folder, error))?.path();
        let is_yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        // Editors keep unfinished copies as hidden files.
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if is_yaml && !is_hidden {
            paths.push(path);
        }
    }
    paths.sort();
    let read = |path: &PathBuf| {
        let size = std::fs::metadata(path).map_err(|error| unreadable(path, error))?.len();
        if size > FILE_BYTES {
            let reason = format!("it has {size} bytes, and a dashboard has at most {FILE_BYTES}");
            return Err(DashboardError::Panel { path: path.clone(), place: "the file".into(), reason });
        }
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, error))?;
        parse(path, &text)
    };
    paths.iter().map(read).collect()
}

/// One dashboard from its text; `path` gives it its name and errors their place.
///
/// # Errors
/// When the text is no YAML, has an unknown or wrong key, or a panel shows nothing.
pub fn parse(path: &Path, text: &str) -> Result<Dashboard, DashboardError> {
    let file: DashboardFile = serde_norway::from_str(text).map_err(|error| wrong(path, &error))?;
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    if file.panels.len() > PANELS {
        let reason = format!("there are {} panels, and a dashboard has at most {PANELS}", file.panels.len());
        return Err(DashboardError::Panel { path: path.to_owned(), place: "panels".into(), reason });
    }
    let panels = file.panels.into_iter().enumerate().map(|(index, panel)| {
        panel.finish().map_err(|reason| {
            let place = format!("panels[{index}]");
            DashboardError::Panel { path: path.to_owned(), place, reason }
        })
    });
    let panels = panels.collect::<Result<_, _>>()?;
    Ok(Dashboard { title: file.title.unwrap_or_else(|| name.clone()), name, panels })
}

impl PanelFile {
    fn finish(self) -> Result<Panel, String> {
        let view = match (self.view, &self.query) {
            (Some(view), _) => view,
            (None, Some(query)) => first_relation(query).ok_or(
                "the relation of 'query' is not clear: name the view whose changes ask it again, as view: NAME",
            )?,
            (None, None) => return Err("it shows nothing: give it a 'view' or a 'query'".into()),
        };
        let width = self.width.unwrap_or(1);
        if !(1..=3).contains(&width) {
            return Err(format!("width is {width}, and 1, 2 and 3 are possible"));
        }
        if self.limit == Some(0) {
            return Err("limit is 0, which shows nothing".into());
        }
        let y = match self.y {
            OneOrMany::One(column) => vec![column],
            OneOrMany::Many(columns) => columns,
        };
        if y.is_empty() && matches!(self.chart, Chart::Line | Chart::Bar) {
            return Err("a line or bar needs columns to draw: y: [column]".into());
        }
        let title = self.title.unwrap_or_else(|| view.clone());
        let (query, chart, x, series) = (self.query, self.chart, self.x, self.series);
        Ok(Panel { title, query, view, chart, x, y, series, limit: self.limit, unit: self.unit, width })
    }
}

fn first_relation(query: &str) -> Option<String> {
    let statement = DFParser::parse_sql_with_dialect(query, &PostgreSqlDialect {}).ok()?.pop_front()?;
    let (relations, _) = resolve_table_references(&statement, true).ok()?;
    relations.first().map(|relation| relation.table().to_owned())
}

fn wrong(path: &Path, error: &serde_norway::Error) -> DashboardError {
    let (line, column) = error.location().map_or((1, 1), |place| (place.line(), place.column()));
    let text = error.to_string();
    // The place stands in front; serde's own words for it are cut off.
    let reason = text.split(" at line ").next().unwrap_or(&text).to_owned();
    // serde: unknown field `titel`, expected one of `title`, `panels`
    let mut names = reason.split('`').skip(1).step_by(2);
    let hint = match (reason.contains("unknown "), names.next()) {
        (true, Some(found)) => similar(found, names).map(|name| format!(": did you mean '{name}'?")),
        _ => None,
    };
    DashboardError::Wrong { path: path.to_owned(), line, column, reason, hint: hint.unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let told = match parse(Path::new("dashboards/flights.yaml"), text) {
            Ok(dashboard) => serde_json::to_string(&dashboard).unwrap(),
            Err(error) => error.to_string(),
        };
        assert_eq!(told, expected);
    }

    #[test]
    fn a_panel_gets_what_it_does_not_say() {
        check(
            "panels:\n- view: delays\n- {title: Worst, query: 'select a from \"Top\" order by 1', y: a, chart: bar, width: 2}",
            r#"{"name":"flights","title":"flights","panels":[{"title":"delays","view":"delays","chart":"table","y":[],"width":1},{"title":"Worst","query":"select a from \"Top\" order by 1","view":"Top","chart":"bar","y":["a"],"width":2}]}"#,
        );
    }

    #[test]
    fn unknown_keys_and_values_are_told_with_place_and_guess() {
        check(
            "title: x\npanels:\n- view: v\n  chrat: bar\n",
            "RM-6041: dashboards/flights.yaml:4:3: panels[0]: unknown field `chrat`, expected one of `title`, `query`, \
             `view`, `chart`, `x`, `y`, `series`, `limit`, `unit`, `width`: did you mean 'chart'?",
        );
        check(
            "panels:\n- view: v\n  chart: lines\n",
            "RM-6041: dashboards/flights.yaml:3:10: panels[0].chart: unknown variant `lines`, expected one of `number`, \
             `line`, `bar`, `table`: did you mean 'line'?",
        );
    }

    #[test]
    fn panels_that_show_nothing_are_refused() {
        let at = |reason: &str| format!("RM-6042: dashboards/flights.yaml: panels[0]: {reason}");
        check("panels: [{title: a}]", &at("it shows nothing: give it a 'view' or a 'query'"));
        check("panels: [{view: v, chart: line}]", &at("a line or bar needs columns to draw: y: [column]"));
        check("panels: [{view: v, width: 4}]", &at("width is 4, and 1, 2 and 3 are possible"));
        check(
            "panels: [{query: select 1}]",
            &at("the relation of 'query' is not clear: name the view whose changes ask it again, as view: NAME"),
        );
    }

    #[test]
    fn a_missing_folder_has_no_dashboards() {
        assert!(load(Path::new("/nowhere/at/all")).unwrap().is_empty());
    }
}
