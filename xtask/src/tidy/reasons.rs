//! Every outside crate is named once, in the root manifest, with its reason: a comment at the end of its line or on the
//! line above. One place, so that no build turns a feature of a shared crate on or off and compiles it again.

use std::path::Path;

use toml::{Table, Value};

use crate::checkout;

pub fn check() -> Result<Vec<String>, String> {
    let root = checkout::root();
    let mut findings = without_reason(&checkout::read(&root.join("Cargo.toml"))?);
    for manifest in checkout::files_below(&root, "Cargo.toml")? {
        if manifest.parent() != Some(&root) {
            findings.extend(named_elsewhere(&manifest, &checkout::read(&manifest)?)?);
        }
    }
    Ok(findings)
}

/// The entries of `[workspace.dependencies]` that nothing is said about. Our own rooms need no reason.
fn without_reason(manifest: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let (mut inside, mut above) = (false, "");
    for (index, line) in manifest.lines().enumerate() {
        let text = line.trim();
        if text.starts_with('[') {
            inside = text == "[workspace.dependencies]";
        } else if inside && !text.is_empty() && !text.starts_with('#') {
            let name = text.split(['=', '.', ' ']).next().unwrap_or(text);
            let ours = text.contains("path = ");
            let said = above.starts_with('#') || comment(text).is_some_and(|comment| !comment.is_empty());
            if !ours && !said {
                findings
                    .push(format!("Cargo.toml:{}: `{name}` has no reason: say why on its line or above it", index + 1));
            }
        }
        above = text;
    }
    findings
}

/// The comment at the end of a line of TOML.
fn comment(line: &str) -> Option<&str> {
    let mut quote = None;
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), close) if open == close => quote = None,
            (None, '#') => return Some(line[at + 1..].trim()),
            _ => {}
        }
    }
    None
}

/// Dependencies of a member that do not come from the root manifest.
fn named_elsewhere(file: &Path, manifest: &str) -> Result<Vec<String>, String> {
    let place = checkout::shown(file);
    let manifest: Table = manifest.parse().map_err(|error| format!("{place}: {error}"))?;
    let mut findings = Vec::new();
    for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
        for (name, value) in manifest.get(kind).and_then(Value::as_table).into_iter().flatten() {
            if value.get("workspace").and_then(Value::as_bool) != Some(true) {
                findings.push(format!("{place}: `{name}` is not taken from the root manifest: name it there"));
            } else if value.get("features").is_some() {
                findings
                    .push(format!("{place}: `{name}` turns on features of its own: list them in the root manifest"));
            }
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_stands_at_the_end_or_above() {
        let manifest = "[workspace.dependencies]
ours = { path = \"crates/ours\" }

# Why this one.
above = \"1\"
behind = { version = \"1\", features = [\"a#b\"] } # why
none = { version = \"1\", features = [\"a#b\"] }
empty = \"1\" #

[profile.dev]
opt-level = 1
";
        let findings = without_reason(manifest);
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(findings[0].starts_with("Cargo.toml:7: `none`"), "{findings:?}");
        assert!(findings[1].starts_with("Cargo.toml:8: `empty`"), "{findings:?}");
    }

    #[test]
    fn a_member_takes_every_crate_from_the_root() {
        let manifest = "[dependencies]
good.workspace = true
version = \"1\"
[dev-dependencies]
features = { workspace = true, features = [\"more\"] }
";
        let findings = named_elsewhere(Path::new("x/Cargo.toml"), manifest).unwrap();
        assert_eq!(findings.len(), 2, "{findings:?}");
    }
}
