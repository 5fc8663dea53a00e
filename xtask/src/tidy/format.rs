//! Formatting, as `rustfmt.toml` says.

use crate::checkout;

pub fn check() -> Result<Vec<String>, String> {
    let output = checkout::cargo()
        .args(["fmt", "--all", "--check", "--", "--files-with-diff"])
        .output()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    if output.status.success() {
        return Ok(Vec::new());
    }
    let root = checkout::root();
    let files = String::from_utf8_lossy(&output.stdout);
    let mut findings: Vec<String> =
        files.lines().map(|file| format!("{}: run `cargo fmt`", checkout::shown(&root.join(file)))).collect();
    findings.sort();
    findings.dedup();
    if findings.is_empty() {
        // rustfmt could not even read the code.
        findings.extend(String::from_utf8_lossy(&output.stderr).lines().take(10).map(str::to_owned));
    }
    Ok(findings)
}
