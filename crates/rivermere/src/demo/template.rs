//! Projects that are part of the program.

use rivermere_base::{Disk, OpenMode};
use std::io;
use std::path::{Path, PathBuf};

/// A file of a template: where it goes, and what is in it.
type File = (&'static str, &'static [u8]);

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../projects/flights/", $path)))),*]
    };
}

/// Named one by one: a run of the project in its own folder would leave its state beside them.
static FLIGHTS_FILES: &[File] = files![
    "rivermere.toml",
    "README.md",
    "sql/10_topics.sql",
    "sql/20_files.sql",
    "sql/30_flights_enriched.sql",
    "sql/40_delays_by_airport.sql",
    "sql/50_on_time_ranking.sql",
    "sql/60_delay_by_weather.sql",
    "sql/70_arrival_delays.sql",
    "dashboards/flights.yaml",
    "tests/broken_records.yaml",
    "tests/cancelled_flights.yaml",
    "tests/crashes.yaml",
    "tests/late_departures.yaml",
    "tests/on_time_ranking.yaml",
    "tests/weather.yaml",
    "data/PROVENANCE.md",
    "data/airlines.parquet",
    "data/airports.parquet",
    "data/planes.parquet",
    "data/flights.parquet",
    "data/weather.parquet",
];

/// A project to start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// The demo: flights that left New York in 2013.
    Flights,
}

/// What [`init`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Files that are new.
    pub new: usize,
    /// Files that were there and are left as they were.
    pub kept: usize,
}

/// Why a project was not written.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    #[error("RM-7211: {} is there and is no folder: name another", .0.display())]
    NotAFolder(PathBuf),
    #[error("RM-7212: {} is not empty and holds no rivermere.toml: name an empty folder or a new one", .0.display())]
    Foreign(PathBuf),
    #[error("RM-7213: {} cannot be written: {source}", path.display())]
    Disk { path: PathBuf, source: io::Error },
}

impl Template {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flights => "flights",
        }
    }

    fn files(self) -> &'static [File] {
        match self {
            Self::Flights => FLIGHTS_FILES,
        }
    }

    /// What is in one of its files; nothing for a file that it does not have.
    pub(crate) fn file(self, name: &str) -> &'static [u8] {
        self.files().iter().find(|(other, _)| *other == name).map_or(&[], |(_, data)| data)
    }
}

/// Writes a template into a folder, which is made when it is missing. A file that is there is never touched: what was
/// edited stays, what is missing comes back.
///
/// # Errors
/// When the folder holds something that is no project, or cannot be written.
pub fn init(disk: &dyn Disk, folder: &Path, template: Template) -> Result<Written, TemplateError> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| TemplateError::Disk { path, source }
    };
    match disk.metadata(folder) {
        Ok(found) if !found.is_dir => return Err(TemplateError::NotAFolder(folder.to_path_buf())),
        Ok(_) => {
            let mut entries = disk.read_dir(folder).map_err(failed(folder))?;
            entries.retain(|entry| !is_hidden(&entry.path) && !entry.path.ends_with("rivermere.toml.tmp"));
            let is_project = entries.iter().any(|entry| entry.path.ends_with("rivermere.toml"));
            if !entries.is_empty() && !is_project {
                return Err(TemplateError::Foreign(folder.to_path_buf()));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(folder)(error)),
    }
    let mut written = Written::default();
    // The project's own file comes first: a folder that was half written is still known as one.
    for (name, data) in template.files() {
        let path = folder.join(name);
        match disk.metadata(&path) {
            Ok(_) => {
                written.kept += 1;
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&path)(error)),
        }
        let parent = path.parent().unwrap_or(folder);
        disk.create_dir_all(parent).map_err(failed(parent))?;
        write_new(disk, &path, data).map_err(failed(&path))?;
        written.new += 1;
    }
    Ok(written)
}

/// Writes beside the place and moves it there, so that a file is whole or missing and nobody else's is replaced.
fn write_new(disk: &dyn Disk, path: &Path, data: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    let file = disk.open(&temporary, OpenMode::Write)?;
    file.set_len(0)?;
    file.write_all_at(data, 0)?;
    file.sync_data()?;
    drop(file);
    disk.rename_new(&temporary, path)?;
    disk.sync_dir(path.parent().unwrap_or(Path::new(".")))
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rivermere_store::LocalDisk;
    use std::collections::BTreeSet;

    fn flights() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../projects/flights")
    }

    #[test]
    fn every_file_of_the_project_is_in_the_template() {
        let mut found = BTreeSet::new();
        for folder in ["", "sql", "dashboards", "tests"] {
            let Ok(entries) = std::fs::read_dir(flights().join(folder)) else { continue };
            for entry in entries.map(Result::unwrap).filter(|entry| entry.file_type().unwrap().is_file()) {
                let name = entry.file_name().into_string().unwrap();
                found.insert(if folder.is_empty() { name } else { format!("{folder}/{name}") });
            }
        }
        let named = FLIGHTS_FILES.iter().map(|(name, _)| (*name).to_string());
        let named: BTreeSet<String> = named.filter(|name| !name.starts_with("data/")).collect();
        assert_eq!(named, found);
    }

    #[test]
    fn a_new_folder_gets_the_project_and_what_was_edited_stays() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("a/flights");
        let disk = LocalDisk::new();
        let written = init(&disk, &folder, Template::Flights).unwrap();
        assert_eq!(written, Written { new: FLIGHTS_FILES.len(), kept: 0 });
        for (name, data) in FLIGHTS_FILES {
            assert!(std::fs::read(folder.join(name)).unwrap() == *data, "{name}");
        }

        std::fs::write(folder.join("sql/10_topics.sql"), "-- mine").unwrap();
        std::fs::remove_file(folder.join("README.md")).unwrap();
        let written = init(&disk, &folder, Template::Flights).unwrap();
        assert_eq!(written, Written { new: 1, kept: FLIGHTS_FILES.len() - 1 });
        assert_eq!(std::fs::read_to_string(folder.join("sql/10_topics.sql")).unwrap(), "-- mine");
    }

    #[test]
    fn a_folder_of_something_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("thesis.tex"), "").unwrap();
        let error = init(&LocalDisk::new(), folder.path(), Template::Flights).unwrap_err();
        assert!(matches!(error, TemplateError::Foreign(_)), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let error = init(&LocalDisk::new(), &folder.path().join("thesis.tex"), Template::Flights).unwrap_err();
        assert!(matches!(error, TemplateError::NotAFolder(_)), "{error}");
    }
}
