//! Files of sections with `name = value`, as the command lines of AWS and OCI keep them.

use super::error::StorageError;
use rivermere_base::{Disk, Secret};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// Longest file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// Sections by name. Values are never printed.
#[derive(Debug, Default)]
pub(super) struct Ini(BTreeMap<String, BTreeMap<String, Secret>>);

impl Ini {
    /// Reads a file; `None` when there is none.
    pub(super) fn read(disk: &dyn Disk, path: &Path, storage: &'static str) -> Result<Option<Self>, StorageError> {
        let failed = |problem: String| StorageError::Credentials { storage, problem };
        let found = match disk.metadata(path) {
            Ok(found) if found.is_dir => return Ok(None),
            Ok(found) => found,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(failed(format!("{} cannot be read: {error}", path.display()))),
        };
        if found.len > MAX_BYTES {
            return Err(failed(format!("{} has {} bytes; at most {MAX_BYTES} are read", path.display(), found.len)));
        }
        let bytes = disk.read(path).map_err(|error| failed(format!("{} cannot be read: {error}", path.display())))?;
        let text = String::from_utf8(bytes).map_err(|_| failed(format!("{} is not UTF-8", path.display())))?;
        Ok(Some(Self::parse(&text)))
    }

    fn parse(text: &str) -> Self {
        let mut sections: BTreeMap<String, BTreeMap<String, Secret>> = BTreeMap::new();
        let mut section = String::new();
        for line in text.lines() {
            // An indented line belongs to a nested setting, which none of ours is.
            if line.starts_with([' ', '\t']) || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = line.trim().strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                section = name.trim().to_owned();
                sections.entry(section.clone()).or_default();
            } else if let Some((name, value)) = line.split_once('=') {
                let values = sections.entry(section.clone()).or_default();
                values.insert(name.trim().to_ascii_lowercase(), Secret::new(value.trim()));
            }
        }
        Self(sections)
    }

    pub(super) fn has(&self, section: &str) -> bool {
        self.0.contains_key(section)
    }

    /// A value that is there and not empty.
    pub(super) fn get(&self, section: &str, name: &str) -> Option<&str> {
        self.0.get(section)?.get(name).map(Secret::expose).filter(|value| !value.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_hold_their_values_and_comments_are_none() {
        let ini = Ini::parse("# c\n[default]\nA_b = 1=2 \n; c\nnested =\n  A_b = 3\n[profile x]\nA_b=4\nnoise\n");
        assert_eq!(ini.get("default", "a_b"), Some("1=2"));
        assert_eq!(ini.get("default", "nested"), None);
        assert_eq!(ini.get("profile x", "a_b"), Some("4"));
        assert!(!ini.has("x") && !format!("{ini:?}").contains('4'));
    }
}
