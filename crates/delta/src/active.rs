//! The files of a version by numbers, under every name that a scan may call them.

use crate::handle::Handle;
use deltalake_core::delta_datafusion::{FileSelection, MissingSelectedFilePolicy};
use deltalake_core::kernel::LogicalFileView;
use deltalake_core::table::state::DeltaTableState;
use rivermere_table::TableError;
use std::collections::{HashMap, HashSet};

/// A file's number is its place in the list.
pub(crate) struct ActiveFiles {
    files: Vec<LogicalFileView>,
    by_url: HashMap<String, u32>,
    /// Files with two names, of which a scan knows one.
    ambiguous: HashSet<u32>,
}

impl ActiveFiles {
    pub(crate) fn of(handle: &Handle, state: &DeltaTableState) -> Result<Self, TableError> {
        let files: Vec<LogicalFileView> = state.log_data().iter().collect();
        let mut by_url = HashMap::with_capacity(files.len());
        let mut ambiguous = HashSet::new();
        for (number, file) in (0_u32..).zip(&files) {
            let [one, other] = handle.file_urls(file)?;
            if one != other {
                ambiguous.insert(number);
                by_url.insert(other, number);
            }
            by_url.insert(one, number);
        }
        Ok(Self { files, by_url, ambiguous })
    }

    pub(crate) fn number(&self, url: &str) -> Option<u32> {
        self.by_url.get(url).copied()
    }

    pub(crate) fn get(&self, number: u32) -> Option<&LogicalFileView> {
        self.files.get(number as usize)
    }

    /// Some of the files, each by all its names. A scan fails when it does not know a file, but for an ambiguous one:
    /// whoever selects must see that those were found.
    pub(crate) fn selection(&self, handle: &Handle, numbers: &[u32]) -> Result<FileSelection, TableError> {
        let mut urls = Vec::with_capacity(2 * numbers.len());
        for file in numbers.iter().filter_map(|number| self.get(*number)) {
            urls.extend(handle.file_urls(file)?);
        }
        let selection = FileSelection::from_file_paths(urls);
        let ambiguous = numbers.iter().any(|number| self.is_ambiguous(*number));
        let policy = if ambiguous { MissingSelectedFilePolicy::Ignore } else { MissingSelectedFilePolicy::Error };
        Ok(selection.with_missing_file_policy(policy))
    }

    pub(crate) fn is_ambiguous(&self, number: u32) -> bool {
        self.ambiguous.contains(&number)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &LogicalFileView)> {
        (0..).zip(&self.files)
    }
}
