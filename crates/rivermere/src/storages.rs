//! `[storages."s3://bucket"]` in `rivermere.toml`: options for URLs that begin so.

use crate::Problem;
use rivermere_base::{Doors, Secret};
use rivermere_store::{Environment, StorageOptions, Storages};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// The options as they are written, by the beginning of URLs. Values are never printed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct StorageSettings(BTreeMap<String, BTreeMap<String, Value>>);

#[derive(Clone, Debug)]
struct Value(Secret);

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(written: D) -> Result<Self, D::Error> {
        written.deserialize_any(Written)
    }
}

/// Takes what an option may be written as; what it means is the storage's to say.
struct Written;

impl Visitor<'_> for Written {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text in quotes, a whole number, true or false")
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value(Secret::new(text.to_owned())))
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value(Secret::new(flag.to_string())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value(Secret::new(number.to_string())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value(Secret::new(number.to_string())))
    }
}

/// Longest file that a value is read from.
const MAX_FILE_BYTES: u64 = 64 << 10;

impl StorageSettings {
    /// The storages of a project: `${NAME}` in a value is a variable of the environment, `${file:PATH}` the text of a file,
    /// relative to the project's folder.
    ///
    /// # Errors
    /// When a variable or file is missing, or a storage cannot be opened with its options.
    pub fn open(&self, folder: &Path, doors: &Doors) -> Result<Storages, Problem> {
        let mut all = vec![];
        for (url, values) in &self.0 {
            let mut options = StorageOptions::default();
            for (name, Value(written)) in values {
                let value = resolved(written.expose(), folder, doors)
                    .map_err(|problem| Problem::new(7028, format!("storages.\"{url}\".{name}: {problem}")))?;
                options.set(name, Secret::new(value));
            }
            all.push((url.clone(), options));
        }
        Storages::new(doors.clone(), Environment::of_process(), all).map_err(Problem::told)
    }
}

/// A value with what its `${…}` stand for.
fn resolved(written: &str, folder: &Path, doors: &Doors) -> Result<String, String> {
    let mut text = String::new();
    let mut rest = written;
    while let Some((before, behind)) = rest.split_once("${") {
        let Some((name, after)) = behind.split_once('}') else {
            return Err("a ${ has no }".into());
        };
        text.push_str(before);
        match name.strip_prefix("file:") {
            Some(path) => text.push_str(file(&folder.join(path), doors)?.trim_end()),
            None => text.push_str(&std::env::var(name).map_err(|_| format!("the variable {name} is not set"))?),
        }
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

fn file(path: &Path, doors: &Doors) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    if doors.disk.metadata(path).map_err(unreadable)?.len > MAX_FILE_BYTES {
        return Err(format!("{} is longer than {MAX_FILE_BYTES} bytes", path.display()));
    }
    let bytes = doors.disk.read(path).map_err(unreadable)?;
    String::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rivermere_base::{SeededRng, SystemClock};
    use rivermere_store::LocalDisk;
    use std::sync::Arc;

    fn opened(text: &str, folder: &Path) -> Result<Storages, Problem> {
        let doors = Doors {
            clock: Arc::new(SystemClock::new()),
            rng: Arc::new(SeededRng::new(1)),
            disk: Arc::new(LocalDisk::new()),
        };
        toml::from_str::<StorageSettings>(text).unwrap().open(folder, &doors)
    }

    #[test]
    fn values_come_from_files_and_variables_and_are_not_printed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), "hunter2\n").unwrap();
        let text = "[\"s3://lake\"]\naccess_key_id = '${PATH}-x'\nsecret_access_key = '${file:key}'\n\
                    path_style = true\nretries = 2\n";
        let storages = opened(text, folder.path()).unwrap();
        assert_eq!(storages.open("s3://lake/t").unwrap().path().as_ref(), "t");
        let settings: StorageSettings = toml::from_str("[\"s3://lake\"]\nsecret_access_key = 'hunter2'\n").unwrap();
        assert!(!format!("{settings:?}").contains("hunter2"));
    }

    #[test]
    fn what_is_missing_is_told_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        for (value, wanted) in [
            ("${RIVERMERE_NO_SUCH_VARIABLE}", "RIVERMERE_NO_SUCH_VARIABLE is not set"),
            ("${file:nowhere}", "nowhere cannot be read"),
            ("${open", "has no }"),
        ] {
            let text = format!("[\"s3://lake\"]\nregion = '{value}'\n");
            let problem = opened(&text, folder.path()).unwrap_err().to_string();
            assert!(problem.contains("storages.\"s3://lake\".region") && problem.contains(wanted), "{problem}");
        }
        let problem = opened("[\"s3://lake\"]\nregoin = 'x'\n", folder.path()).unwrap_err().to_string();
        assert!(problem.starts_with("RM-1112") && problem.contains("'region'"), "{problem}");
    }
}
