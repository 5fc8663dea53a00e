//! Who may know whom.
//!
//! The rooms stand in a row of groups; a room may use anything in a group to its right, nothing to its left and no
//! neighbour in its own group. The simulated doors stand apart: they know `base` and `store`, the binary knows them, and
//! tests may use them anywhere. The row is drawn in ARCHITECTURE.md; this is where it is enforced.

use toml::{Table, Value};

use crate::checkout;

/// From the outside in. A room without a crate yet has its place already.
const ROW: &[&[&str]] = &[
    &["rivermere"],
    &["serve", "ingest", "engine", "model"],
    &["batch"],
    &["stream", "delta", "iceberg", "hudi"],
    &["table"],
    &["log", "sql"],
    &["format", "store"],
    &["base"],
];

const SIMULATION: &str = "sim";
const SIMULATION_KNOWS: &[&str] = &["base", "store"];

pub fn check() -> Result<Vec<String>, String> {
    let crates = checkout::root().join("crates");
    let mut findings = Vec::new();
    for manifest in checkout::files_below(&crates, "Cargo.toml")? {
        let place = checkout::shown(&manifest);
        let table: Table = checkout::read(&manifest)?.parse().map_err(|error| format!("{place}: {error}"))?;
        let folder = manifest.parent().and_then(|folder| folder.file_name()).unwrap_or_default().to_string_lossy();
        findings.extend(of_manifest(&folder, &table).into_iter().map(|finding| format!("{place}: {finding}")));
    }
    Ok(findings)
}

fn of_manifest(folder: &str, manifest: &Table) -> Vec<String> {
    let mut findings = Vec::new();
    let package = manifest.get("package").and_then(|package| package.get("name")).and_then(Value::as_str).unwrap_or("");
    if room(package) != Some(folder) {
        findings.push(format!("the package in crates/{folder} is named `{package}`, not after its folder"));
    }
    if folder != SIMULATION && position(folder).is_none() {
        findings.push(format!("`{folder}` has no place in the row of rooms: give it one here and in ARCHITECTURE.md"));
        return findings;
    }
    for (other, for_tests) in dependencies(manifest) {
        if !may_know(folder, other, for_tests) {
            findings.push(format!("{folder} may not know {other}"));
        }
    }
    findings
}

fn may_know(room: &str, other: &str, for_tests: bool) -> bool {
    if room == SIMULATION {
        return SIMULATION_KNOWS.contains(&other);
    }
    if other == SIMULATION {
        return for_tests || position(room) == Some(0);
    }
    matches!((position(room), position(other)), (Some(from), Some(to)) if from < to)
}

fn position(room: &str) -> Option<usize> {
    ROW.iter().position(|group| group.contains(&room))
}

/// `rivermere-log` -> `log`; the binary's package is `rivermere` itself.
fn room(package: &str) -> Option<&str> {
    if package == "rivermere" { Some(package) } else { package.strip_prefix("rivermere-") }
}

/// The rooms a manifest names, and whether only its tests use them.
fn dependencies(manifest: &Table) -> Vec<(&str, bool)> {
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flat_map(|targets| targets.values());
    let tables = std::iter::once(manifest).chain(targets.filter_map(Value::as_table));
    let mut found = Vec::new();
    for table in tables {
        for (kind, for_tests) in [("dependencies", false), ("build-dependencies", false), ("dev-dependencies", true)] {
            let names = table.get(kind).and_then(Value::as_table).into_iter().flat_map(|table| table.iter());
            for (name, value) in names {
                let package = value.get("package").and_then(Value::as_str).unwrap_or(name);
                found.extend(room(package).map(|room| (room, for_tests)));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(folder: &str, manifest: &str) -> Vec<String> {
        of_manifest(folder, &manifest.parse().unwrap())
    }

    #[test]
    fn a_room_may_know_everything_to_its_right_and_nothing_else() {
        assert!(may_know("stream", "log", false), "further right");
        assert!(may_know("rivermere", "base", false), "across the whole row");
        assert!(!may_know("log", "stream", false), "leftwards");
        assert!(!may_know("log", "sql", false), "a neighbour of its own group");
        assert!(!may_know("base", "base", false), "itself");
    }

    #[test]
    fn the_simulated_doors_are_for_the_binary_and_for_tests() {
        assert!(may_know("rivermere", "sim", false));
        assert!(may_know("log", "sim", true));
        assert!(!may_know("log", "sim", false));
        assert!(may_know("sim", "store", false));
        assert!(!may_know("sim", "log", true));
    }

    #[test]
    fn an_edge_leftwards_is_found_in_every_kind_of_dependency() {
        let manifest = "
            package.name = 'rivermere-log'
            [dependencies]
            rivermere-base.workspace = true
            [dev-dependencies]
            rivermere-sim.workspace = true
            rivermere-stream.workspace = true
            [target.'cfg(unix)'.dependencies]
            other = { package = 'rivermere-table', path = '../table' }";
        assert_eq!(findings("log", manifest), ["log may not know stream", "log may not know table"]);
    }

    #[test]
    fn a_room_nobody_placed_is_found() {
        let found = findings("attic", "package.name = 'rivermere-attic'");
        assert!(found[0].contains("no place in the row"), "{found:?}");
    }

    #[test]
    fn a_package_not_named_after_its_folder_is_found() {
        let found = findings("log", "package.name = 'rivermere-logs'");
        assert!(found[0].contains("named `rivermere-logs`"), "{found:?}");
    }
}
