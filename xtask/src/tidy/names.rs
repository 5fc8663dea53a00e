//! Names that say nothing: a room or a file with such a name collects whatever has no place.

use std::path::Path;

use crate::checkout;

const FORBIDDEN: &[&str] = &["common", "util", "utils", "core", "server", "manager", "helper", "helpers", "misc"];

pub fn check() -> Result<Vec<String>, String> {
    let root = checkout::root();
    let mut findings = Vec::new();
    for folder in ["crates", "tests", "benches", "xtask"] {
        for file in checkout::files_below(&root.join(folder), ".rs")? {
            let inside = file.strip_prefix(&root).unwrap_or(&file);
            if let Some(name) = forbidden_in(inside) {
                findings.push(format!("{}: nothing is named `{name}`", checkout::shown(&file)));
            }
        }
    }
    Ok(findings)
}

fn forbidden_in(file: &Path) -> Option<String> {
    file.components()
        .map(|part| part.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned())
        .find(|name| FORBIDDEN.contains(&name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_or_file_is_found_but_not_a_name_that_only_contains_the_word() {
        assert_eq!(forbidden_in(Path::new("crates/util/src/lib.rs")).as_deref(), Some("util"));
        assert_eq!(forbidden_in(Path::new("crates/log/src/server.rs")).as_deref(), Some("server"));
        assert_eq!(forbidden_in(Path::new("crates/log/src/server_options.rs")), None);
    }
}
